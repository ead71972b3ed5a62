# SPDX-License-Identifier: GPL-2.0-only
"""SPICE over WebSocket, frame by frame (RFC 6455): the content of a frame, fragments, PING, PONG and CLOSE. A
build without WebSocket is UNSUPPORTED. The opening handshake: `test_websocket_upgrade`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from dissectors.framing.events import Ending, Endpoint
from dissectors.rules.version_ranges import version_holds
from dissectors.wire.constants import (
    ChannelType,
    MsgBase,
    MsgcMain,
    MsgInputs,
    MsgMain,
    MsgSpicevmc,
    SpicevmcCap,
)
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, rewritten, stuck_on_wire
from fixtures.peer import Connection
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.transport import trusting
from fixtures.peer.websocket_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    LENGTH_16,
    LENGTH_64,
    MASKED,
    PING,
    PONG,
    TEXT,
    Frame,
    Manner,
    WebSocket,
    frame,
    speaks_websocket,
)
from fixtures.system.hosts import Ability, Host, Unsupported
from suites.steps import migrated

INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
NET_TEST, INPUTS = MsgBase.SPICE_MSG_PING, ChannelType.SPICE_CHANNEL_INPUTS
INPUTS_INIT = MsgInputs.SPICE_MSG_INPUTS_INIT
RESERVED = 0x70  # bits of a frame's first byte
QUESTION = b"are you there?"
PORT, PORT_DATA = "port:org.example", MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA
UNCOMPRESSED = EVERYTHING.without(SpicevmcCap.SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4)
MINI_HEADER = 6  # bytes of it before a message's body, in the same frame
#: The versions of libspice-server that have WebSocket (server/websocket.c).
SINCE = ">=0.14.3"
PLAIN = Manner()
MANNERS = {
    "one frame": PLAIN,
    "small messages": Manner(piece=3),
    "fragments": Manner(piece=5, continued=True),
    "single bytes": Manner(piece=1, continued=True),
    "length of 16 bits": Manner(form=LENGTH_16),
    "length of 64 bits": Manner(form=LENGTH_64),
    "fragments, 64 bits": Manner(piece=4, continued=True, form=LENGTH_64),
}


#: Frames that break the protocol, by their fault.
BROKEN = {
    "reserved bit 1": frame(0x40 | FIN | BINARY, b"x"),
    "reserved bit 3": frame(0x10 | FIN | BINARY, b"x"),
    "reserved opcode": frame(FIN | 3, b"x"),
    "reserved control opcode": frame(FIN | 11, b"x"),
    "fragment of a PING": frame(PING, b"x"),
    "long PING": frame(FIN | PING, b"x" * 126),
    "continuation of nothing": frame(FIN | CONTINUATION, b"x"),
    "message within a message": frame(BINARY, b"R") + frame(FIN | BINARY, b"E"),
}

pytestmark = pytest.mark.needs(Ability.CALLS)


def started(bench: Bench, **settings: Any) -> Host:
    """A host whose build has WebSocket. Raises Unsupported if it has not, but for a version that must have
    it."""
    probe = bench.start("probe")
    if not speaks_websocket(bench.pump.connect(Endpoint(probe.address, probe.port or 0), 5)):
        if not version_holds(SINCE, probe.identity.version):
            raise Unsupported("this build has no WebSocket")
    return bench.start(**settings)


def in_session(bench: Bench, host: Host, manner: Manner = PLAIN) -> tuple[Connection, WebSocket]:
    """Main over WebSocket, after INIT and the net test: its 250 KB may fill the line, so that the server's
    CLOSE has no room, and its PONGs go in the client's manner too."""
    websocket = WebSocket(manner)
    main = bench.link(host, wrap=websocket)
    bench.expect(main, INIT, proves="MAIN-001")
    bench.settle()
    return main, websocket


@requirement(
    "WEBSOCK-006",
    fault=(
        rewritten("nothing", lambda b: b"", nth=2, case="one frame-plain"),
        rewritten("a byte less", lambda b: b[:-1], nth=3, case="fragments-plain"),
    ),
)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS.keys())
def test_session(bench: Bench, manner: Manner, secure: bool) -> None:
    """Main and inputs, the list of channels, and the net test of 256,000 bytes, in each manner of framing."""
    certificate = bench.certificate() if secure else None
    source = started(bench, tls=certificate.settings() if certificate else None)
    tls = trusting(certificate.ca) if certificate else None
    with bench.owed():
        client = bench.client(source, tls=tls, wrap=lambda: WebSocket(manner))
        client.current.channels[INPUTS, 0].expect(INPUTS_INIT)
    bench.settle()
    sizes = [len(ping.body) - 12 for ping in client.main.got(NET_TEST)]
    bench.claim(sizes == [0, 0, 256_000], "a whole net test", sizes)


