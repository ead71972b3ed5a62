# SPDX-License-Identifier: GPL-2.0-only
"""Judges the events once with which many conversations begin; each goes on with an oracle of its own."""

from __future__ import annotations

import io
import operator
import pickle
from collections.abc import Sequence
from typing import Any

from dissectors.framing.events import Event
from dissectors.rules.oracle import Oracle


class Checkpoint:
    """An oracle's state after `events`. Oracles that go on from it share these events, which never change,
    and the packets that were built of them. `oracle`: one that has heard just these, where there is one."""

    def __init__(self, events: Sequence[Event], oracle: Oracle | None = None) -> None:
        self._events = list(events)
        if oracle is None:
            oracle = Oracle()
            for event in self._events:
                oracle.observe(event)
        oracle.conversation.keeps_packets = True
        packed = io.BytesIO()
        places = {id(event): place for place, event in enumerate(self._events)}
        _Packer(packed, places).dump((oracle.conversation, oracle.judgement, oracle.remembered()))
        self._packed = packed.getvalue()

    def is_of(self, events: Sequence[Event]) -> bool:
        """Whether these are the very events."""
        return len(events) == len(self._events) and all(map(operator.is_, events, self._events))

    def oracle(self) -> Oracle:
        """One that has heard the events."""
        made = Oracle()
        made.conversation, made.judgement, remembered = _Unpacker(self._packed, self._events).load()
        made.remember(remembered)
        return made


class _Packer(pickle.Pickler):
    """Tells events by their place."""

    def __init__(self, file: io.BytesIO, places: dict[int, int]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._places = places

    def persistent_id(self, thing: Any) -> int | None:
        return self._places.get(id(thing)) if isinstance(thing, Event) else None


class _Unpacker(pickle.Unpickler):
    """What this process has packed itself."""

    def __init__(self, packed: bytes, events: Sequence[Event]) -> None:
        super().__init__(io.BytesIO(packed))
        self._events = events

    def persistent_load(self, place: Any) -> Any:
        return self._events[place]
