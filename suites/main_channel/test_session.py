# SPDX-License-Identifier: GPL-2.0-only
"""An ordinary session on the main channel: INIT, names, channels, mouse modes, the agent (spice.proto)."""

from __future__ import annotations

import struct

import pytest

from dissectors.wire.constants import ChannelType, MainCap, MsgcMain, MsgMain
from dissectors.wire.enums import MouseMode
from fixtures.bench import Bench
from fixtures.bench.planting import (
    INIT_BODY,
    added,
    changed,
    closed_after,
    dies,
    dies_at,
    hangs,
    lost,
    put,
    requirement,
    turned,
    twice,
)
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.system.hosts import Ability

INIT, NAME, UUID = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_NAME, MsgMain.SPICE_MSG_MAIN_UUID
LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
MODE = MsgMain.SPICE_MSG_MAIN_MOUSE_MODE
AGENT_CONNECTED_TOKENS = MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS
AGENT_CONNECTED, AGENT_DISCONNECTED = (
    MsgMain.SPICE_MSG_MAIN_AGENT_CONNECTED,
    MsgMain.SPICE_MSG_MAIN_AGENT_DISCONNECTED,
)
AGENT_DATA, AGENT_TOKEN = MsgMain.SPICE_MSG_MAIN_AGENT_DATA, MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN
MACHINE = bytes(range(0xF0, 0x100))
#: A VDAgentMessage: protocol 1, clipboard release (no data), as the client or the guest may send it.
AGENT_MESSAGE = struct.pack("<IIQI", 1, 9, 0, 0)
#: The header that the guest's agent puts before each chunk: port 1 (client), its size.
VDI_CHUNK = struct.pack("<II", 1, len(AGENT_MESSAGE))


@requirement("MAIN-002", fault=twice(INIT))
@requirement("MAIN-003", fault=(added(LIST, AGENT_DATA, AGENT_MESSAGE), closed_after(LIST)))
@requirement(
    "MAIN-004",
    fault=(
        put(INIT, supported_mouse_modes=1, current_mouse_mode=2),
        put(INIT, supported_mouse_modes=3, current_mouse_mode=3),
    ),
)
@requirement("MAIN-005", fault=put(INIT, agent_connected=2))
@requirement("CHAN-001", fault=added(INIT, max(MsgMain) + 1))
@requirement(
    "CHAN-002",
    fault=(
        changed("a byte short", INIT, lambda b: b[:-1]),
        changed("a byte long", INIT, lambda b: b + b"\0"),
    ),
)
@requirement("MAIN-001", "CONNID-001")
@requirement("ROBUST-001", fault=(dies(1), dies_at(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS, case="-5")))
@requirement("ROBUST-002", fault=hangs(1))
@pytest.mark.parametrize(
    "devices", [(), ("keyboard", "mouse"), ("keyboard", "mouse", "tablet", "display", "agent")], ids=len
)
def test_session_begins(bench: Bench, devices: tuple[str, ...]) -> None:
    """INIT comes first and once, with fields that make sense, whatever the machine has."""
    main = bench.link(bench.start(devices=devices))
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.expect(main, LIST, proves="MAIN-008")
    bench.settle()
    bench.claim(len(main.got(INIT)) == 1, "one INIT", len(main.got(INIT)), proves="MAIN-002")
    bench.claim(main.ending is None, "the session goes on", main.ending, proves="MAIN-003")


@requirement(
    "MAIN-006",
    fault=(added(INIT, NAME, b"\2\0\0\0x\0", case="False"), added(INIT, UUID, bytes(16), case="False")),
)
@requirement(
    "MAIN-007",
    fault=(
        changed("one letter", NAME, lambda b: b.replace(b"machine", b"machina"), case="True"),
        changed("one bit", UUID, lambda b: b[:-1] + bytes([b[-1] ^ 1]), case="True"),
        changed("no NUL", NAME, lambda b: b[:-1] + b"x", case="True"),
    ),
)
@pytest.mark.parametrize("able", [True, False])
def test_name_and_uuid(bench: Bench, able: bool) -> None:
    """NAME and UUID are the machine's, and go to the clients that have the capability."""
    caps = EVERYTHING if able else EVERYTHING.without(MainCap.SPICE_MAIN_CAP_NAME_AND_UUID)
    main = bench.link(bench.start(name="a machine \u00fc", uuid=MACHINE), capabilities=caps)
    bench.expect(main, INIT, proves="MAIN-001")
    bench.settle()
    seen = (len(main.got(NAME)), len(main.got(UUID)))
    bench.claim(
        seen == ((1, 1) if able else (0, 0)), "each once" if able else "neither", seen, proves="MAIN-006"
    )
    bench.claim(seen == (1, 1) or not able, "the machine's name and UUID", seen, proves="MAIN-007")


