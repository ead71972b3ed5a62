# SPDX-License-Identifier: GPL-2.0-only
"""The real client: its secrets, its sessions' troubles and its own. (suites/interop has its migrations.)"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import fixtures.gtk.driver as driver
from dissectors.capture.keylog import KeyLog
from fixtures.certificates import Authority, ServerCertificate
from fixtures.gtk import GtkClient, build_keylog, missing
from fixtures.hosts import HarnessError, Host, Settings, Unsupported
from fixtures.library import LibraryLauncher
from fixtures.peer.pump import Deadline


@pytest.fixture(scope="module", autouse=True)
def _real_client() -> None:
    if lack := missing():
        pytest.skip(lack)


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with ExitStack() as stack:
        build = LibraryLauncher()
        stack.callback(build.close)
        yield build


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return Authority(tmp_path_factory.mktemp("authority")).server()


def _start(stack: ExitStack, launcher: LibraryLauncher, label: str, **settings: object) -> Host:
    chosen = {"virtual_clock": False, "incoming": label == "target", **settings}
    host = launcher.start(label, Settings(**chosen))  # type: ignore[arg-type]
    stack.callback(host.stop)
    return host


def test_its_tls_secrets_are_written(
    launcher: LibraryLauncher, certificate: ServerCertificate, tmp_path: Path
) -> None:
    library, secrets = build_keylog(tmp_path), tmp_path / "secrets"
    assert build_keylog(tmp_path) == library
    with ExitStack() as stack:
        host = _start(stack, launcher, "source", tls=certificate.settings())
        keys = (library, secrets)
        client = GtkClient.start(
            host.address, tls_port=host.tls_port, ca_file=certificate.ca, key_log=keys, channels=()
        )
        stack.enter_context(client)
        client.wait_opened(["main"])
    assert KeyLog(secrets)


def test_a_wrong_password(launcher: LibraryLauncher) -> None:
    with ExitStack() as stack:
        host = _start(stack, launcher, "source", ticket="sesame")
        client = stack.enter_context(GtkClient.start(host.address, host.port, password="wrong"))
        client.wait("channel-event", channel="main", kind="error-auth")


def test_a_certificate_of_another_subject(launcher: LibraryLauncher, certificate: ServerCertificate) -> None:
    with ExitStack() as stack:
        host = _start(stack, launcher, "source", tls=certificate.settings())
        client = GtkClient.start(
            host.address, tls_port=host.tls_port, ca_file=certificate.ca, cert_subject="CN=somebody else"
        )
        stack.enter_context(client)
        client.wait("channel-event", channel="main", kind="error-tls")


def test_nobody_listens() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can listen there meanwhile
        taken.bind(("127.0.0.1", 0))
        with GtkClient.start("127.0.0.1", taken.getsockname()[1]) as client:
            client.wait("channel-event", channel="main", kind="error-connect")


def test_a_client_that_dies_is_told() -> None:
    with GtkClient.start("127.0.0.1", 1, connect=False) as client:
        client._child.kill(signal.SIGKILL)
        with pytest.raises(Deadline, match=r"no disconnected: the client ended; last: ready .*died"):
            client.wait("disconnected")
        client.connect()
        assert client.stop().signal == "SIGKILL"


def test_an_event_that_never_comes() -> None:
    with (
        GtkClient.start("127.0.0.1", 1, connect=False) as client,
        pytest.raises(Deadline, match=r"no disconnected: nothing within 0\.05 s"),
    ):
        client.wait("disconnected", 0.05)


def test_a_feature_that_does_not_exist() -> None:
    with pytest.raises(HarnessError, match="no feature enable-telepathy"):
        GtkClient.start("127.0.0.1", 1, features=["enable-telepathy"])


def test_without_spice_gtk_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_PYTHON", sys.executable)
    with pytest.raises(Unsupported, match=r"python3-gi and gir1\.2-spiceclientglib-2\.0"):
        GtkClient.start("127.0.0.1", 1)
    missing.cache_clear()
    assert "python3-gi" in (missing() or "")
    missing.cache_clear()
    monkeypatch.setattr(driver, "_PYTHON", "/nonexistent/python3")
    with pytest.raises(Unsupported, match="python3-gi"):
        GtkClient.start("127.0.0.1", 1)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="C compiler"):
        build_keylog(tmp_path)
