# SPDX-License-Identifier: GPL-2.0-only
"""Plays the cells of a place, each on a copy of it, and judges their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dissectors.channels.spicevmc import VMC
from dissectors.conversation.connection_states import State
from dissectors.conversation.owed_answers import answer, may_send, requirement
from dissectors.framing.events import Event
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.checkpoint import Checkpoint
from dissectors.rules.judgement import Judgement, Level
from dissectors.rules.oracle import Oracle
from dissectors.wire.constants import (
    ChannelType,
    MsgcBase,
    MsgcDisplay,
    MsgcMain,
    MsgcSpicevmc,
    MsgMain,
    Side,
    SpicevmcCap,
    channel_name,
    message_name,
)
from fixtures.peer import Connection
from fixtures.system.hosts import HarnessError
from suites.matrix import host_answers
from suites.matrix.acts import MAIN, Act, CallAct, LeaveAct, LeaveHow, LinkAct, LinkId, PassAct, SendAct
from suites.matrix.cells import UNKNOWN_TYPE, Cell
from suites.matrix.host_answers import Brings
from suites.matrix.outcome import Before, CellOutcome
from suites.matrix.places import AGENT_START, PLAIN_CHANNELS, Place
from suites.matrix.scene import MatrixScene

#: Longer than every timer of a server (10 s of a migration, 30 s of silence of the client), ms.
LONG_MS = 60_000
DESTROY = CallAct("destroy")
COMPRESSED = MsgcSpicevmc.SPICE_MSGC_SPICEVMC_COMPRESSED_DATA
#: Rules that do not apply after the end: a dead server calls no callback, and a removed device's channel
#: sends no message.
ENDING = frozenset({"destroy", "chardev_detach"})
HOST_CALL, LINK, LEAVE, LEFTOVERS = "CELL-003", "CELL-004", "CELL-005", "ROBUST-003"
#: The requirement on a process that has ended, by the cause of its end.
SURVIVES: Mapping[int, str] = {
    MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK: "ROBUST-004",
    MsgcBase.SPICE_MSGC_MIGRATE_DATA: "ROBUST-012",
    UNKNOWN_TYPE: "ROBUST-009",
}
_ON_MAIN: Mapping[int, str] = {
    **SURVIVES,
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: "ROBUST-005",
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END: "ROBUST-006",
    MsgcMain.SPICE_MSGC_MAIN_AGENT_START: "ROBUST-013",
    MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA: "ROBUST-013",
    MsgcMain.SPICE_MSGC_MAIN_AGENT_TOKEN: "ROBUST-013",
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED: "ROBUST-017",
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: "ROBUST-017",
    MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR: "ROBUST-017",
}

SURVIVES_ON: Mapping[int, Mapping[int, str]] = {
    MAIN: _ON_MAIN,
    ChannelType.SPICE_CHANNEL_DISPLAY: {**SURVIVES, MsgcDisplay.SPICE_MSGC_DISPLAY_INIT: "ROBUST-040"},
}


@dataclass
class PlayedCell:
    """The outcome of one cell, and how it was judged."""

    cell: Cell
    outcome: CellOutcome
    judgement: Judgement
    scene: MatrixScene

    @property
    def moves(self) -> tuple[str, ...]:
        """Everything that was done, a line each."""
        return tuple(move(act, self.cell.place) for act in (*self.cell.place.path, self.cell.act))


def move(act: Act, place: Place) -> str:
    """An act as one line, in the form of a campaign's moves."""
    match act:
        case CallAct():
            return f"hypervisor of the {place.label}: {act}"
        case PassAct():
            return f"clock of the {place.label}: {act}"
    return f"client {act.client}, {channel_name(act.channel)} of the {place.label}: {act}"