@requirement(
    "MAIN-007",
    fault=(
        added(INIT, UUID, bytes(16), case="name"),
        added(INIT, NAME, b"\2\0\0\0x\0", case="UUID"),
        lost(NAME, case="name"),
        lost(UUID, case="UUID"),
    ),
)
@pytest.mark.needs(Ability.CALLS)  # a QEMU always has both
@pytest.mark.parametrize("has", ["name", "UUID", "neither"])
def test_machine_without_a_name_or_uuid(bench: Bench, has: str) -> None:
    """A machine has a name alone, a UUID alone, or neither: the client gets what there is."""
    name, uuid = ("a machine" if has == "name" else None), (MACHINE if has == "UUID" else None)
    main = bench.link(bench.start(name=name, uuid=uuid), capabilities=EVERYTHING)
    bench.expect(main, INIT, proves="MAIN-001")
    bench.settle()
    seen = (len(main.got(NAME)), len(main.got(UUID)))
    due = (int(has == "name"), int(has == "UUID"))
    bench.claim(seen == due, f"NAME and UUID: {due}", seen)


@requirement("MAIN-008", fault=lost(LIST))
@requirement("MAIN-010")
def test_channels_list(bench: Bench) -> None:
    """The server answers ATTACH_CHANNELS with the machine's channels."""
    main = bench.link(bench.start(devices=("keyboard", "mouse", "playback", "record", "display")))
    bench.expect(main, INIT, proves="MAIN-001")
    bench.claim(not main.got(LIST), "no list before the client requests it", "one", proves="MAIN-008")
    main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    listed = {int(entry.type) for entry in bench.expect(main, LIST, proves="MAIN-008").packet.channels}
    wanted = {
        ChannelType.SPICE_CHANNEL_INPUTS,
        ChannelType.SPICE_CHANNEL_PLAYBACK,
        ChannelType.SPICE_CHANNEL_RECORD,
        ChannelType.SPICE_CHANNEL_DISPLAY,
        ChannelType.SPICE_CHANNEL_CURSOR,
    }
    bench.claim(wanted <= listed, f"at least {sorted(wanted)}", sorted(listed), proves="MAIN-010")


@requirement("MAIN-012", fault=(put(MODE, current_mode=1), put(MODE, current_mode=2), lost(MODE)))
@requirement("MAIN-004")
@pytest.mark.needs(Ability.DEVICES)
def test_mouse_mode(bench: Bench) -> None:
    """With a tablet and a display the client may choose the mouse mode; it gets the mode that it requests."""
    source = bench.start(devices=("keyboard", "mouse", "tablet", "display"))
    client = bench.client(source)
    bench.settle()
    for mode in (MouseMode.SPICE_MOUSE_MODE_CLIENT, MouseMode.SPICE_MOUSE_MODE_SERVER):
        seen = len(client.main.got(MODE))
        client.main.send(MsgcMain.SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST, struct.pack("<H", mode))
        bench.settle()
        packets = [m.packet for m in client.main.got(MODE)[seen:]]
        current = int(packets[-1].current_mode) if packets else None
        init = int(client.main.got(INIT)[0].packet.current_mouse_mode)
        fine = current == mode or (not packets and init == mode)
        bench.claim(fine, f"MOUSE_MODE {mode.name}", f"mode {current}", proves="MAIN-012")


