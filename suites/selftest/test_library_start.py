# SPDX-License-Identifier: GPL-2.0-only
"""Starting library hosts: what they say they are, what they can have, and every way not to start."""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from fixtures.builds.runtime import Runtime
from fixtures.hosts import Ability, HarnessError, Settings, Unsupported, UsageError
from fixtures.library import LibraryLauncher

DEVICES = (
    *("keyboard", "mouse", "tablet", "playback", "record", "display"),
    *("agent", "usbredir", "smartcard", "webdav", "port:org.example.0"),
)


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


def python(library: Path) -> Runtime:
    return Runtime((sys.executable,), {}, str(library))


def compiled(tmp_path: Path, source: str, *options: str) -> Path:
    """A shared library from C source."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    path = tmp_path / "libspice-server.so.1"
    command = ["cc", "-shared", "-fPIC", "-xc", "-", "-xnone", "-o", str(path), *options]
    subprocess.run(command, input=source.encode(), check=True)
    return path


def refusal(runtime: Runtime, deadline: float = 10.0) -> str:
    """The one line that says why a host does not start."""
    with LibraryLauncher(runtime, deadline=deadline) as launcher, pytest.raises(HarnessError) as error:
        launcher.start("source")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_identity_is_of_the_mapped_file(launcher: LibraryLauncher) -> None:
    host = launcher.start("source")
    identity = host.identity
    assert identity.path
    assert identity.path in Path(f"/proc/{host.pid}/maps").read_text()
    hashed = subprocess.run(["sha256sum", identity.path], capture_output=True, text=True, check=True)
    assert identity.sha256 == hashed.stdout.split()[0]
    assert identity.build_id
    assert len(identity.build_id) == 40
    assert host.stop().status == 0


def test_another_path_is_another_identity(launcher: LibraryLauncher, tmp_path: Path) -> None:
    assert launcher.identity.path
    copy = shutil.copy(launcher.identity.path, tmp_path / "server.so")
    with LibraryLauncher(replace(launcher.runtime, library=str(copy)), version="9.8.7") as other:
        host = other.start("source")
        assert (host.identity.path, host.identity.version) == (str(copy), launcher.identity.version)
        assert host.identity.sha256 == launcher.identity.sha256


def test_start_call_stop(launcher: LibraryLauncher) -> None:
    host = launcher.start("source", Settings(seamless=True, name="vm", uuid=bytes(range(16))))
    assert host.port
    assert host.tls_port is None
    assert Ability.VIRTUAL_CLOCK in host.abilities
    assert host.call("num_clients") == 0
    assert [e.name for e in host.read_events()] == ["call:num_clients", "return:num_clients"]
    assert host.stats()["threads"] == 1
    assert host.life().alive
    assert host.stop() == host.stop()
    assert host.fileno() == -1
    assert [e.name for e in host.read_events()] == ["exited"]


def test_events_make_the_descriptor_readable(launcher: LibraryLauncher) -> None:
    host = launcher.start("source")
    host.call("vm_stop")  # its events came with its reply
    poll = select.poll()
    poll.register(host)
    assert poll.poll(0)
    assert host.read_events()
    assert not poll.poll(0)
    host.stop()


def test_every_device(launcher: LibraryLauncher) -> None:
    host = launcher.start("source", Settings(devices=DEVICES))
    host.call("kbd_leds", leds=2)
    for function in ("playback_start", "playback_put", "playback_stop", "record_start", "record_stop"):
        host.call(function)
    assert host.call("agent_send", hex="00" * 8) >= 0
    assert host.call("agent_detach") == 0
    host.call("agent_attach")
    host.call("qxl_draw")
    host.call("qxl_cursor", kind="set")
    assert host.stats()["threads"] > 1
    assert host.stop().status == 0


def test_tls(launcher: LibraryLauncher, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    both = launcher.start("source", Settings(tls=files))
    only = launcher.start("target", Settings(tls=files, tls_only=True, secure_channels=("main",)))
    assert both.port
    assert only.port is None
    context = ssl.create_default_context(cafile=files["ca"])
    for host in (both, only):
        assert host.tls_port
        with (
            socket.create_connection((host.address, host.tls_port), timeout=5) as sock,
            context.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
        ):
            assert tls.version()
        host.stop()


def test_environment_is_of_one_host_only(launcher: LibraryLauncher) -> None:
    one = launcher.start("source", Settings(environment={"SPICE_DEBUG_ALLOW_MC": "1"}))
    other = launcher.start("target")
    assert any("spice: allowing multiple client" in str(e.args.get("text")) for e in one.read_events())
    assert not any("spice: allowing multiple client" in str(e.args.get("text")) for e in other.read_events())
    one.stop()
    other.stop()


def test_secrets_stay_out_of_events(launcher: LibraryLauncher) -> None:
    host = launcher.start("source", Settings(ticket="secret-1"))
    host.call("set_ticket", password="secret-2", lifetime=3)
    assert "secret" not in repr(host.read_events())
    host.stop()


@pytest.mark.parametrize(
    ("function", "args", "error", "text"),
    [
        ("no_such", {}, UsageError, "no such call"),
        ("migrate_end", {}, UsageError, "completed is missing"),
        ("migrate_end", {"completed": 1, "extra": 2}, UsageError, "no such argument: extra"),
        ("migrate_info", {"host": "h"}, UsageError, "migration interface"),
        ("agent_send", {"hex": "00"}, Unsupported, "no agent is attached"),
        ("agent_send", {"hex": "xyz"}, Unsupported, "no agent is attached"),
        ("qxl_draw", {"colour": 1}, UsageError, "colour"),
    ],
)
def test_wrong_calls(
    launcher: LibraryLauncher, function: str, args: dict[str, object], error: type[Exception], text: str
) -> None:
    host = launcher.start("source")
    with pytest.raises(error, match=text):
        host.call(function, **args)
    assert host.life().alive
    host.stop()


def test_misuse_is_not_the_servers_fault(launcher: LibraryLauncher) -> None:
    host = launcher.start("source", Settings(migration=False))
    with pytest.raises(UsageError, match="no migration interface"):
        host.call("migrate_connect", host="127.0.0.1", port=1)
    assert host.stop().status == 0


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        (Settings(devices=("kettle",)), UsageError, "no such device: kettle"),
        (Settings(plant=("gremlin",)), UsageError, "no such planted fault: gremlin"),
        (Settings(uuid=b"short"), UsageError, "5 bytes: 16 are needed"),
        (Settings(secure_channels=("kettle",)), UsageError, "no channel is called kettle"),
        (
            Settings(tls={"ca": "/none", "cert": "/none", "key": "/none"}),
            HarnessError,
            "does not start|failed",
        ),
    ],
)
def test_wrong_settings(
    launcher: LibraryLauncher, settings: Settings, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        launcher.start("source", settings)
    assert "\n" not in str(caught.value)


def test_port_in_use(launcher: LibraryLauncher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HarnessError, match=rf"spice_server_init failed.*127\.0\.0\.1:{port}"):
            launcher.start("source", port=port)


def test_no_file(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refusal(python(tmp_path / "gone.so"))


def test_no_library(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not a library")
    assert "is no shared library" in refusal(python(tmp_path / "text.so"))


def test_another_library(tmp_path: Path) -> None:
    assert "is another library (no spice_server_new)" in refusal(python(compiled(tmp_path, "int x;")))


def test_lacks_a_symbol(tmp_path: Path) -> None:
    path = compiled(tmp_path, "void *spice_server_new(void) { return 0; }")
    assert "lacks spice_server_init, " in refusal(python(path))


def test_dies_while_it_is_loaded(tmp_path: Path) -> None:
    source = """
    #include <stdio.h>
    #include <stdlib.h>
    __attribute__((constructor)) static void start(void) { fputs("no luck today\\n", stderr); abort(); }
    """
    said = refusal(python(compiled(tmp_path, source)))
    assert "died while it loaded" in said
    assert "SIGABRT" in said
    assert "no luck today" in said


def test_hangs_while_it_is_loaded(tmp_path: Path) -> None:
    source = "#include <unistd.h>\n__attribute__((constructor)) static void start(void) { pause(); }"
    assert "was not loaded in 0.5 s" in refusal(python(compiled(tmp_path, source)), deadline=0.5)


def test_missing_dependency(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    dependency = compiled(tmp_path / "sub", "int y;", "-Wl,-soname,libdepend.so.7")
    path = compiled(tmp_path, "extern int y; int *x = &y;", str(dependency))
    dependency.unlink()
    said = refusal(python(path))
    assert "libdepend.so.7" in said
    assert "install what it depends on" in said


def test_another_file_in_its_place(launcher: LibraryLauncher, tmp_path: Path) -> None:
    assert launcher.identity.path
    copy = shutil.copy(launcher.identity.path, tmp_path / "libspice-server.so.1")
    preload = launcher.runtime.environment | {"LD_PRELOAD": launcher.identity.path}
    said = refusal(replace(launcher.runtime, library=str(copy), environment=preload))
    assert f"{copy} was asked for but " in said
    assert f"{launcher.identity.path} is in the process" in said


def test_no_interpreter(launcher: LibraryLauncher) -> None:
    assert "cannot run /none/python3" in refusal(replace(launcher.runtime, argv=("/none/python3",)))
    assert "died while it loaded" in refusal(replace(launcher.runtime, argv=("false",)))


def test_runs_as_a_directory(launcher: LibraryLauncher) -> None:
    runtime = launcher.runtime
    directory = Path(__file__).parents[2] / "fixtures" / "library" / "host"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [*runtime.argv, "-I", str(directory), runtime.library]
        process = subprocess.Popen(command, stdin=theirs.fileno(), env=os.environ | runtime.environment)
    with ours:
        ours.settimeout(10)
        assert b'"path"' in ours.recv(4096)
    assert process.wait(10) == 0


def test_memory_of_the_driver_is_given_back(launcher: LibraryLauncher) -> None:
    launcher.start("warm").stop()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        launcher.start("source").stop()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