class CellPlayer:
    """Plays the cells of one place. `make` builds the place: a scene after the acts of its path, and the
    host's counts before them. `copies`: whether its host can be copied."""

    def __init__(
        self, place: Place, make: Callable[[], tuple[MatrixScene, Mapping[str, int]]], *, copies: bool
    ) -> None:
        self.place, self._make, self._copies = place, make, copies
        self._original: tuple[MatrixScene, Mapping[str, int]] | None = None
        self._checkpoint: Checkpoint | None = None  # of the events that the tape of every copy has

    def _scene(self) -> tuple[MatrixScene, Mapping[str, int]]:
        if not self._copies:
            return self._make()
        if self._original is None:
            self._original = self._make()
        scene, counts = self._original
        return scene.copy(), counts

    def play(self, cell: Cell) -> PlayedCell:
        """Plays a cell and judges it; the caller closes its scene."""
        scene, counts = self._scene()
        try:
            before, events = Before(scene), len(scene.pump.tape.events())
            scene.do(cell.act)
            outcome = before.outcome(scene, cell.act, self._subject(scene, cell.act))
            self._compare(scene, cell, outcome)
            if outcome.death is None:
                self._leave(scene, None if cell.act == DESTROY else counts)
            return PlayedCell(cell, outcome, self._judge(scene, cell, events), scene)
        except BaseException:
            scene.close()
            raise

    def _subject(self, scene: MatrixScene, act: Act) -> Connection | None:
        if isinstance(act, SendAct | LinkAct | LeaveAct):
            return scene.open.get((act.client, act.channel))
        return scene.open.get((1, self.place.channel))

    def close(self) -> None:
        """Closes the original scene."""
        if self._original is not None:
            self._original[0].close()

    # ---- what is owed

    def _compare(self, scene: MatrixScene, cell: Cell, outcome: CellOutcome) -> None:
        """Claims that the outcome equals the tables' answer, and that the process lives."""
        lives = "ROBUST-001"
        match cell.act:
            case SendAct(channel=channel, type=kind):
                lives = SURVIVES_ON.get(channel, SURVIVES).get(kind, lives)
            case LinkAct() if self.place.label == "target":
                lives = "ROBUST-008"
            case LeaveAct():
                lives = "ROBUST-011"
        alive = outcome.death is None
        claim = scene.pump.tape.claim
        claim(
            lives,
            kept=alive,
            expected=f"{cell.act}: the server lives on",
            seen=f"it ended by {outcome.death}",
        )
        if not alive:
            return
        owed = self._owed(cell)
        if owed is None or _not_offered(self._subject(scene, cell.act), cell.act):
            return
        identifier, expected, seen = owed[0], _words(cell, owed[1]), _seen(outcome, owed[1])
        claim(identifier, kept=expected == seen, expected=expected, seen=seen)

    def _owed(self, cell: Cell) -> tuple[str, Brings] | None:
        """The requirement and the expected answer; None if the server has only to survive."""
        place, act = self.place, cell.act
        found: tuple[str, Brings] | None = None
        match act:
            case SendAct():
                owed = answer(act.channel, place.answers, act.type)
                found = (
                    requirement(act.channel, place.answers, act.type),
                    Brings(says=owed.says, ends=owed.ends, free=owed.free),
                )
            case CallAct():
                found = HOST_CALL, _call(place, act)
            case LinkAct():
                there = act.channel == MAIN or act.channel in PLAIN_CHANNELS
                found = (
                    LINK,
                    host_answers.link(act.channel, act.id, place.answers, there=there, target=place.arrives),
                )
            case LeaveAct(how=LeaveHow.HALF_CLOSE):
                found = LEAVE, Brings(ends=place.state is not State.TARGET_SILENT)
        return found if found and not found[1].free else None

    # ---- the end

    def _leave(self, scene: MatrixScene, counts: Mapping[str, int] | None) -> None:
        """All clients leave, time passes, and the host's counts are compared (`counts`: the earlier ones;
        None if no server is left to count)."""
        for connection in list(scene.connections()):
            connection.close()
        scene.settle()
        if counts is None:
            return
        with suppress(HarnessError):
            scene.host.advance(LONG_MS)
            scene.settle()
            now = scene.host.stats()
            left = now["fds"] - counts["fds"]
            scene.pump.tape.claim(
                LEFTOVERS,
                kept=left <= 0 and not now["clients"] and now["watches"] <= counts["watches"],
                expected="no descriptors left behind",
                seen=f"{left} descriptors left behind, {now['clients']} clients, {now['watches']} watches",
            )
        if not scene.host.life().alive:  # its death is on the tape only after another turn of the pump
            scene.pump.turn()

    def _judge(self, scene: MatrixScene, cell: Cell, before: int) -> Judgement:
        """The oracle's findings on the server. If the act is one that a correct client would not do, only the
        findings that the server must survive it, and those of the tables, count."""
        proper = proper_act(self.place, cell.act)
        events: list[Event] = scene.pump.tape.events()
        oracle = self._oracle(events[:before])
        prefix = len(oracle.judgement.findings)
        for event in events[before:]:
            oracle.observe(event)
        judged = oracle.close()
        judged.findings = [
            f
            for index, f in enumerate(scene.pump.tape.filed(judged.findings))
            if CATALOGUE[f.requirement].duty == "server"
            and (index < prefix or proper or f.level is Level.ROBUST or f.requirement.startswith("CELL-"))
        ]
        return judged

    def _oracle(self, way: list[Event]) -> Oracle:
        """An oracle that has observed the events of the way into the place. Copies have the very same events
        on their tapes, so that these are judged once for all copies."""
        if self._copies and self._checkpoint is None:
            self._checkpoint = Checkpoint(way)
        if self._checkpoint is not None and self._checkpoint.is_of(way):
            return self._checkpoint.oracle()
        oracle = Oracle()
        for event in way:
            oracle.observe(event)
        return oracle


