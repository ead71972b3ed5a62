# SPDX-License-Identifier: GPL-2.0-only
"""What passes between client and agent, and in which form: message types that are switched off, capabilities,
malformed messages, the chunk header at the guest (spice/vd_agent.h; server/agent-msg-filter.c, reds.cpp)."""

from __future__ import annotations

import struct

import pytest

from dissectors.channels.agent_enums import AgentPort
from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import MsgcMain, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, added, changed, lost, requirement, skipped, stuck_after
from fixtures.peer import Connection
from fixtures.system.hosts import Ability, Host
from suites.guest_agent import CHUNK, HEADER, agent_message, chunk, read_by_guest

INIT, AGENT_DATA = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_AGENT_DATA
GONE = MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED
BACK_AGAIN = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS
TO_AGENT, START = MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, MsgcMain.SPICE_MSGC_MAIN_AGENT_START
#: VDAgentMessage's types (spice/vd_agent.h).
CLIPBOARD_KINDS = {"CLIPBOARD": 4, "CLIPBOARD_GRAB": 7, "CLIPBOARD_REQUEST": 8, "CLIPBOARD_RELEASE": 9}
FILE_KINDS = {"FILE_XFER_START": 10, "FILE_XFER_STATUS": 11, "FILE_XFER_DATA": 12}
REPLY, ANNOUNCE, CLIENT_DISCONNECTED, GRAPHICS_DEVICE_INFO = 3, 6, 13, 16
GRAPHICS_DEVICE_INFO_CAP = 1 << 15
#: Capability bits of the agent (spice/vd_agent.h, VD_AGENT_CAP_*).
CLIPBOARD_CAPS = 1 << 3 | 1 << 5 | 1 << 6  # CLIPBOARD, CLIPBOARD_BY_DEMAND, CLIPBOARD_SELECTION
FILE_XFER_DISABLED = 1 << 13
ALL_CAPS = 0x3DFFF  # every bit but FILE_XFER_DISABLED
SERVER_PORT = AgentPort.VDP_SERVER_PORT

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


def talking(bench: Bench, **switches: int) -> tuple[Host, Connection]:
    """A host with an agent and these switches (`set_agent_*`), and a client that has sent AGENT_START."""
    source = bench.start()
    for name, value in switches.items():
        source.call(f"set_agent_{name}", enable=value)
    source.call("agent_attach")
    main = bench.link(source)
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(START, struct.pack("<I", 100))
    bench.settle()
    return source, main


def passed(bench: Bench, source: Host, main: Connection, kind: int) -> tuple[bool, bool]:
    """Whether a message of this kind reaches the guest, and the client; a message of another kind that
    follows it must reach both."""
    sent, mark = agent_message(kind, b"12345678"), agent_message(REPLY, b"mark" * 2)
    main.send(TO_AGENT, sent)
    main.send(TO_AGENT, mark)
    source.call("agent_send", hex=(chunk(sent) + chunk(mark)).hex())
    bench.settle()
    there, here = read_by_guest(bench), [m.body for m in main.got(AGENT_DATA)]
    bench.claim(chunk(mark) in there, "the next message at the guest", "it is missing", proves="MAIN-013")
    bench.claim(mark in here, "the next message at the client", "it is missing", proves="MAIN-013")
    return chunk(sent) in there, sent in here


@requirement(
    "MAIN-043",
    fault=(
        added(INIT, AGENT_DATA, agent_message(4, b"12345678"), case="copypaste-CLIPBOARD"),
        added(INIT, AGENT_DATA, agent_message(12, b"12345678"), case="file_xfer-FILE_XFER_DATA"),
    ),
)
@pytest.mark.parametrize(
    ("switch", "kind"),
    [("copypaste", k) for k in CLIPBOARD_KINDS] + [("file_xfer", k) for k in FILE_KINDS],
)
def test_kind_that_is_switched_off(bench: Bench, switch: str, kind: str) -> None:
    """A kind of message that is switched off passes in neither direction; all other kinds pass in both."""
    source, main = talking(bench, **{switch: 0})
    off = passed(bench, source, main, {**CLIPBOARD_KINDS, **FILE_KINDS}[kind])
    bench.claim(off == (False, False), f"no {kind} at guest and client", off)
    other = FILE_KINDS["FILE_XFER_STATUS"] if switch == "copypaste" else CLIPBOARD_KINDS["CLIPBOARD"]
    on = passed(bench, source, main, other)
    bench.claim(on == (True, True), "what is not switched off, at guest and client", on, proves="MAIN-013")


