# SPDX-License-Identifier: GPL-2.0-only
"""Bytes before SPICE on a connection: proxies, headers, web pages; and another protocol on a port."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from dissectors.capture.proxy_targets import shown_authority
from dissectors.framing.events import (
    AttemptFailure,
    ConnectFailed,
    ConnectionEvent,
    Ending,
    Endpoint,
    ProxyHeader,
    ProxyTunnel,
    TlsAlert,
    WrongProtocol,
)
from dissectors.wire.constants import Side
from suites.selftest.dissectors.capture.capture_mutations import (
    CLIENT,
    LINK,
    Story,
    Turn,
    dialogue,
    packets,
    record,
    said,
    save,
    shuffled,
    story,
)
from suites.selftest.dissectors.capture.test_capture_tls import framed

C, S = Side.CLIENT, Side.SERVER
TURNS = dialogue(6, turns=6, longest=3000)
TICKET = "pvespiceproxy:5f5e1000:100:node1::0123456789abcdef0123456789abcdef01234567:61000"
ENCODED = "eyJob3N0IjoiMTAuMC4wLjEiLCJ0aWNrZXQiOiJhYmMxMjMifQ=="
OK = b"HTTP/1.0 200 Connection established\r\n\r\n"


def read(path: Path, turns: Iterable[Turn], *, segment: int = 1448, how: Ending = Ending.CLOSED) -> Story:
    """The capture as another tool would have written it."""
    return story(save(path, packets(record(path.with_suffix(".own"), turns, segment=segment, how=how))))


def events(told: Story) -> Sequence[ConnectionEvent]:
    return [item for item in told.items if isinstance(item, ConnectionEvent)]


def connect(target: str, *more: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"CONNECT {target} HTTP/{version}", *more, "", ""]).encode()


@pytest.mark.parametrize("segment", [7, 1448])
@pytest.mark.parametrize(
    ("request_", "answer", "shown"),
    [
        (connect(TICKET, version="1.0"), OK, "pvespiceproxy:5f5e1000:100:node1::***:61000"),
        (connect("host.example.com:5900", "Host: x"), b"HTTP/1.1 200 OK\r\n\r\n", "host.example.com:5900"),
        (connect("[2001:db8::5]:5900"), b"HTTP/1.1 200\r\nVia: x\r\n\r\n", "[2001:db8::5]:5900"),
        (connect("10.1.0.11:5901"), b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "10.1.0.11:5901"),
        (connect(f"{ENCODED}:5900"), OK, "***:5900"),
        (connect("h:1", "Content-Length: 4") + b"body", OK, "h:1"),
    ],
)
def test_http_connect(tmp_path: Path, segment: int, request_: bytes, answer: bytes, shown: str) -> None:
    result = read(tmp_path / "a", [(C, request_), (S, answer), *TURNS], segment=segment)
    assert result.says() == said(TURNS)
    (tunnel,) = events(result)
    assert isinstance(tunnel, ProxyTunnel)
    assert (tunnel.protocol, tunnel.target, tunnel.refused) == ("HTTP CONNECT", shown, False)
    assert result.begins[0].via == shown
    assert (tunnel.answer or "").startswith("200")


def test_connect_refused(tmp_path: Path) -> None:
    refusal = b"HTTP/1.0 401 authentication failed\r\nContent-Length: 5\r\n\r\nsorry"
    result = read(tmp_path / "a", [(C, connect(TICKET)), (S, refusal)])
    (tunnel,) = events(result)
    assert isinstance(tunnel, ProxyTunnel)
    assert (tunnel.answer, tunnel.refused, tunnel.frame) == ("401 authentication failed", True, 5)
    assert (len(result.begins), len(result.ends), dict(result.streams)) == (1, 1, {})


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\n<p>no</p>",
        b"HTTP/1.1 407 No\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n<no>\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_connect_again_with_a_password(tmp_path: Path, refusal: bytes) -> None:
    """Proxy authentication on the connection that was refused first; the password is never shown."""
    again = connect("h.example:5900", "Proxy-Authorization: Basic c2VjcmV0OnNlY3JldA==")
    result = read(tmp_path / "a", [(C, connect("h.example:5900")), (S, refusal), (C, again), (S, OK), *TURNS])
    assert result.says() == said(TURNS)
    assert [e.refused for e in events(result) if isinstance(e, ProxyTunnel)] == [True, False]
    assert "c2VjcmV0" not in repr(result.items[:3])


def test_connect_without_an_answer(tmp_path: Path) -> None:
    result = read(tmp_path / "a", [(C, connect("h.example:5900"))])
    (tunnel,) = events(result)
    assert isinstance(tunnel, ProxyTunnel)
    assert (tunnel.answer, tunnel.refused) == (None, False)


@pytest.mark.parametrize(
    ("authority", "shown"),
    [
        (b"vm-123e4567-e89b-12d3-a456-426614174000.internal:1", None),
        (b"console.example.com:443", None),
        (b"xn--bcher-kva.example:443", None),
        (b"0123456789abcdef0123456789abcdef:443", "***:443"),
        (b"a.QmFzZTY0VGlja2V0MDAwMTIzNDU2Nzg5.b:443", "***:443"),
        (b"/ticket?x=secret:443", "***:443"),
        (b"h\x1b[2J:443", "***:443"),
        (b"host", "host:?"),
    ],
)
def test_shown_targets(authority: bytes, shown: str | None) -> None:
    assert shown_authority(authority) == (shown or authority.decode())


def name(text: bytes) -> bytes:
    return bytes([len(text)]) + text


SOCKS = {
    "4": ([(C, b"\4\1\x17\x0c\x0a\1\0\x0buser\0"), (S, b"\0\x5a" + bytes(6))], "SOCKS4", "10.1.0.11:5900"),
    "4a": (
        [(C, b"\4\1\x17\x0c\0\0\0\1\0h.example\0"), (S, b"\0\x5a" + bytes(6))],
        "SOCKS4a",
        "h.example:5900",
    ),
    "5": (
        [
            (C, b"\5\1\0"),
            (S, b"\5\0"),
            (C, b"\5\1\0\3" + name(b"h.example") + b"\x17\x0c"),
            (S, b"\5\0\0\1" + bytes(6)),
        ],
        "SOCKS5",
        "h.example:5900",
    ),
    "5, password, IPv6": (
        [
            (C, b"\5\2\0\2"),
            (S, b"\5\2"),
            (C, b"\1" + name(b"user") + name(b"secret")),
            (S, b"\1\0"),
            (C, b"\5\1\0\4" + ip_address("2001:db8::5").packed + b"\x17\x0c"),
            (S, b"\5\0\0\3" + name(b"out.example") + b"\0\1"),
        ],
        "SOCKS5",
        "[2001:db8::5]:5900",
    ),
}


@pytest.mark.parametrize("kind", SOCKS)
@pytest.mark.parametrize("segment", [1, 1448])
def test_socks(tmp_path: Path, kind: str, segment: int) -> None:
    preface, protocol, target = SOCKS[kind]
    turns = TURNS[:2] if segment == 1 else TURNS
    result = read(tmp_path / "a", [*preface, *turns], segment=segment)
    assert result.says() == said(turns)
    (tunnel,) = events(result)
    assert isinstance(tunnel, ProxyTunnel)
    assert (tunnel.protocol, tunnel.target, tunnel.refused) == (protocol, target, False)
    assert "secret" not in repr(tunnel)


@pytest.mark.parametrize(
    ("turns", "answer"),
    [
        ([(C, b"\4\1\x17\x0c\x0a\1\0\x0b\0"), (S, b"\0\x5b" + bytes(6))], "rejected or failed"),
        ([(C, b"\5\1\0"), (S, b"\5\xff")], "no acceptable authentication method"),
        (
            [(C, b"\5\1\2"), (S, b"\5\2"), (C, b"\1" + name(b"u") + name(b"p")), (S, b"\1\1")],
            "user and password refused",
        ),
        (
            [
                (C, b"\5\1\0"),
                (S, b"\5\0"),
                (C, b"\5\1\0\1\x0a\1\0\x0b\x17\x0c"),
                (S, b"\5\5\0\1" + bytes(6)),
            ],
            "connection refused",
        ),
    ],
)
def test_socks_refuses(tmp_path: Path, turns: list[Turn], answer: str) -> None:
    (tunnel,) = events(read(tmp_path / "a", turns))
    assert isinstance(tunnel, ProxyTunnel)
    assert (tunnel.answer, tunnel.refused) == (answer, True)


def header2(command: int, family: int, body: bytes) -> bytes:
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20 | command, family, len(body)) + body


FOUR = (Endpoint("192.0.2.7", 40_000), Endpoint("10.9.9.9", 5900))
SIX = (Endpoint("2001:db8::7", 40_000), Endpoint("2001:db8::9", 5900))
PORTS = struct.pack("!HH", 40_000, 5900)
HEADERS = {
    "1": (b"PROXY TCP4 192.0.2.7 10.9.9.9 40000 5900\r\n", FOUR),
    "1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::9 40000 5900\r\n", SIX),
    "1, unknown": (b"PROXY UNKNOWN\r\n", (None, None)),
    "1, nonsense": (b"PROXY TCP4 a b c d\r\n", (None, None)),
    "2": (header2(1, 0x11, ip_address("192.0.2.7").packed + ip_address("10.9.9.9").packed + PORTS), FOUR),
    "2, with more": (
        header2(1, 0x21, b"".join(ip_address(e.host).packed for e in SIX) + PORTS + b"\4\0\1x"),
        SIX,
    ),
    "2, local": (header2(0, 0, b""), (None, None)),
}


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("segment", [5, 1448])
@pytest.mark.parametrize("inner", ["plain", "websocket"])
def test_proxy_protocol(tmp_path: Path, kind: str, segment: int, inner: str) -> None:
    header, ends = HEADERS[kind]
    turns = TURNS[:4] if segment == 5 else TURNS
    inside = turns if inner == "plain" else framed(turns)
    result = read(tmp_path / "a", [(C, header), *inside], segment=segment)
    assert result.says() == said(turns)
    (event,) = events(result)
    assert isinstance(event, ProxyHeader)
    assert (event.source, event.destination) == ends
    assert result.begins[0].origin == ends[0]
    assert result.begins[0].client == CLIENT


def test_proxies_behind_each_other(tmp_path: Path) -> None:
    """A load balancer's header, SOCKS, CONNECT, a page, then WebSocket."""
    page = [(C, b"GET / HTTP/1.1\r\n\r\n"), (S, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")]
    turns = [(C, HEADERS["1"][0]), *SOCKS["5"][0], (C, connect("h:1")), (S, OK), *page, *framed(TURNS)]
    result = read(tmp_path / "a", turns)
    assert result.says() == said(TURNS)
    assert [type(event) for event in events(result)] == [ProxyHeader, ProxyTunnel, ProxyTunnel]


def test_nested_proxies_end(tmp_path: Path) -> None:
    turns = [turn for _ in range(500) for turn in ((C, connect("h:1")), (S, OK))]
    assert read(tmp_path / "a", [*turns, *TURNS]).says() == {C: b"", S: b""}


PAGES: dict[str, list[Turn]] = {
    "a size": [
        (C, b"GET /a HTTP/1.1\r\n\r\n"),
        (S, b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + bytes(4000)),
    ],
    "chunks": [
        (C, b"GET /a HTTP/1.1\r\n\r\n"),
        (S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (S, b"fA0\r\n" + bytes(4000) + b"\r\n1\r\nx\r\n0\r\n\r\n"),
    ],
    "HEAD, 304, 204": [
        (C, b"HEAD /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
        (C, b"POST /c HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
        (S, b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"),
        (S, b"HTTP/1.1 304 Same\r\nContent-Length: 70\r\n\r\nHTTP/1.1 204 None\r\n\r\n"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", PAGES)
def test_pages_before_the_upgrade(tmp_path: Path, kind: str) -> None:
    every = packets(record(tmp_path / "a", [*PAGES[kind], *framed(TURNS)], segment=300))
    found = story(save(tmp_path / "b", shuffled(every, 2, 3)))
    assert found.says() == said(TURNS)
    assert [begin.websocket for begin in found.begins] == [True]


def test_text_frames_are_named(tmp_path: Path) -> None:
    wire = framed(TURNS[:2])
    result = read(tmp_path / "a", [*wire[:2], (S, b"\x81\x05hello"), *wire[2:]])
    assert [note.text for note in result.notes] == [
        "WebSocket: the connection has text frames; SPICE uses binary frames"
    ]
    assert result.says() == said(TURNS[:2])


ALERT = b"\x15\3\3\0\2\2\x46"
WRONG: dict[str, tuple[list[Turn], tuple[str | None, str | None]]] = {
    "plain client, TLS port": ([(C, LINK), (S, ALERT)], ("SPICE", "TLS")),
    "plain client, VNC": ([(S, b"RFB 003.008\n"), (C, LINK)], ("SPICE", "VNC")),
    "plain client, HTTP": ([(C, LINK), (S, b"HTTP/1.1 400 Bad Request\r\n\r\n")], ("SPICE", "HTTP")),
    "plain client, SSH": ([(S, b"SSH-2.0-OpenSSH_9\r\n"), (C, LINK)], ("SPICE", "SSH")),
    "plain client, QMP": ([(S, b'{"QMP": {"version"'), (C, LINK)], ("SPICE", "QMP")),
    "browser, SPICE port": ([(C, b"GET / HTTP/1.1\r\n\r\n"), (S, LINK)], ("HTTP", "SPICE")),
    "ssh client, SPICE port": ([(C, b"SSH-2.0-x\r\n"), (S, LINK)], ("SSH", "SPICE")),
}


@pytest.mark.parametrize("kind", WRONG)
def test_the_wrong_protocol(tmp_path: Path, kind: str) -> None:
    turns, speaks = WRONG[kind]
    result = read(tmp_path / "a", turns)
    wrong, *more = events(result)
    assert isinstance(wrong, WrongProtocol)
    assert (wrong.client_speaks, wrong.server_speaks) == speaks
    assert [(a.name, a.sender) for a in more if isinstance(a, TlsAlert)] == (
        [("protocol_version", S)] if "TLS" in kind else []
    )
    assert (len(result.begins), len(result.ends)) == (1, 1)
    assert result.begins[0].client == CLIENT


def test_closed_without_a_byte(tmp_path: Path) -> None:
    for how in (Ending.CLOSED, Ending.RESET):
        result = read(tmp_path / "a", [], how=how)
        (failed,) = events(result)
        assert isinstance(failed, ConnectFailed)
        assert (failed.how, failed.client) == (AttemptFailure.WORDLESS, CLIENT)


def test_lost_first_segments(tmp_path: Path) -> None:
    """The connection is reported, with a gap, whichever end's first segment the capture lacks."""
    reply = LINK[:12] + struct.pack("<I", 178) + bytes(178)
    turns = [(C, LINK), (S, reply), (C, b"next of the client"), (S, b"next of the server")]
    every = packets(record(tmp_path / "a", turns))
    for side in Side:
        first = next(
            i for i, p in enumerate(every) if p.payload[:4] == b"REDQ" and (p.data[15] == 1) is (side is C)
        )
        found = story(save(tmp_path / "b", [*every[:first], *every[first + 1 :]]))
        assert [(b.client, b.midstream) for b in found.begins] == [(CLIENT, False)]
        (gap,) = found.gaps
        assert (gap.sender, gap.size) == (side, len(LINK) if side is C else len(reply))
        assert found.streams[1, side] == turns[2 if side is C else 3][1]


def test_random_beginnings_end_quietly(tmp_path: Path) -> None:
    """Bytes that begin like a protocol and continue like none."""
    heads = [
        b"CONNECT x",
        b"\5\1\0",
        b"\4\1",
        b"PROXY ",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"GET /",
        b"HTTP/1.1 200",
        b"REDQ",
        b"\x16\3\1\0\x20\1",
    ]
    random = Random(7)
    for index in range(120):
        turns = [
            (
                side,
                random.choice([b"", *heads])
                + random.choice([b"", b"\r\n\r\n", random.randbytes(random.randint(0, 300))]),
            )
            for side in random.choices(list(Side), k=random.randint(1, 6))
        ]
        result = read(tmp_path / f"{index}", [turn for turn in turns if turn[1]])
        assert result.error is None
