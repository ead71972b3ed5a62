# SPDX-License-Identifier: GPL-2.0-only
"""Judges a shared beginning of many conversations once; each continues from it with an oracle of its own."""

from __future__ import annotations

import io
import operator
import pickle
from collections.abc import Sequence
from typing import Any

from dissectors.conversation.conversation import Conversation
from dissectors.framing.events import Event
from dissectors.rules.oracle import Oracle


class Checkpoint:
    """An oracle's state after `events`. Oracles that continue from it share these events (they never change)
    and the packets built from them. `oracle`: an existing oracle that has observed exactly these events."""

    def __init__(self, events: Sequence[Event], oracle: Oracle | None = None) -> None:
        self._events = list(events)
        if oracle is None:
            oracle = Oracle()
            for event in self._events:
                oracle.observe(event)
        oracle.conversation.keeps_packets = True
        self._places = {id(event): place for place, event in enumerate(self._events)}
        self._conversation = self._pack(oracle.conversation)
        self._judged = self._pack((oracle.judgement, oracle.remembered()))

    def _pack(self, thing: object) -> bytes:
        packed = io.BytesIO()
        _Packer(packed, self._places).dump(thing)
        return packed.getvalue()

    def is_of(self, events: Sequence[Event]) -> bool:
        """Whether these are the checkpoint's own events (the same objects, in the same order)."""
        return len(events) == len(self._events) and all(map(operator.is_, events, self._events))

    def conversation(self) -> Conversation:
        """A new conversation with the events applied."""
        made: Conversation = _Unpacker(self._conversation, self._events).load()
        return made

    def oracle(self) -> Oracle:
        """A new oracle in the state after the events."""
        made = Oracle()
        made.conversation = self.conversation()
        made.judgement, remembered = _Unpacker(self._judged, self._events).load()
        made.remember(remembered)
        return made


class _Packer(pickle.Pickler):
    """Pickles each event as its index among the events."""

    def __init__(self, file: io.BytesIO, places: dict[int, int]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._places = places

    def persistent_id(self, thing: Any) -> int | None:
        return self._places.get(id(thing)) if isinstance(thing, Event) else None


class _Unpacker(pickle.Unpickler):
    """Loads what this process has pickled itself; no outside data comes here."""

    def __init__(self, packed: bytes, events: Sequence[Event]) -> None:
        super().__init__(io.BytesIO(packed))
        self._events = events

    def persistent_load(self, place: Any) -> Any:
        return self._events[place]