@requirement(
    "MAIN-043",
    fault=(lost(TO_AGENT, nth=3), added(AGENT_DATA, AGENT_DATA, agent_message(4, b"12345678"), nth=1)),
)
@pytest.mark.parametrize("switch", ["copypaste", "file_xfer"])
def test_switched_while_connected(bench: Bench, switch: str) -> None:
    """A switch that changes while client and agent talk takes effect at once, in both directions."""
    kind = CLIPBOARD_KINDS["CLIPBOARD"] if switch == "copypaste" else FILE_KINDS["FILE_XFER_DATA"]
    source, main = talking(bench)
    for enable in (1, 0, 1):
        source.call(f"set_agent_{switch}", enable=enable)
        before, seen = len(read_by_guest(bench)), len(main.got(AGENT_DATA))
        sent = agent_message(kind, bytes([enable]) * 8)
        main.send(TO_AGENT, sent)
        source.call("agent_send", hex=chunk(sent).hex())
        bench.settle()
        there = read_by_guest(bench)[before:] == chunk(sent) * enable
        here = [m.body for m in main.got(AGENT_DATA)][seen:] == [sent] * enable
        wanted = "passed" if enable else "kept back"
        bench.claim(there and here, f"{wanted}, both ways, at {switch} {enable}", (there, here))


def _caps(change: int) -> bytes:
    return agent_message(ANNOUNCE, struct.pack("<II", 1, change))


@requirement(
    "MAIN-044",
    fault=(
        changed("clipboard", AGENT_DATA, _caps(ALL_CAPS & ~CLIPBOARD_CAPS | 1 << 3), case="False-True"),
        changed("one bit fewer", AGENT_DATA, _caps(ALL_CAPS & ~CLIPBOARD_CAPS & ~1 << 1), case="False-True"),
        changed("no announcement", AGENT_DATA, _caps(ALL_CAPS), case="True-False"),
        changed("an announcement", AGENT_DATA, _caps(ALL_CAPS | FILE_XFER_DISABLED), case="True-True"),
    ),
)
@pytest.mark.parametrize("file_xfer", [True, False])
@pytest.mark.parametrize("copypaste", [True, False])
def test_capabilities_of_what_is_switched_off(bench: Bench, copypaste: bool, file_xfer: bool) -> None:
    """The agent's capabilities reach the client without those that are switched off."""
    source, main = talking(bench, copypaste=copypaste, file_xfer=file_xfer)
    source.call("agent_send", hex=chunk(_caps(ALL_CAPS)).hex())
    bench.settle()
    wanted = (ALL_CAPS if copypaste else ALL_CAPS & ~CLIPBOARD_CAPS) | (
        0 if file_xfer else FILE_XFER_DISABLED
    )
    seen = [m.body[-4:].hex() for m in main.got(AGENT_DATA)]
    bench.claim(seen == [struct.pack("<I", wanted).hex()], f"capabilities {wanted:#x}", seen)


def graphics_devices(*devices: tuple[int, int, int, str]) -> bytes:
    """GRAPHICS_DEVICE_INFO of these outputs: channel, monitor, output of the device, address."""
    outputs = b"".join(
        struct.pack("<IIII", *numbers, len(address) + 1) + address.encode() + b"\0"
        for *numbers, address in devices
    )
    return chunk(agent_message(GRAPHICS_DEVICE_INFO, struct.pack("<I", len(devices)) + outputs), SERVER_PORT)


