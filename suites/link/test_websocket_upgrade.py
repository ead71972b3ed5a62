# SPDX-License-Identifier: GPL-2.0-only
"""The opening handshake of SPICE over WebSocket (RFC 6455, section 4): requests and their answers. A build
without WebSocket is UNSUPPORTED."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dissectors.framing.events import Endpoint
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, rewritten
from fixtures.peer.websocket_client import accept_of, answer_to, new_key, upgrade
from fixtures.system.hosts import Ability, Host
from suites.link.test_websocket import in_session, started

pytestmark = pytest.mark.needs(Ability.CALLS)


def backwards(request: bytes) -> bytes:
    """The request with its headers in the opposite order."""
    first, *headers = request.removesuffix(b"\r\n\r\n").split(b"\r\n")
    return b"\r\n".join([first, *reversed(headers), b"", b""])


#: The same request in other forms.
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "lower case": lambda b: b.replace(b"Sec-WebSocket-", b"sec-websocket-"),
    "capitals": lambda b: b.replace(b"Sec-WebSocket-", b"SEC-WEBSOCKET-"),
    "no spaces": lambda b: b.replace(b": ", b":"),
    "more spaces": lambda b: b.replace(b": ", b":  ").replace(b"KEY", b"KEY ").replace(b"binary", b"binary "),
    "other order": backwards,
}


def answered(bench: Bench, host: Host, request: bytes, *pieces: bytes) -> bytes:
    """The server's answer to a request, on a connection of the request's own."""
    sock = bench.pump.connect(Endpoint(host.address, host.port or 0), 5)
    bench.belongings.callback(sock.close)
    return answer_to(sock, request, *pieces, between=bench.settle)


def header(answer: bytes, name: str) -> str | None:
    """The value of a header in an answer."""
    for line in answer.decode("latin-1").split("\r\n"):
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return None


@requirement(
    "WEBSOCK-001",
    fault=(
        rewritten("another Accept", lambda b: b.replace(b"Accept: ", b"Accept: A"), nth=1),
        rewritten("200 for 101", lambda b: b.replace(b"101", b"200"), nth=1),
        rewritten("no answer to any request", lambda b: b""),
    ),
)
def test_answer_to_a_request(bench: Bench) -> None:
    """Status 101, Upgrade and Connection, and Sec-WebSocket-Accept for the request's key."""
    key = new_key()
    answer = answered(bench, started(bench), upgrade(key))
    seen = (
        answer[:13],
        (header(answer, "Upgrade") or "").lower(),
        (header(answer, "Connection") or "").lower(),
        header(answer, "Sec-WebSocket-Accept"),
    )
    wanted = (b"HTTP/1.1 101 ", "websocket", "upgrade", accept_of(key))
    bench.claim(seen == wanted, wanted, seen)


@requirement("WEBSOCK-020", fault=rewritten("nothing", lambda b: b"", nth=1))
def test_form_of_a_request(bench: Bench) -> None:
    """The names of the request's headers are in another case, or spaces stand around their values, or the
    headers come in another order."""
    source = started(bench)
    for name, form in FORMS.items():
        key = new_key()
        request = form(upgrade(key).replace(key.encode(), b"KEY")).replace(b"KEY", key.encode())
        answer = answered(bench, source, request)
        seen = (answer[:13], header(answer, "Sec-WebSocket-Accept"), header(answer, "Sec-WebSocket-Protocol"))
        wanted = (b"HTTP/1.1 101 ", accept_of(key), "binary")
        bench.claim(seen == wanted, f"{name}: {wanted}", seen)


@requirement(
    "WEBSOCK-002",
    fault=(
        rewritten(
            "no protocol", lambda b: b.replace(b"-Protocol: binary", b"-Other: x"), nth=1, case="binary"
        ),
        rewritten("a protocol", lambda b: b[:-2] + b"Sec-WebSocket-Protocol: binary\r\n\r\n", case="None"),
    ),
)
@pytest.mark.parametrize("offered", ["binary", None])
def test_protocol_that_is_offered(bench: Bench, offered: str | None) -> None:
    """The answer names the subprotocol that the client has offered, if any."""
    answer = answered(bench, started(bench), upgrade(Sec_WebSocket_Protocol=offered))
    named = header(answer, "Sec-WebSocket-Protocol")
    bench.claim(
        named == offered and b" 101 " in answer, f"101, protocol {offered}", f"{answer[:13]!r}, {named}"
    )


@requirement(
    "WEBSOCK-003", fault=rewritten("101", lambda b: b"HTTP/1.1 101 Yes\r\n\r\n", nth=1, case="no key")
)
@pytest.mark.parametrize(
    "wrong",
    [{"Sec_WebSocket_Key": None}, {"Sec_WebSocket_Protocol": "chat"}, {"Sec_WebSocket_Protocol": "base64"}],
    ids=["no key", "chat", "base64"],
)
def test_request_that_is_refused(bench: Bench, wrong: dict[str, str | None]) -> None:
    """A request without a key, or with a subprotocol other than SPICE's: no 101, and the server serves the
    next request."""
    source = started(bench)
    answer = answered(bench, source, upgrade(**wrong))
    bench.claim(b" 101 " not in answer, "no 101", answer[:32])
    in_session(bench, source)


@requirement("WEBSOCK-004", fault=rewritten("101", lambda b: b"HTTP/1.1 101 Yes\r\n\r\n", nth=1))
@pytest.mark.parametrize("version", ["8", "14", None])
def test_other_version(bench: Bench, version: str | None) -> None:
    """A request with a WebSocket version that the server does not speak, or with none."""
    answer = answered(bench, started(bench), upgrade(Sec_WebSocket_Version=version))
    bench.claim(b" 101 " not in answer, "no 101", answer[:32])


@requirement("WEBSOCK-005", fault=rewritten("nothing", lambda b: b"", nth=1, case="whole"))
@pytest.mark.parametrize("at", [None, 2, 4, 20, -2], ids=["whole", "2", "4", "20", "-2"])
def test_request_in_pieces(bench: Bench, at: int | None) -> None:
    """The request arrives in two segments: cut in its method, after it, in a header, or before its end."""
    request = upgrade()
    pieces = [request] if at is None else [request[:at], request[at:]]
    answer = answered(bench, started(bench), *pieces)
    bench.claim(b" 101 " in answer, "101", answer[:32])
