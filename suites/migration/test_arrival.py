# SPDX-License-Identifier: GPL-2.0-only
"""What a target sends to a client that has arrived; a client that comes back; a target whose process is
stopped (semi-seamless scheme, target (1) and (2))."""

from __future__ import annotations

import os
import signal
import struct

import pytest

from dissectors.wire.constants import ChannelType, CommonCap, MsgBase, MsgcMain, MsgMain
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import added, lost, put, requirement, result, serial
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability, Unsupported
from suites.steps import migrated

INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
INIT, LIST = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
NAME, UUID, PING = MsgMain.SPICE_MSG_MAIN_NAME, MsgMain.SPICE_MSG_MAIN_UUID, MsgBase.SPICE_MSG_PING
MODE_REQUEST = MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST
PLAIN, RICH = ("keyboard", "mouse"), ("keyboard", "mouse", "tablet", "display", "agent")
#: The fields of INIT that describe the machine; two INITs may differ by so much in their times, ms.
STATED = (
    "display_channels_hint",
    "supported_mouse_modes",
    "current_mouse_mode",
    "agent_connected",
    "agent_tokens",
)
APART_MS = 5_000

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.DEVICES)


@requirement(
    "MIG-DST-059",
    fault=(
        put(INIT, host="target", nth=1, agent_connected=0, case="more"),
        put(INIT, host="target", nth=1, display_channels_hint=0, case="more"),
        put(INIT, host="target", nth=1, current_mouse_mode=2, case="more"),
        put(INIT, host="target", nth=1, supported_mouse_modes=1, case="more"),
        put(INIT, host="target", nth=1, agent_tokens=9, case="more"),
        put(INIT, host="target", nth=1, agent_tokens=11, case="more"),
        put(INIT, host="target", nth=1, multi_media_time=1, case="more"),
    ),
)
@pytest.mark.parametrize(
    ("before", "after"), [(PLAIN, RICH), (RICH, PLAIN), (RICH, RICH)], ids=["more", "fewer", "same"]
)
def test_machine_that_differs(bench: Bench, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """The target's machine has other devices than the source's: the INIT of a migrated client equals that of
    a new client."""
    source = bench.start("source", devices=before)
    target = bench.start("target", incoming=True, devices=after)
    client = bench.client(source, channels=(INPUTS,))
    migrated(bench, source, client, target)
    observed = client.main.got(INIT)[0].packet
    fresh = bench.client(target, channels=()).main.got(INIT)[0].packet
    seen, due = ({name: int(getattr(p, name)) for name in STATED} for p in (observed, fresh))
    bench.claim(seen == due, due, seen, target)
    apart = int(fresh.multi_media_time) - int(observed.multi_media_time)
    bench.claim(
        0 <= apart <= APART_MS, f"a time {APART_MS} ms at most before the next", f"{apart} ms before", target
    )


@requirement("MIG-DST-059", fault=put(INIT, host="target", current_mouse_mode=1, nth=2))
def test_mouse_mode_of_an_earlier_client(bench: Bench) -> None:
    """An earlier client has left the target in the client's mouse mode: the INIT of a migrated client says
    so."""
    source = bench.start("source", devices=RICH)
    target = bench.start("target", incoming=True, devices=RICH)
    earlier = bench.client(target, channels=())
    earlier.main.send(MODE_REQUEST, struct.pack("<H", MouseMode.SPICE_MOUSE_MODE_CLIENT))
    bench.settle()
    earlier.close()
    bench.settle()
    client = bench.client(source, channels=())
    migrated(bench, source, client, target)
    seen = int(client.main.got(INIT)[0].packet.current_mouse_mode)
    bench.claim(seen == MouseMode.SPICE_MOUSE_MODE_CLIENT, "the client's mode", seen, target)


@requirement("MIG-DST-060", fault=serial("one more", INIT, lambda number: number + 1, host="target"))
def test_serials_begin_anew(bench: Bench) -> None:
    """With full headers each channel of the target begins with serial 1."""
    source, target = bench.pair()
    caps = EVERYTHING.without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER)
    client = bench.client(source, channels=(INPUTS,), capabilities=caps)
    migrated(bench, source, client, target)
    for connection in client.current:
        serials = [m.serial for m in connection.messages]
        bench.claim(serials[:1] == [1], f"serial 1 on {connection.name}", serials[:1], target)


@requirement(
    "MIG-DST-061",
    fault=(added(INIT, NAME, b"\2\0\0\0x\0", host="target"), added(INIT, PING, bytes(12), host="target")),
)
def test_what_is_not_told_again(bench: Bench) -> None:
    """The machine has a name and a UUID; the target sends neither of them, and does not run the net test."""
    source, target = bench.pair(name="machine", uuid=bytes(range(16)))
    client = bench.client(source, channels=())
    bench.settle()
    before = [m.name for m in client.main.got(NAME, UUID)]
    migrated(bench, source, client, target)
    again = [m.name for m in client.main.got(NAME, UUID, PING)]
    bench.claim(len(before) == 2, "NAME and UUID from the source", before, source)
    bench.claim(not again, "neither from the target, and no PING", again, target)


@requirement(
    "MIG-DST-057",
    fault=(
        result(8, host="source", nth=3, case="semi-seamless"),
        lost(INIT, nth=2, host="source", case="semi-seamless"),
    ),
)
@pytest.mark.parametrize(
    "seamless",
    [pytest.param(True, marks=pytest.mark.needs(Ability.SEAMLESS_DATA)), False],
    ids=["seamless", "semi-seamless"],
)
def test_there_and_back(bench: Bench, seamless: bool) -> None:
    """The machine migrates to another process and back to the first, with its client, twice."""
    source, target = bench.pair(seamless=seamless)
    client = bench.client(source, channels=(INPUTS,))
    bench.settle()
    number = client.session_id
    for there, back in ((source, target), (target, source), (source, target)):
        client.steps.clear()
        client.left.clear()
        with bench.owed():
            migrated(bench, there, client, back)
        bench.settle()
        ended = [c.name for c in client.current if c.ending]
        bench.claim(not ended, "every channel goes on", ended, back)
    bench.claim(client.session_id == number, number, client.session_id, target)


@requirement("MIG-DST-058", fault=lost("reply", host="target"))
def test_links_to_a_blocked_target(bench: Bench) -> None:
    """The target's process is stopped while a client links to it; once it runs again, it answers."""
    target = bench.start("target", incoming=True)
    pid = getattr(target, "pid", None)
    if pid is None:
        raise Unsupported("this host's process cannot be stopped")
    os.kill(pid, signal.SIGSTOP)
    try:
        main = bench.connect(target, connection_id=0x8A000001)
        main.send_mess()
        bench.pump.collect(0.05)
        early = len(main.link_stage)
    finally:
        os.kill(pid, signal.SIGCONT)
    bench.claim(not early, "no reply from a process that does not run", early, target)
    with bench.owed():
        main.expect_reply()
        main.send_mechanism()
        main.send_ticket()
        main.expect_result()
