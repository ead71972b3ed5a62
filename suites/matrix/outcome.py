# SPDX-License-Identifier: GPL-2.0-only
"""What followed an act: messages, ends, callbacks, result; described in the words of the tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dissectors.framing.events import Ending
from dissectors.wire.constants import LinkErr, MsgBase, channel_name
from fixtures.peer import Connection
from suites.matrix.acts import Act, CallAct, LinkAct
from suites.matrix.scene import MatrixScene

#: A pointer in a log line: it differs from process to process.
ADDRESS = re.compile(r"0x[0-9a-f]{5,}")
#: Messages that a server may send at any time.
NOISE = frozenset({int(MsgBase.SPICE_MSG_PING)})


@dataclass(frozen=True)
class CellOutcome:
    """`said`: messages on the connection that the act is about (of a link: the new one). `end`: how this
    connection ended, None if it did not. `elsewhere`: messages on other connections, with their channel;
    `ended`: the other connections that ended. `callbacks`: the host's; `result`: a call's return value,
    or a link's error. `death`: how the process ended."""

    said: tuple[str, ...] = ()
    end: str | None = None
    elsewhere: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    callbacks: tuple[str, ...] = ()
    result: str | None = None
    death: str | None = None

    def __str__(self) -> str:
        parts = [] if self.result is None else [self.result]
        parts += self.said or ["silence"]
        parts += [f"then {self.end}"] if self.end else []
        parts += [f"[{text}]" for text in (*self.elsewhere, *self.ended, *self.callbacks)]
        return f"died: {self.death}" if self.death else ", ".join(parts)


class Before:
    """The state before an act."""

    def __init__(self, scene: MatrixScene) -> None:
        self._heard = {c.number: len(c.messages) for c in scene.open.values()}
        self._ended = {c.number for c in scene.open.values() if c.ending}
        self._events = len(scene.pump.tape.host_events)

    def outcome(self, scene: MatrixScene, act: Act, subject: Connection | None) -> CellOutcome:
        """What has happened since then. `subject`: the connection that the act is about."""
        connections = list(scene.connections())
        others = [c for c in connections if c is not subject]
        return CellOutcome(
            said=tuple(self._new(subject)) if subject else (),
            end=_end(subject),
            elsewhere=tuple(f"{_short(c)} {name}" for c in others for name in self._new(c)),
            ended=tuple(f"{_short(c)} {_end(c)}" for c in others if c.ending and c.number not in self._ended),
            callbacks=tuple(
                e.name for e in scene.pump.tape.host_events[self._events :] if e.name.endswith("_complete")
            ),
            result=_result(scene, act),
            death=_death(scene),
        )

    def _new(self, connection: Connection) -> list[str]:
        fresh = connection.messages[self._heard.get(connection.number, 0) :]
        return [m.name for m in fresh if m.type not in NOISE]


def _short(connection: Connection) -> str:
    return channel_name(connection.wanted.channel)


def _end(connection: Connection | None) -> str | None:
    if connection is None or connection.closed is None or connection.closed.by is None:
        return None
    ours = connection.closed.by.value == "client"
    return None if ours else str(connection.ending or Ending.TIMEOUT)


def _result(scene: MatrixScene, act: Act) -> str | None:
    if isinstance(act, CallAct):
        return f"returns {scene.result}"
    if isinstance(act, LinkAct):
        if scene.link_error is None:
            return "closed"
        names = {int(e): e.name for e in LinkErr}
        return names.get(int(scene.link_error), str(scene.link_error))
    return None


def _death(scene: MatrixScene) -> str | None:
    life = scene.host.life()
    if not life.alive:
        return ADDRESS.sub("0x...", f"{life.signal or life.status}: {life.message}")
    if any(e.name == "hung" for e in scene.pump.tape.host_events):
        return "it hangs"
    return None
