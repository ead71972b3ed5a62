# SPDX-License-Identifier: GPL-2.0-only
"""Flow control of a channel: SET_ACK, its window, and the client's ACK (spice.proto, BaseChannel)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import ChannelType, MsgBase, MsgcBase
from fixtures.bench import Bench
from fixtures.bench.planting import changed, lost, requirement, twice
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host

DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
SET_ACK = MsgBase.SPICE_MSG_SET_ACK
ACK_SYNC, ACK = MsgcBase.SPICE_MSGC_ACK_SYNC, MsgcBase.SPICE_MSGC_ACK
#: A server sends at most this many windows after SET_ACK without an ACK, and one more for each ACK.
WINDOWS = 2

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def silent_display(bench: Bench) -> tuple[Host, Connection, int, int]:
    """A display channel whose client no longer acknowledges; SET_ACK's generation and window."""
    source = bench.start(devices=("keyboard", "mouse", "display"))
    client = bench.client(source)
    display = client.current.channels[DISPLAY, 0]
    asked = bench.expect(display, SET_ACK, proves="CHAN-006")
    display.answers.none()
    bench.settle()
    generation, window = struct.unpack_from("<II", asked.body)
    bench.claim(0 < window < 1 << 16, "a window of messages", window, proves="CHAN-006")
    return source, display, generation, window


def drawn(bench: Bench, source: Host, display: Connection, times: int) -> int:
    """The guest draws this many times, never twice at one place (a covered picture is not sent). Returns how
    many messages the display has sent in all when its worker has finished: two turns, so that it reads the
    client's messages from before the first turn in the second."""
    for number in range(times):
        source.call("qxl_draw", left=4 * number, right=4 * number + 2, color=number)
    bench.until(lambda: not source.call("qxl_left"), "the worker's turn", proves="CHAN-006")
    source.call("qxl_sync")
    source.call("qxl_sync")
    bench.settle()
    return len(display.messages)


@requirement(
    "CHAN-006",
    fault=(
        changed(
            "a window smaller by one", SET_ACK, lambda b: b[:4] + bytes([b[4] - 1]) + b[5:], channel=DISPLAY
        ),
        twice(ACK, channel=DISPLAY, nth=1),
    ),
)
@requirement("CHAN-007", fault=lost(ACK, channel=DISPLAY))
def test_window(bench: Bench) -> None:
    """Without ACK the server stops after two windows; each ACK allows exactly one window more."""
    source, display, _, window = silent_display(bench)
    limit = WINDOWS * window
    sent = drawn(bench, source, display, limit + 2 * window)
    since = sent - display.messages.index(display.got(SET_ACK)[-1]) - 1
    bench.claim(since <= limit, f"at most {limit} messages after SET_ACK", since, proves="CHAN-006")
    for _ in range(2):
        display.send(ACK)
        goes_on = lambda before=sent: len(display.messages) > before  # noqa: E731
        bench.until(goes_on, "messages after ACK", proves="CHAN-007")
        now = drawn(bench, source, display, 0)
        more = now - sent
        bench.claim(more <= window, f"at most {window} more for one ACK", more, proves="CHAN-006")
        sent = now


@requirement("CHAN-006", "CHAN-007")
def test_acknowledgement_of_another_generation(bench: Bench) -> None:
    """An ACK counts only for the generation that the last ACK_SYNC named."""
    source, display, generation, window = silent_display(bench)
    display.send(ACK_SYNC, struct.pack("<I", generation + 7))
    bench.settle()
    sent = drawn(bench, source, display, (WINDOWS + 1) * window + 1)
    for _ in range(3):
        display.send(ACK)
    bench.claim(
        drawn(bench, source, display, 0) == sent, "no messages for an old ACK", "some", proves="CHAN-006"
    )
    display.send(ACK_SYNC, struct.pack("<I", generation))
    display.send(ACK)
    bench.until(lambda: len(display.messages) > sent, "messages after ACK", proves="CHAN-007")
