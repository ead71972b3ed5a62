# SPDX-License-Identifier: GPL-2.0-only
"""The file that describes a deployment: what it may say, and what each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

import fixtures.remote
from fixtures.hosts import UsageError
from fixtures.remote import Command, Deployment, Server, load

SERVERS = 'source = { host = "a", port = 1 }\ntarget = { host = "b", port = 2, tls_port = 3 }\n'
START = 'commands.start.run = ["true"]\n'


def read(directory: Path, text: str) -> Deployment:
    path = directory / "vendor.toml"
    path.write_text(text)
    return load(path)


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    deployment = read(tmp_path, SERVERS + START)
    assert deployment.source == Server("a", 1)
    assert deployment.target == deployment.told == Server("b", 2, 3)
    assert deployment.commands == {"start": Command(("true",), 60.0)}
    assert deployment.ticket is None
    assert deployment.directory == tmp_path


def test_everything_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_TICKET", "hush")
    (tmp_path / "ca.pem").write_text("PEM")
    deployment = read(
        tmp_path,
        SERVERS
        + """
        told = { host = "c", tls_port = 4 }
        access = { ticket_env = "VENDOR_TICKET", ca = "ca.pem", subject = "CN=b" }
        offers = { seamless = true, devices = ["agent"] }
        [commands]
        start = { run = "virsh migrate | cat", timeout_s = 5 }
        finish = { run = ["a", "b c"], timeout_s = 0.5 }
        cancel = { run = ["c"] }
        reset = { run = ["d"] }
        """,
    )
    assert deployment.told == Server("c", 2, 4)
    assert deployment.ticket == "hush"
    assert "hush" not in repr(deployment)
    assert deployment.ca == tmp_path / "ca.pem"
    assert deployment.subject == "CN=b"
    assert (deployment.seamless, deployment.devices) == (True, ("agent",))
    assert deployment.commands["start"] == Command(("sh", "-c", "virsh migrate | cat"), 5.0)
    assert deployment.commands["finish"] == Command(("a", "b c"), 0.5)
    assert list(deployment.commands) == ["start", "finish", "cancel", "reset"]


def test_a_ticket_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ticket").write_text("hush\n")
    assert read(tmp_path, SERVERS + START + 'access.ticket_file = "ticket"').ticket == "hush"


def test_the_example_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICE_TICKET", "x")
    example = load(Path(fixtures.remote.__file__).with_name("example.toml"))
    assert set(example.commands) == {"start", "cancel", "reset"}
    assert example.told.host != example.target.host


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "source: is missing"),
        ("[source", "not TOML: .*"),
        ("source = 1", "source: a table is needed, not 1"),
        ("[source]\nport = 1", "source.host: is missing"),
        ('source = { host = "", port = 1 }', "source.host: is empty"),
        ('source = { host = "a" }', "source.port: a port or a tls_port is needed"),
        ('source = { host = "a", port = "1" }', "source.port: a whole number is needed, not '1'"),
        ('source = { host = "a", port = true }', "source.port: a whole number is needed, not True"),
        (
            'source = { host = "a", port = 65536 }',
            "source.port: a port from 1 to 65535 is needed, not 65536",
        ),
        (
            'source = { host = "a", port = 1, prot = 2 }',
            "source.prot: no such key; there are host, port, tls_port",
        ),
        (SERVERS, "commands: is missing"),
        (SERVERS + 'commands.cancel.run = ["x"]', "commands.start: is missing"),
        (SERVERS + "commands.start.run = []", "commands.start.run: a list of words or a line .*"),
        (SERVERS + 'commands.start.run = ""', "commands.start.run: is empty"),
        (SERVERS + "commands.start.run = [1]", r"commands.start.run: a list of texts is needed, not \[1\]"),
        (
            SERVERS + START + "commands.start.timeout_s = 0",
            "commands.start.timeout_s: more than 0 seconds .*",
        ),
        (SERVERS + START + 'commands.finsih.run = "x"', "commands.finsih: no such key; there are start, .*"),
        (SERVERS + START + "secrets = 1", "secrets: no such key; there are source, target, told, .*"),
        (SERVERS + START + 'access = { ticket = "a", ticket_env = "B" }', "access.ticket: only one of .*"),
        (
            SERVERS + START + 'access.ticket_env = "NO_SUCH"',
            "access.ticket_env: the environment has no NO_SUCH",
        ),
        (SERVERS + START + 'access.ca = "no.pem"', r"access.ca: no file that can be read at /.*/no\.pem"),
        (SERVERS + START + "offers.seamless = 1", "offers.seamless: true or false is needed, not 1"),
        (
            'source = { host = "a", tls_port = 1 }\ntarget = { host = "b", port = 2 }\n' + START,
            "access.ca: is missing, and a server has a tls_port alone",
        ),
    ],
)
def test_a_mistake_is_named_by_its_key(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=rf"^{tmp_path}/vendor\.toml: {wrong}$"):
        read(tmp_path, text)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot read the deployment .*: No such file or directory$"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"binary\.toml: not TOML: "):
        load(tmp_path / "binary.toml")
