# SPDX-License-Identifier: GPL-2.0-only
"""What TLS reveals without decryption: the requested name, the certificate, who ended it with which alert."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from dissectors.capture import CaptureError
from dissectors.capture.reader import EventReader
from dissectors.capture.tls_alerts import ALERTS, alert_event
from dissectors.framing.events import (
    ConnectFailed,
    Endpoint,
    Event,
    Opened,
    TlsAlert,
    TlsCertificate,
    TlsHello,
    WrongProtocol,
)
from dissectors.wire.constants import Side
from suites.selftest.dissectors.capture.capture_mutations import (
    LINK,
    Story,
    Turn,
    packets,
    record,
    save,
    story,
)

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def server() -> trustme.LeafCert:
    """A certificate with a subject as SPICE servers have it, and two names."""
    ca = trustme.CA(organization_name="Wrong, but real")
    return ca.issue_cert(
        "host1.example.com", "192.0.2.2", common_name="host1", organization_name="Example, Inc."
    )


def failed_handshake(
    server: trustme.LeafCert, version: ssl.TLSVersion, keys: Path | None = None
) -> list[Turn]:
    """A client that does not know the server's authority; what both ends send."""
    client_context, server_context = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    )
    server.configure_cert(server_context)
    for context in (client_context, server_context):
        context.minimum_version = context.maximum_version = version
    if keys:
        client_context.keylog_filename = str(keys)
    pipes = {side: ssl.MemoryBIO() for side in Side}
    ends = {
        Side.CLIENT: client_context.wrap_bio(
            pipes[Side.CLIENT], pipes[Side.SERVER], server_hostname="host1.example.com"
        ),
        Side.SERVER: server_context.wrap_bio(pipes[Side.SERVER], pipes[Side.CLIENT], server_side=True),
    }
    wire: list[Turn] = []
    reads = {Side.CLIENT: pipes[Side.CLIENT], Side.SERVER: pipes[Side.SERVER]}
    for _ in range(4):
        for side, other in ((Side.CLIENT, Side.SERVER), (Side.SERVER, Side.CLIENT)):
            with suppress(ssl.SSLError):
                ends[side].do_handshake()
            if data := reads[other].read():
                wire.append((side, data))
                reads[other].write(data)
    return wire


def facts(told: Story, kind: type) -> Sequence[object]:
    return [item for item in told.items if isinstance(item, kind)]


def read(path: Path, turns: Sequence[Turn], keys: Path | None = None) -> Story:
    return story(save(path, packets(record(path.with_suffix(".own"), turns))), keylog=keys)


def check_certificate(told: Story) -> None:
    (certificate,) = facts(told, TlsCertificate)
    assert isinstance(certificate, TlsCertificate)
    subject = certificate.subject.split(",OU=")[0]
    assert subject == "O=Example\\, Inc."
    assert certificate.subject.endswith("CN=host1")
    assert certificate.issuer.startswith("O=Wrong\\, but real,OU=")
    assert certificate.names == ("host1.example.com", "192.0.2.2")
    assert certificate.not_before < 1_700_000_000 < certificate.not_after


def test_tls_1_2_is_in_clear(tmp_path: Path, server: trustme.LeafCert) -> None:
    result = read(tmp_path / "a", failed_handshake(server, V12))
    (hello,) = facts(result, TlsHello)
    assert isinstance(hello, TlsHello)
    assert hello.server_name == "host1.example.com"
    check_certificate(result)
    (alert,) = facts(result, TlsAlert)
    assert isinstance(alert, TlsAlert)
    assert (alert.sender, alert.name, alert.number) == (Side.CLIENT, "unknown_ca", 48)
    assert (alert.fatal, alert.finished) == (True, False)
    assert [begin.readable for begin in result.begins] == [False]
    assert len(result.ends) == 1


def test_tls_1_3_with_secrets(tmp_path: Path, server: trustme.LeafCert) -> None:
    keys = tmp_path / "keys"
    result = read(tmp_path / "a", failed_handshake(server, V13, keys), keys)
    check_certificate(result)
    (alert,) = facts(result, TlsAlert)
    assert isinstance(alert, TlsAlert)
    assert (alert.sender, alert.name, alert.finished) == (Side.CLIENT, "unknown_ca", False)


def test_tls_1_3_without_secrets(tmp_path: Path, server: trustme.LeafCert) -> None:
    """An encrypted alert: its content is unreadable, but that it is an alert is shown."""
    result = read(tmp_path / "a", failed_handshake(server, V13))
    (alert,) = facts(result, TlsAlert)
    assert isinstance(alert, TlsAlert)
    assert (alert.sender, alert.name, alert.number, alert.finished) == (Side.CLIENT, None, None, False)
    assert not facts(result, TlsCertificate)