@requirement(
    "MAIN-066",
    fault=(
        Fault("the guest misses a byte", plant=("clip:agent",), case="able"),
        skipped("qxl_device_info", case="able"),
    ),
)
@pytest.mark.parametrize("able", [True, False], ids=["able", "not able"])
def test_graphics_devices(bench: Bench, able: bool) -> None:
    """An agent with the capability gets the graphics devices, in a chunk of the server's own port, each time
    that it announces the capability, and when the hypervisor names a card's outputs; an agent without it gets
    nothing."""
    source, _ = talking(bench)
    announced = ALL_CAPS if able else ALL_CAPS & ~GRAPHICS_DEVICE_INFO_CAP
    for _ in range(2):
        source.call("agent_send", hex=chunk(_caps(announced)).hex())
        bench.settle()
    source.call("chardev_attach", device="display")
    source.call("qxl_device_info", address="pci/0000/02.0", first=3, count=2)
    bench.settle()
    seen = read_by_guest(bench)
    outputs = (0, 0, 3, "pci/0000/02.0"), (0, 1, 4, "pci/0000/02.0")
    wanted = (graphics_devices() * 2 + graphics_devices(*outputs)) * able
    bench.claim(seen == wanted, f"at the guest {wanted.hex() or 'nothing'}", seen.hex() or "nothing")


@requirement("MAIN-066", fault=Fault("the guest misses a byte", plant=("clip:agent",)))
def test_graphics_devices_of_an_agent_that_reads_late(bench: Bench) -> None:
    """The agent announces the capability three times before it reads: it gets the graphics devices for the
    first time, and once more for the others."""
    source, _ = talking(bench)
    source.call("chardev_take", device="agent", room=0)
    for _ in range(3):
        source.call("agent_send", hex=chunk(_caps(ALL_CAPS)).hex())
    bench.settle()
    source.call("chardev_take", device="agent")
    bench.settle()
    seen, wanted = read_by_guest(bench), graphics_devices() * 2
    bench.claim(seen == wanted, f"at the guest {wanted.hex()}", seen.hex() or "nothing")


@requirement("MAIN-066", fault=Fault("the guest reads it twice", plant=("twice:chardev_write",)))
def test_graphics_devices_and_the_next_agent(bench: Bench) -> None:
    """The agent that has announced the capability is replaced: the next one gets the graphics devices only
    when it announces the capability too."""
    source, main = talking(bench)
    announcement = chunk(_caps(ALL_CAPS)).hex()
    source.call("agent_send", hex=announcement)
    bench.settle()
    source.call("agent_detach")
    source.call("agent_attach")
    bench.until(lambda: main.got(BACK_AGAIN), BACK_AGAIN.name, proves="MAIN-009")
    main.send(START, struct.pack("<I", 100))
    bench.settle()
    devices = graphics_devices()
    seen = read_by_guest(bench)
    bench.claim(seen == devices, f"at the first agent alone {devices.hex()}", seen.hex() or "nothing")
    source.call("agent_send", hex=announcement)
    bench.settle()
    seen = read_by_guest(bench)
    bench.claim(seen == devices * 2, f"and then at the next: {devices.hex()}", seen.hex())


MALFORMED = {
    "another protocol": agent_message(REPLY, b"12345678", protocol=2),
    "a header cut": agent_message(REPLY)[: HEADER.size - 1],
    "longer than it says": agent_message(REPLY, b"12345678", size=7),
    "longer than a message": agent_message(REPLY, bytes(2049 - HEADER.size)),
}
#: What the guest sends: a port that there is not, and the client's.
FROM_GUEST = {"an unknown port": chunk(agent_message(REPLY), 3)} | {
    how: chunk(MALFORMED[how]) for how in ("another protocol", "a header cut", "longer than it says")
}


@requirement("MAIN-045", fault=stuck_after(INIT))
@pytest.mark.parametrize("how", MALFORMED)
def test_malformed_message_of_the_client(bench: Bench, how: str) -> None:
    """A client that sends a malformed agent message is disconnected; the guest gets nothing of the
    message."""
    source, main = talking(bench)
    main.send(TO_AGENT, MALFORMED[how])
    ending = main.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the session's end", ending)
    first = read_by_guest(bench)[: CHUNK.size]
    from_server = CHUNK.pack(SERVER_PORT, HEADER.size)  # CLIENT_DISCONNECTED
    bench.claim(first in (b"", from_server), "nothing at the guest", first.hex())
    bench.alive("after a malformed agent message", source)


