# SPDX-License-Identifier: GPL-2.0-only
"""The relay where there is TLS: it ends it on both sides with the session's authority, or lets it pass."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dissectors.constants import CommonCap, Side
from dissectors.events import Ending, Endpoint, LinkBytes, Opened
from dissectors.link import SpiceLinkMess, SpiceLinkReply
from fixtures.certificates import Authority, ServerCertificate
from fixtures.relay import Match, Relay, Rule, Set

_PATIENCE = 5.0
_CAPS = [1 << CommonCap.SPICE_COMMON_CAP_AUTH_SPICE]
_MESS = bytes(SpiceLinkMess(connection_id=0, common_caps=_CAPS))


@dataclass
class Heard:
    """A wire that remembers."""

    sent: dict[Side, bytes] = field(default_factory=lambda: dict.fromkeys(Side, b""))
    ended: list[tuple[Ending, Side]] = field(default_factory=list)

    def opened(self, connection: int, client: Endpoint, server: Endpoint, time: float) -> None:
        """One connection only."""

    def data(self, connection: int, sender: Side, data: bytes, time: float) -> None:
        self.sent[sender] += data

    def closed(self, connection: int, how: Ending, time: float, *, by: Side) -> None:
        self.ended.append((how, by))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return Authority(tmp_path_factory.mktemp("authority")).server()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(_PATIENCE)
        yield sock


def _server_side(sock: socket.socket, certificate: ServerCertificate) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context.wrap_socket(sock, server_side=True)


def test_both_sides_speak_tls_and_the_relay_reads_and_alters(
    certificate: ServerCertificate, listener: socket.socket, tmp_path: Path
) -> None:
    wire, keys = Heard(), tmp_path / "keys"
    trust = ssl.create_default_context(cafile=str(certificate.ca))
    with Relay([Rule(Match("mess"), Set(connection_id=7))], wire=wire, key_log=keys) as relay:
        front = relay.front("source", tls_upstream=Endpoint(*listener.getsockname()), certificate=certificate)
        near = socket.create_connection((front.address, front.tls_port or 0), _PATIENCE)
        with (
            trust.wrap_socket(near, server_hostname="127.0.0.1") as client,
            _server_side(listener.accept()[0], certificate) as server,
        ):
            client.sendall(_MESS)
            assert server.recv(4096) == bytes(SpiceLinkMess(connection_id=7, common_caps=_CAPS))
            server.sendall(reply := bytes(SpiceLinkReply(common_caps=_CAPS)))
            assert client.recv(4096) == reply
            server.close()  # without close_notify, as SPICE servers do
            assert client.recv(1) == b""
        relay.stop()
        opened, *events = relay.read_events()
    assert isinstance(opened, Opened)
    assert opened.tls
    assert [e.raw for e in events if isinstance(e, LinkBytes)] == [_MESS, reply]
    assert keys.read_text().count("CLIENT_TRAFFIC_SECRET_0") == 1
    assert all(_MESS not in data and data for data in wire.sent.values())
    assert wire.ended[0] == (Ending.CLOSED, Side.SERVER)


def test_a_client_that_does_not_trust_the_certificate_ends_the_connection(
    certificate: ServerCertificate, listener: socket.socket
) -> None:
    with Relay() as relay:
        front = relay.front("source", tls_upstream=Endpoint(*listener.getsockname()), certificate=certificate)
        near = socket.create_connection((front.address, front.tls_port or 0), _PATIENCE)
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(near, server_hostname="127.0.0.1")
        near.close()
        server = listener.accept()[0]
        server.settimeout(_PATIENCE)
        with server:
            while server.recv(4096):
                pass


def test_without_a_certificate_tls_passes_through_unread(listener: socket.socket) -> None:
    wire = Heard()
    with Relay([Rule(Match("mess"), Set(connection_id=7))], wire=wire) as relay:
        front = relay.front("source", tls_upstream=Endpoint(*listener.getsockname()))
        with socket.create_connection((front.address, front.tls_port or 0), _PATIENCE) as client:
            client.sendall(_MESS)
            with listener.accept()[0] as server:
                assert server.recv(4096) == _MESS
        relay.stop()
        assert [type(event) for event in relay.read_events()][:1] == [Opened]
    assert wire.sent[Side.CLIENT] == _MESS