def proper_act(place: Place, act: Act) -> bool:
    """Whether a client or hypervisor that keeps to the protocol could do this at this place."""
    match act:
        case SendAct():
            return may_send(act.channel, place.state, act.type)
        case LinkAct():
            if act.channel == MAIN:
                return act.id is LinkId.ZERO
            left = place.state in (State.ENDED, State.SWITCHED, State.FLUSH_DUE, State.GONE)
            return act.id is LinkId.OWN and not left and "asked twice" not in place.name
        case CallAct():
            return act.name not in ENDING
        case LeaveAct():
            return act.how is not LeaveHow.HALF_CLOSE  # the tape has no event for a half-close
    return True


def _call(place: Place, call: CallAct) -> Brings:
    """The effect of a call, by the call's name and the arguments that matter."""
    table = host_answers.CALLS if place.channel == MAIN else host_answers.CHANNEL_CALLS
    key = call.name
    if call.name == "migrate_end":
        key = f"migrate_end {call.args['completed']}"
    elif call.name == "set_ticket":
        key = f"set_ticket {call.args['fail_if_connected']} {call.args['disconnect_if_connected']}"
    elif call.name == "chardev_send" and place.stopped:
        key = "chardev_send, machine stopped"
    elif call.name == "agent_send" and AGENT_START in place.path:
        key = "agent_send, agent started"
    row = table.get(f"{call.name} {call.args.get('device')}") or table.get(key)
    if row is None:
        return Brings(free=True)
    return row.get(place.answers, row[None])


def _words(cell: Cell, owed: Brings) -> str:
    """The expected answer, in the form in which `_seen` describes the outcome."""
    channel = cell.place.channel if isinstance(cell.act, CallAct | PassAct) else cell.act.channel
    seamless = cell.place.settings.get("seamless") and not cell.place.settings.get("environment")
    instead = {MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN: MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS}
    says = [instead.get(kind, kind) if seamless and channel == MAIN else kind for kind in owed.says]  # type: ignore[call-overload]
    names = [message_name(channel, Side.SERVER, kind) for kind in says]
    return _answer_text(owed.result, names, owed.ends)


def _seen(outcome: CellOutcome, owed: Brings) -> str:
    return _answer_text(outcome.result if owed.result else None, outcome.said, outcome.end is not None)


def _answer_text(result: str | None, said: Sequence[str], ended: bool) -> str:
    """An answer in words: return value or link error, messages, and whether the connection ended."""
    parts = [result or "", *(said or ["silence"]), "then the end" if ended else ""]
    return ", ".join(filter(None, parts))


def _not_offered(connection: Connection | None, act: Act) -> bool:
    """Whether a client must not send this, because the build cannot decompress: then the server must only
    survive it."""
    if not isinstance(act, SendAct) or act.type != COMPRESSED or act.channel not in VMC or connection is None:
        return False
    offered = connection.reply.channel_caps
    return not (offered and offered[0] >> SpicevmcCap.SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4 & 1)