@pytest.mark.parametrize("answer", [LINK, b"RFB 003.008\n", b"HTTP/1.1 400 Bad\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_a_tls_client_at_another_server(tmp_path: Path, server: trustme.LeafCert, answer: bytes) -> None:
    hello = failed_handshake(server, V13)[0]
    result = read(tmp_path / "a", [hello, (Side.SERVER, answer)])
    (wrong,) = facts(result, WrongProtocol)
    assert isinstance(wrong, WrongProtocol)
    names = {b"REDQ": "SPICE", b"RFB ": "VNC", b"HTTP": "HTTP", b"SSH-": "SSH"}
    assert (wrong.client_speaks, wrong.server_speaks) == ("TLS", names[answer[:4]])
    assert (len(result.begins), len(result.ends), dict(result.streams)) == (1, 1, {})


def test_an_old_server_refuses_the_version(tmp_path: Path, server: trustme.LeafCert) -> None:
    hello = failed_handshake(server, V13)[0]
    result = read(tmp_path / "a", [hello, (Side.SERVER, b"\x15\3\1\0\2\2\x46")])
    (alert,) = facts(result, TlsAlert)
    assert isinstance(alert, TlsAlert)
    assert (alert.sender, alert.name) == (Side.SERVER, "protocol_version")


def test_close_notify_is_no_alert() -> None:
    for body, result in (
        (b"\1\0", None),
        (b"\2\0", None),
        (b"\2\x2a", "bad_certificate"),
        (b"\2", None),
        (b"\2\xfa", "alert 250"),
    ):
        event = alert_event(body, connection=1, sender=Side.CLIENT, time=0, frame=1, finished=False)
        assert (event and event.name) == result
    assert ALERTS[48] == "unknown_ca"


def hostile(body: bytes) -> bytes:
    """A handshake record of one message."""
    return b"\x16\3\1" + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize("size", [0, 1, 33, 34, 40, 70])
def test_damaged_hellos(tmp_path: Path, size: int) -> None:
    body = b"\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0\0\x20" + b"\0\0\0\5\0\3\0\0\x09" + bytes(30)
    cut = body[:size]
    result = read(
        tmp_path / "a",
        [
            (Side.CLIENT, hostile(b"\1" + len(cut).to_bytes(3) + cut)),
            (Side.SERVER, hostile(b"\x0b\0\0\4\0\0\0\xff")),
        ],
    )
    assert result.error is None


def ends(path: Path, number: int, turns: Sequence[Turn], server: str = "192.0.2.2") -> Path:
    """A capture of one connection among many."""
    return record(path, turns, ends=(Endpoint("192.0.2.1", 40_000 + number), Endpoint(server, 443)))


def all_events(path: Path) -> tuple[list[Event], list[str]]:
    reader = EventReader([path])
    try:
        return list(reader), reader.notes
    except CaptureError as error:  # pragma: no cover
        raise AssertionError(error) from error


def test_many_sealed_connections_are_one_line(tmp_path: Path, server: trustme.LeafCert) -> None:
    """A host's web traffic is only counted; a connection that ends in an alert, or goes to a SPICE host, is
    reported."""
    client_random = b"\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0\0\0"
    hello = hostile(b"\1" + len(client_random).to_bytes(3) + client_random)
    reply = b"\3\3" + bytes(range(32)) + b"\0\x13\1\0\0\x06\0\x2b\0\2\3\4"
    web: list[Turn] = [
        (Side.CLIENT, hello),
        (Side.SERVER, hostile(b"\2" + len(reply).to_bytes(3) + reply)),
        *((side, b"\x17\3\3\1\0" + bytes(256)) for side in (Side.SERVER, Side.CLIENT, Side.SERVER)),
    ]
    every = []
    for number in range(120):
        every += packets(ends(tmp_path / "x", number, web, server="198.51.100.7"))
    every += packets(ends(tmp_path / "x", 200, failed_handshake(server, V12), server="198.51.100.8"))
    every += packets(ends(tmp_path / "x", 201, [(Side.CLIENT, LINK), (Side.SERVER, LINK)]))
    every += packets(ends(tmp_path / "x", 202, web))
    result, notes = all_events(save(tmp_path / "b", every))
    opened = [event for event in result if isinstance(event, Opened)]
    assert sorted(event.client.port - 40_000 for event in opened) == [200, 201, 202]
    assert [event.name for event in result if isinstance(event, TlsAlert)] == ["unknown_ca"]
    assert not [event for event in result if isinstance(event, ConnectFailed)]
    (note,) = [note for note in notes if "TLS connections" in note]
    assert note.startswith("121 TLS connections not decrypted: no key log was given")
