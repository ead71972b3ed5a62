# SPDX-License-Identifier: GPL-2.0-only
"""One host and its clients, on which acts are played; a scene can be copied."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from dissectors.channels.migration_data import (
    MigrateDisplaySurfacesAtClientLossless,
    SpiceMigrateDataCharDevice,
    SpiceMsgcMigrateDataDisplay,
    SpiceMsgcMigrateDataSpicevmc,
)
from dissectors.channels.spicevmc import VMC
from dissectors.framing.events import Endpoint
from dissectors.wire.constants import (
    ChannelType,
    LinkErr,
    MsgcBase,
    MsgcDisplay,
    MsgcInputs,
    MsgcRecord,
    MsgcSmartcard,
    MsgcSpicevmc,
    MsgMain,
    Side,
)
from fixtures.peer import Connection, LinkRefused, PeerFailure, Pump
from fixtures.peer.copies import Situation
from fixtures.peer.peer_client import DISPLAY_INIT
from fixtures.system.hosts import HarnessError, Host
from suites.fuzz import bodies
from suites.matrix.acts import MAIN, Act, CallAct, LeaveAct, LeaveHow, LinkAct, LinkId, PassAct, SendAct

#: Ids that no server of these tests has given: asymmetric, with high bits.
GIVEN_ID, WRONG_ID = 0x8A00_0B01, 0xC0DE_F00D
CT = ChannelType
DISPLAY = ChannelType.SPICE_CHANNEL_DISPLAY
Slot = tuple[int, int]  # client, channel type

#: Data of a channel whose client is connected to its device, as a source sends it.
VMC_DATA = bytes(
    SpiceMsgcMigrateDataSpicevmc(
        base=SpiceMigrateDataCharDevice(connected=1, num_client_tokens=1, num_send_tokens=0xFFFFFFFF)
    )
)
#: VSCMsgHeader of ReaderAdd (3) without a name, reader 0.
_READER_ADD = struct.pack("<III", 3, 0, 0)
#: The display's state of a source whose client has no off-screen surfaces.
_DISPLAY_DATA = bytes(
    SpiceMsgcMigrateDataDisplay(
        message_serial=1,
        pixmap_cache_id=1,
        pixmap_cache_size=20 << 20,
        pixmap_cache_clients=[1, 0, 0, 0],
        glz_dict_id=1,
        glz_dict_size=16 << 20,
        glz_dict_max_encoders=4,
        surfaces_at_client=MigrateDisplaySurfacesAtClientLossless(surfaces=[]),
    )
)
#: SPICE_DATA_COMPRESSION_TYPE_LZ4, the size, and three bytes that LZ4 leaves as they are.
_COMPRESSED = struct.pack("<BI", 1, 3) + b"\x30abc"
#: Bodies of messages whose default packet is not what a correct client sends, by channel and message type.
GOOD: Mapping[tuple[int, int], bytes] = {
    (CT.SPICE_CHANNEL_INPUTS, MsgcInputs.SPICE_MSGC_INPUTS_KEY_SCANCODE): b"\x1e\x9e",
    (CT.SPICE_CHANNEL_RECORD, MsgcRecord.SPICE_MSGC_RECORD_MODE): struct.pack("<IH", 0x8001, 1),
    (CT.SPICE_CHANNEL_RECORD, MsgcRecord.SPICE_MSGC_RECORD_DATA): struct.pack("<Ihh", 0x8002, 1, -1),
    (CT.SPICE_CHANNEL_SMARTCARD, MsgcSmartcard.SPICE_MSGC_SMARTCARD_DATA): _READER_ADD,
    (DISPLAY, MsgcBase.SPICE_MSGC_MIGRATE_DATA): _DISPLAY_DATA,
    **{(channel, MsgcSpicevmc.SPICE_MSGC_SPICEVMC_DATA): b"\xc0\xff\xee" for channel in VMC},
    **{(channel, MsgcSpicevmc.SPICE_MSGC_SPICEVMC_COMPRESSED_DATA): _COMPRESSED for channel in VMC},
}


def _body(connection: Connection, kind: int) -> bytes:
    """The body of a message as a correct client sends it."""
    if kind == MsgcBase.SPICE_MSGC_MIGRATE_DATA and connection.wanted.channel in VMC:
        return VMC_DATA
    if kind == MsgcDisplay.SPICE_MSGC_DISPLAY_INIT and connection.wanted.channel == DISPLAY:
        return bytes(DISPLAY_INIT)
    found = GOOD.get((connection.wanted.channel, kind))
    return bodies.good(kind, connection, None) if found is None else found


@dataclass
class MatrixScene:
    """`open`: the connections by client and channel; `ids`: the session id of each client; `ended`: ids of
    sessions that have ended. `trouble`: why the last link could not be completed."""

    pump: Pump
    host: Host
    open: dict[Slot, Connection] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    result: object = None  # of the last call
    link_error: LinkErr | int | None = None  # of the last link; None: it was just closed
    trouble: str | None = None

    def copy(self) -> MatrixScene:
        """The same scene on a copy of the host."""
        alive = [c for c in self.open.values() if not c.ending]
        made = Situation(self.pump, {self.host.label: self.host}, alive).copy()  # type: ignore[dict-item]
        twins = {slot: made.twin(c) for slot, c in self.open.items() if c.number in made.twins}
        return MatrixScene(made.pump, made.hosts[self.host.label], twins, dict(self.ids), list(self.ended))

    def do(self, act: Act) -> None:
        """Does an act, and waits until all its effects have happened."""
        self.trouble = None
        events = len(self.pump.tape.host_events)
        with suppress(HarnessError):  # the host died or hangs: the tape has an event for it
            match act:
                case SendAct():
                    self._send(act)
                case LinkAct():
                    self._link(act)
                case LeaveAct():
                    self._leave(act)
                case CallAct():
                    self.result = self.host.call(act.name, **act.args)
                case PassAct():
                    self.host.advance(act.ms)
        self.settle()
        self._put_in_order(events)

    def _put_in_order(self, events: int) -> None:
        """Moves the end of a connection before the callback that it caused: the server closes the connection
        first, but the scene is told of the callback first. Both belong to one act."""
        tape = self.pump.tape
        done = [e.time for e in tape.host_events[events:] if e.name.endswith("_complete")]
        first = min(done, default=math.inf)
        for track in tape.tracks.values():
            if track.closed and track.closed.by is Side.SERVER and track.closed.time > first:
                track.closed = replace(track.closed, time=first)

    def settle(self) -> None:
        """Waits until the server has nothing more to do, and notes new session ids."""
        self.pump.settle()
        for (client, channel), connection in self.open.items():
            inits = connection.got(MsgMain.SPICE_MSG_MAIN_INIT) if channel == MAIN else []
            if inits:
                self.ids[client] = int(inits[-1].packet.session_id)

    def _send(self, act: SendAct) -> None:
        connection = self.open[act.client, act.channel]
        body = _body(connection, act.type) if act.body is None else act.body
        connection.send(act.type, body)

    def _link(self, act: LinkAct) -> None:
        number = self.session_id(act)
        made = Connection(
            self.pump,
            Endpoint(self.host.address, self.host.port or 0),
            channel=act.channel,
            connection_id=number,
        )
        self.open[act.client, act.channel] = made
        if act.channel == MAIN and act.id is not LinkId.ZERO:
            self.ids[act.client] = number
        self.link_error = LinkErr.SPICE_LINK_ERR_OK
        try:
            made.link()
        except LinkRefused as refused:
            self.link_error = refused.error
        except PeerFailure as failure:
            self.link_error = None
            self.trouble = str(failure)

    def session_id(self, act: LinkAct) -> int:
        """The connection_id that a link names."""
        match act.id:
            case LinkId.OWN:
                return self.ids.get(act.client) or self.ids[1]
            case LinkId.STALE:
                return self.ended[-1]
            case LinkId.OTHER:
                return self.ids[2]
        return {LinkId.GIVEN: GIVEN_ID, LinkId.WRONG: WRONG_ID}.get(act.id, 0)

    def _leave(self, act: LeaveAct) -> None:
        connection = self.open[act.client, act.channel]
        match act.how:
            case LeaveHow.CLOSE:
                connection.close()
            case LeaveHow.RESET:
                connection.reset()
            case LeaveHow.HALF_CLOSE:
                connection.half_close()
            case LeaveHow.DISCONNECTING:
                connection.send(MsgcBase.SPICE_MSGC_DISCONNECTING, bytes(12))
                connection.close()
        if act.channel == MAIN and act.client in self.ids:
            self.ended.append(self.ids[act.client])

    def connections(self) -> Iterator[Connection]:
        """Every connection, main last."""
        yield from sorted(self.open.values(), key=lambda connection: connection.wanted.channel == MAIN)

    def close(self) -> None:
        """Closes all connections and the host."""
        self.pump.close()
        self.host.stop()