@requirement(
    "MAIN-009",
    fault=(
        turned(AGENT_CONNECTED_TOKENS, AGENT_CONNECTED, lambda b: b"", case="True"),
        turned(AGENT_CONNECTED, AGENT_CONNECTED_TOKENS, lambda b: b"\x0a\0\0\0", case="False"),
        lost("SPICE_MSG_MAIN_AGENT_CONNECTED*"),
    ),
)
@requirement(
    "MAIN-016", fault=(lost(AGENT_DISCONNECTED), changed("an error", AGENT_DISCONNECTED, b"\1\0\0\0"))
)
@pytest.mark.needs(Ability.DEVICES)
@pytest.mark.parametrize("able", [True, False])
def test_agent_comes_and_goes(bench: Bench, able: bool) -> None:
    """The server announces the agent's arrival in the form that the client supports, and its end by
    AGENT_DISCONNECTED."""
    caps = EVERYTHING if able else EVERYTHING.without(MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS)
    source = bench.start()
    main = bench.link(source, capabilities=caps)
    bench.expect(main, INIT, proves="MAIN-001")
    source.call("agent_attach")
    bench.expect(main, AGENT_CONNECTED_TOKENS if able else AGENT_CONNECTED, deadline=3, proves="MAIN-009")
    source.call("agent_detach")
    gone = bench.expect(main, AGENT_DISCONNECTED, deadline=3, proves="MAIN-016").packet
    code = int(gone.error_code)
    bench.claim(code == 0, "SPICE_LINK_ERR_OK: the guest's agent has gone by itself", code, proves="MAIN-016")


@requirement(
    "MAIN-013",
    fault=(
        changed("one bit", AGENT_DATA, lambda b: b[:-1] + bytes([b[-1] ^ 1])),
        changed(
            "one bit, to the guest",
            MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA,
            lambda b: b[:-1] + bytes([b[-1] ^ 1]),
            nth=1,
        ),
        lost(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, nth=3),
        twice(AGENT_DATA),
    ),
)
@requirement("MAIN-014", fault=added(INIT, AGENT_TOKEN, b"\1\0\0\0"))
@pytest.mark.needs(Ability.DEVICES, Ability.CALLS)
def test_agent_messages(bench: Bench) -> None:
    """Agent messages pass both ways unchanged; the server gives back as many tokens as the client uses, not
    more."""
    source = bench.start(devices=("keyboard", "mouse", "agent"))
    main = bench.link(source)
    init = bench.expect(main, INIT, proves="MAIN-001").packet
    main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_START, struct.pack("<I", 10))
    for _ in range(int(init.agent_tokens)):
        main.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, AGENT_MESSAGE)
    bench.settle()
    heard = "".join(str(e.args.get("hex", "")) for e in bench.pump.tape.host_events if "write" in e.name)
    count = heard.count(AGENT_MESSAGE.hex())
    bench.claim(
        count == int(init.agent_tokens),
        f"{int(init.agent_tokens)} messages at the guest",
        count,
        proves="MAIN-013",
    )
    given = sum(int(m.packet.num_tokens) for m in main.got(AGENT_TOKEN))
    bench.claim(
        given <= int(init.agent_tokens),
        f"at most {int(init.agent_tokens)} tokens back",
        given,
        proves="MAIN-014",
    )
    source.call("agent_send", hex=(VDI_CHUNK + AGENT_MESSAGE).hex())
    data = bench.expect(main, AGENT_DATA, deadline=3, proves="MAIN-013")
    bench.claim(data.body == AGENT_MESSAGE, AGENT_MESSAGE.hex(), data.body.hex(), proves="MAIN-013")
    bench.settle()
    passed = len(main.got(AGENT_DATA))
    bench.claim(passed == 1, "the guest's message once", f"{passed} times", proves="MAIN-013")


@requirement("CHAN-004", fault=lost(LIST))
def test_messages_are_read_in_order(bench: Bench) -> None:
    """The server reads messages in order, whether they share a segment or are cut anywhere: each request has
    its answer."""
    main = bench.link(bench.start())
    bench.expect(main, INIT, proves="MAIN-001")
    main.answers.none()  # a PONG must not come between the pieces
    ask = struct.pack("<HI", MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS, 0)
    main.send_raw(ask[:3])
    bench.settle()
    main.send_raw(ask[3:])
    bench.expect(main, LIST)


@requirement("MIG-DST-007", fault=(added(LIST, INIT, INIT_BODY), closed_after(LIST)))
@pytest.mark.parametrize("able", [True, False])
def test_migrate_end_on_an_ordinary_session(bench: Bench, able: bool) -> None:
    """MIGRATE_END on an ordinary session has no effect: no second INIT, and the session answers."""
    caps = EVERYTHING if able else EVERYTHING.without(MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE)
    main = bench.link(bench.start(), capabilities=caps)
    bench.expect(main, INIT, proves="MAIN-001")
    main.send(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
    main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.expect(main, LIST)
    bench.settle()
    bench.claim(len(main.got(INIT)) == 1, "one INIT", len(main.got(INIT)))
    bench.claim(main.ending is None, "the session goes on", main.ending)