@requirement("MAIN-046", fault=(lost(GONE), lost(GONE, case="an unknown port")))
@pytest.mark.parametrize("how", FROM_GUEST)
def test_malformed_message_of_the_guest(bench: Bench, how: str) -> None:
    """An agent that sends a malformed message is disconnected: the client gets AGENT_DISCONNECTED and
    stays."""
    source, main = talking(bench)
    source.call("agent_send", hex=FROM_GUEST[how].hex())
    bench.expect(main, GONE)
    bench.settle()
    bench.claim(main.ending is None, "the session goes on", main.ending)
    seen = len(main.got(AGENT_DATA))
    bench.claim(not seen, "nothing of the malformed message", f"{seen} messages")


@requirement("MAIN-081", fault=(lost(BACK_AGAIN), lost(AGENT_DATA), lost(TO_AGENT)))
def test_agent_after_a_malformed_message(bench: Bench) -> None:
    """The guest starts its agent again after the server has disconnected it for a malformed message: the
    client is told, and messages pass in both directions."""
    source, main = talking(bench)
    source.call("agent_send", hex=FROM_GUEST["another protocol"].hex())
    bench.expect(main, GONE, proves="MAIN-046")
    source.call("agent_detach")
    source.call("agent_attach")
    bench.expect(main, BACK_AGAIN)
    main.send(START, struct.pack("<I", 100))
    bench.settle()
    there, here = passed(bench, source, main, REPLY)
    bench.claim(there and here, "a message at guest and client", (there, here))
    ends = len(main.got(GONE))
    bench.claim(ends == 1, "AGENT_DISCONNECTED once", ends)


@requirement("MAIN-082", fault=(changed("the server's", AGENT_DATA, agent_message(REPLY)), lost(AGENT_DATA)))
def test_message_to_the_server(bench: Bench) -> None:
    """The agent sends a message to the server's own port, and then one to the client: only the second reaches
    the client."""
    source, main = talking(bench)
    own, next_one = agent_message(REPLY), agent_message(REPLY, b"for the client")
    source.call("agent_send", hex=(chunk(own, SERVER_PORT) + chunk(next_one)).hex())
    bench.settle()
    seen = [m.body for m in main.got(AGENT_DATA)]
    bench.claim(seen == [next_one], f"{next_one.hex()} alone", [body.hex() for body in seen])
    gone = len(main.got(GONE))
    bench.claim(not gone, "the agent stays", f"{GONE.name}")


@requirement("MAIN-047", fault=Fault("the guest misses a byte", plant=("clip:agent",)))
@pytest.mark.parametrize("size", [0, 1, 2048 - HEADER.size])
def test_chunk_header_at_the_guest(bench: Bench, size: int) -> None:
    """The guest reads each message behind a header that names the client's port and the size."""
    _, main = talking(bench)
    sent = [agent_message(REPLY, bytes((n + size) & 0xFF for n in range(size))) for _ in range(3)]
    for one in sent:
        main.send(TO_AGENT, one)
    bench.settle()
    wanted, seen = b"".join(map(chunk, sent)), read_by_guest(bench)
    fine = seen == wanted
    bench.claim(fine, f"{len(wanted)} bytes: {wanted[:28].hex()}...", f"{len(seen)}: {seen[:28].hex()}...")


@requirement("MAIN-048", fault=Fault("the guest misses a byte", plant=("clip:agent",)))
@pytest.mark.parametrize("leaves", ["closes", "resets"])
def test_guest_hears_that_the_last_client_has_left(bench: Bench, leaves: str) -> None:
    """The guest gets CLIENT_DISCONNECTED once, in a chunk of the server's own port."""
    _, main = talking(bench)
    main.send(TO_AGENT, agent_message(REPLY))
    bench.settle()
    main.close() if leaves == "closes" else main.reset()
    bench.settle()
    wanted = chunk(agent_message(REPLY)) + chunk(agent_message(CLIENT_DISCONNECTED), SERVER_PORT)
    seen = read_by_guest(bench)
    bench.claim(seen == wanted, wanted.hex(), seen.hex())
