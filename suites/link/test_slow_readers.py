# SPDX-License-Identifier: GPL-2.0-only
"""Clients that do not read for a while, over WebSocket and TLS: the server cuts its messages anywhere,
and loses nothing (server/red-stream.cpp, websocket.c)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType, MsgSpicevmc
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, rewritten
from fixtures.peer.transport import trusting
from fixtures.peer.websocket_client import PING, PONG, WebSocket
from fixtures.system.hosts import Ability
from suites.channel_devices import UNCOMPRESSED
from suites.link.test_websocket import faults_of, started

PORT, DATA = "port:org.example", MsgSpicevmc.SPICE_MSG_SPICEVMC_DATA
#: What the guest writes at once, and how many times: more than the line holds.
BLOCK, BLOCKS = 48_000, 8
#: What the kernel holds of each connection, bytes.
SEND_BUFFER = 1 << 15
QUESTION = b"still there?"

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.DEVICES)


def shorter(read: bytes) -> bytes:
    """What ends within one of the guest's blocks, without its last byte."""
    return read[:-1] if read[-8:-4] == read[-4:] != bytes(4) else read


@requirement("LINK-069", fault=rewritten("a byte less", shorter, case="plain"))
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_client_that_reads_later(bench: Bench, secure: bool) -> None:
    """The guest writes more than the line holds while the client does not read, and the client sends a PING;
    then it reads everything, in valid frames, and the PONG."""
    wraps: list[WebSocket] = []

    def wrap() -> WebSocket:
        wraps.append(WebSocket())
        return wraps[-1]

    certificate = bench.certificate() if secure else None
    source = started(bench, devices=(PORT,), tls=certificate.settings() if certificate else None)
    source.call("limit_send_buffers", size=SEND_BUFFER)
    client = bench.client(
        source,
        capabilities=UNCOMPRESSED,
        tls=trusting(certificate.ca) if certificate else None,
        wrap=wrap,
    )
    bench.settle()
    channel = client.current.channels[ChannelType.SPICE_CHANNEL_PORT, 0]
    said = b"".join(number.to_bytes(4) * (BLOCK // 4) for number in range(BLOCKS))
    for at in range(0, len(said), BLOCK):
        source.call("chardev_send", device=PORT, hex=said[at : at + BLOCK].hex())
    wraps[-1].send_frame(PING, QUESTION)

    def read() -> int:
        return sum(m.size for m in channel.got(DATA))

    bench.until(lambda: read() >= len(said) or channel.ending, f"{len(said)} bytes of the guest")
    bench.claim(b"".join(m.body for m in channel.got(DATA)) == said, "what the guest has written", read())
    wrong = [fault for websocket in wraps for fault in faults_of(websocket.frames)]
    bench.claim(not wrong, "frames as RFC 6455 requires", wrong)
    bench.until(lambda: wraps[-1].payloads(PONG), "a PONG frame")
    bench.claim(wraps[-1].payloads(PONG) == [QUESTION], "one PONG", wraps[-1].payloads(PONG))