@requirement("WEBSOCK-007", fault=rewritten("nothing", lambda b: b"", nth=2))
def test_text_frames(bench: Bench) -> None:
    """The client sends everything in text frames."""
    source = started(bench)
    with bench.owed():
        bench.client(source, wrap=lambda: WebSocket(Manner(opcode=TEXT)))


@requirement(
    "WEBSOCK-008",
    fault=(
        rewritten("other data", lambda b: b.replace(QUESTION, b"Are you there?"), case="question"),
        rewritten("no PONG", lambda b: b.replace(b"\x8a\0", b""), case="nothing"),
    ),
)
@pytest.mark.parametrize("data", [b"", QUESTION, b"\0" * 125], ids=["nothing", "question", "longest"])
def test_ping(bench: Bench, data: bytes) -> None:
    """Each PING comes back as PONG, also one that arrives in pieces, and the session goes on."""
    main, websocket = in_session(bench, started(bench))
    for number in range(1, 3):
        whole, cut = frame(FIN | PING, data), 20 if number == 1 else 0
        for piece in filter(None, (whole[:cut], whole[cut:])):
            websocket.write(piece)
            bench.settle()
        bench.until(lambda n=number: len(websocket.payloads(PONG)) >= n, "a PONG frame")  # type: ignore[misc]
    websocket.send_frame(PONG, b"nobody has asked")
    main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.expect(main, LIST, proves="MAIN-008")
    bench.claim(websocket.payloads(PONG) == [data] * 2, [data] * 2, websocket.payloads(PONG))


@requirement("WEBSOCK-008", "WEBSOCK-006")
def test_ping_between_fragments(bench: Bench) -> None:
    """The server answers a PING between the fragments of a message, and reads the whole message."""
    source = started(bench)
    main, websocket = in_session(bench, source, Manner(piece=4, continued=True))
    websocket.manner = replace(websocket.manner, between=b"ho")
    main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.expect(main, LIST, proves="WEBSOCK-006")
    bench.settle()
    pongs = websocket.payloads(PONG)
    bench.claim(pongs == [b"ho"], "one PONG of the PING's data", pongs, proves="WEBSOCK-008")


@requirement(
    "WEBSOCK-009",
    fault=(rewritten("no CLOSE", lambda b: b.removesuffix(b"\x88\0")), stuck_on_wire("the upgrade", nth=1)),
)
@pytest.mark.parametrize("reason", [b"", b"\x03\xe8", b"\x03\xe9going away"], ids=["none", "1000", "1001"])
def test_close(bench: Bench, reason: bytes) -> None:
    """The client closes its WebSocket before the link, with or without a reason; the server answers with
    CLOSE."""
    websocket = WebSocket()
    main = bench.connect(started(bench), wrap=websocket)
    websocket.send_frame(CLOSE, reason)
    ending = main.expect_end(deadline=3)
    bench.claim(ending is not Ending.TIMEOUT, "the connection's end", ending)
    bench.claim(websocket.opcodes() == [CLOSE], "a CLOSE frame", websocket.opcodes())


@requirement("WEBSOCK-009")
def test_close_in_a_session(bench: Bench) -> None:
    """The client closes its WebSocket in a session: the session ends, and the next client gets one."""
    source = started(bench)
    main, websocket = in_session(bench, source)
    websocket.send_frame(CLOSE, b"\x03\xe8")
    ending = main.expect_end(deadline=3)
    bench.claim(ending is not Ending.TIMEOUT, "the connection's end", ending)
    bench.claim(CLOSE in websocket.opcodes(), "a CLOSE frame", websocket.opcodes())
    in_session(bench, source)


def faults_of(frames: list[Frame]) -> list[str]:
    """The faults in a server's frames."""
    wrong, open_message = [], False
    for one in frames:
        form = one.length & 0x7F
        due = one.size if one.size < LENGTH_16 else LENGTH_16 if one.size < 1 << 16 else LENGTH_64
        shortest = form == due
        known = one.opcode in (CONTINUATION, BINARY, CLOSE, PING, PONG)
        order = one.opcode >= CLOSE or (one.opcode == CONTINUATION) == open_message
        fine = known and order and shortest and not (one.first & RESERVED or one.length & MASKED)
        if not fine:
            wrong.append(f"{one.first:02x} {one.length:02x} of {one.size} bytes")
        if one.opcode < CLOSE:
            open_message = not one.first & FIN
    return wrong


@requirement(
    "WEBSOCK-010",
    fault=(
        rewritten("a reserved bit", lambda b: bytes([b[0] | 0x10]) + b[1:], nth=2),
        rewritten("a text frame", lambda b: bytes([b[0] ^ 3]) + b[1:], nth=2),
        rewritten("a continuation of nothing", lambda b: bytes([b[0] ^ 2]) + b[1:], nth=2),
    ),
)
def test_frames_of_the_server(bench: Bench) -> None:
    """Short and long messages of a session."""
    main, websocket = in_session(bench, started(bench))
    bench.settle()
    sizes = [one.size for one in websocket.frames]
    bench.claim(max(sizes) > 1 << 16, "frames of more than 64 KiB", sizes)
    wrong = faults_of(websocket.frames)
    bench.claim(not wrong, "frames as RFC 6455 requires", wrong)
    main.close()


def longer_form(sent: bytes) -> bytes:
    """A frame of 125 bytes whose length is coded in 16 bits."""
    head = bytes([FIN | BINARY, 125])
    return sent.replace(head, bytes([FIN | BINARY, LENGTH_16, 0, 125]), 1) if sent.startswith(head) else sent


@requirement("WEBSOCK-010", fault=rewritten("a frame in its longer form", longer_form, case="125"))
@pytest.mark.needs(Ability.DEVICES)
@pytest.mark.parametrize("size", [124, 125, 126, 127, 65_534, 65_535, 65_536, 65_541])
def test_lengths_of_the_servers_frames(bench: Bench, size: int) -> None:
    """Data of a port in frames whose lengths are near the limits of 7 and 16 bits: they arrive as the guest
    has written them, with lengths in their shortest form."""
    source = started(bench, devices=(PORT,))
    wraps: list[WebSocket] = []

    def wrap() -> WebSocket:
        wraps.append(WebSocket())
        return wraps[-1]

    client = bench.client(source, wrap=wrap, capabilities=UNCOMPRESSED)
    bench.settle()
    said = [bytes([n]) * length for n, length in enumerate((size - MINI_HEADER, size, 1), 1)]
    for data in said:
        source.call("chardev_send", device=PORT, hex=data.hex())
        bench.settle()
    observed = [m.body for m in client.current.channels[ChannelType.SPICE_CHANNEL_PORT, 0].got(PORT_DATA)]
    seen = [(body[:1], len(body)) for body in observed]
    bench.claim(observed == said, f"{[len(data) for data in said]} bytes as the guest wrote them", seen)
    wrong = [fault for websocket in wraps for fault in faults_of(websocket.frames)]
    bench.claim(not wrong, "frames as RFC 6455 requires", wrong)


@requirement("WEBSOCK-011", fault=stuck_on_wire("the upgrade", nth=1, case="reserved bit 1"))
@pytest.mark.parametrize("wrong", BROKEN.values(), ids=BROKEN.keys())
def test_broken_frame(bench: Bench, wrong: bytes) -> None:
    """An invalid frame ends its connection; the next client is served."""
    source = started(bench)
    websocket = WebSocket()
    main = bench.connect(source, wrap=websocket)
    websocket.write(wrong)
    ending = main.expect_end(deadline=3)
    bench.claim(ending is not Ending.TIMEOUT, "the connection's end", ending)
    bench.alive("after an invalid frame", source)


@requirement("WEBSOCK-011")
@pytest.mark.parametrize("size", [1 << 31, (1 << 63) - 1, (1 << 64) - 1], ids=hex)
def test_frame_of_absurd_length(bench: Bench, size: int) -> None:
    """A frame that announces an absurd length, and 4 KiB of it."""
    source = started(bench)
    websocket = WebSocket()
    bench.connect(source, wrap=websocket)
    announced = bytes([FIN | BINARY, MASKED | LENGTH_64]) + size.to_bytes(8)
    websocket.write(announced + os.urandom(4) + b"\xff" * 4096)
    bench.settle()
    bench.alive("after a frame without end", source)
    in_session(bench, source)


@requirement("WEBSOCK-012", fault=stuck_on_wire("the upgrade", nth=1))
def test_unmasked_frame(bench: Bench) -> None:
    """A frame without a mask ends its connection."""
    websocket = WebSocket(Manner(masked=False))
    main = bench.connect(started(bench), wrap=websocket)
    main.send_mess()
    ending = main.expect_end(deadline=1)
    bench.claim(ending is not Ending.TIMEOUT, "the connection's end", ending)


@requirement("WEBSOCK-006", "MIG-DST-001", "MIG-DST-004", "MIG-DST-006")
@pytest.mark.needs(Ability.CALLBACKS)
def test_migration(bench: Bench) -> None:
    """A client that is linked over WebSocket migrates over WebSocket."""
    source = started(bench)
    target = bench.start("target", incoming=True)
    client = bench.client(source, wrap=lambda: WebSocket(Manner(piece=64, continued=True)))
    migrated(bench, source, client, target)
    host = client.main.host
    bench.claim(host == "target", "a session at the target", host, proves="WEBSOCK-006")
