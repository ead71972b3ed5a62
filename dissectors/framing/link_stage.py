# SPDX-License-Identifier: GPL-2.0-only
"""The link stage of one connection: the kind and size of its next packet, and what follows from each packet.

It moves both directions from stage to stage: capabilities decide the authentication and the header. Where a
capture lacks bytes, it says what is known all the same.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable

from dissectors.framing import link_sizes
from dissectors.framing.direction import Direction, Stage
from dissectors.wire.constants import LINK_HEADER_BYTES, SPICE_MAGIC, TICKET_BYTES, CommonCap, Side

_SELECTS = CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION
#: The stages of the link stage -> the `kind` of their packets.
KINDS = {
    Stage.MESS: "mess",
    Stage.REPLY: "reply",
    Stage.MECHANISM: "mechanism",
    Stage.TICKET: "ticket",
    Stage.RESULT: "result",
    Stage.SASL: "sasl",
}


class LinkStage:
    """What both sides have said in the link stage. `mini`: whether they have agreed on mini headers;
    `header_known`: whether that is certain; `linked`: whether the server has accepted the link."""

    def __init__(self) -> None:
        self.client, self.server = Direction(Stage.MESS), Direction(Stage.REPLY)
        self.channel = 0
        self.mini = False
        self.linked = False
        self.header_known = False
        self._caps_cut = False  # bytes of a link message or reply are missing: its capabilities are not known
        self._client_caps: frozenset[int] = frozenset()
        self._server_caps: frozenset[int] = frozenset()
        self._mechanism: int | None = None

    def copy(self) -> LinkStage:
        """An independent link stage in the same state."""
        made = copy.copy(self)
        made.client, made.server = self.client.copy(), self.server.copy()
        return made

    def direction(self, sender: Side) -> Direction:
        """What `sender` sends."""
        return self.client if sender is Side.CLIENT else self.server

    def size(self, direction: Direction) -> int | None:
        """Bytes of the direction's next packet; None: it is incomplete."""
        match direction.stage:
            case Stage.MESS:
                return link_sizes.mess_size(direction.buffer)
            case Stage.REPLY:
                return link_sizes.reply_size(direction.buffer)
            case Stage.SASL:
                is_answer = direction is self.server and direction.sasl_steps > 0
                return link_sizes.sasl_size(direction.buffer, is_answer=is_answer)
        if direction.stage is Stage.RESULT and self._caps_cut and self._mechanism is None:
            direction.lose()  # it may be SASL
            return None
        size = TICKET_BYTES if direction.stage is Stage.TICKET else 4
        return size if len(direction.buffer) >= size else None

    def is_second_reply(self, direction: Direction, raw: bytes) -> bool:
        """Whether the server sends a second link reply where the result, or a step of SASL, belongs."""
        return (
            direction is self.server
            and direction.stage in (Stage.RESULT, Stage.SASL)
            and raw[:4] == SPICE_MAGIC
        )

    def take(self, sender: Side, kind: str, raw: bytes) -> None:
        """Moves both directions as a packet demands. Of SASL only the server's steps decide."""
        if kind != "sasl" or sender is Side.SERVER:
            _AFTER[kind](self, raw)

    # ---- the effect of each packet

    def _after_mess(self, raw: bytes) -> None:
        self.client.stage = Stage.WAIT
        if len(raw) >= link_sizes.MESS_CAPS_AT:
            _, self.channel = struct.unpack_from("<IB", raw, LINK_HEADER_BYTES)
        if len(raw) >= LINK_HEADER_BYTES + link_sizes.MESS_FIXED_BYTES:
            self._client_caps = link_sizes.common_caps(raw, link_sizes.MESS_CAPS_AT)

    def _after_reply(self, raw: bytes) -> None:
        if link_sizes.refuses(raw):
            self.client.stage = self.server.stage = Stage.OVER
            return
        self._server_caps = link_sizes.common_caps(raw, link_sizes.REPLY_CAPS_AT)
        both = self._client_caps & self._server_caps
        self.server.stage = Stage.RESULT
        if self.client.stage is Stage.WAIT:
            self.header_known = not self._caps_cut
            self.mini = CommonCap.SPICE_COMMON_CAP_MINI_HEADER in both
            selects = _SELECTS in (self._server_caps if self._caps_cut else both)
            self.client.stage = Stage.MECHANISM if selects else Stage.TICKET

    def _after_mechanism(self, raw: bytes) -> None:
        (self._mechanism,) = struct.unpack("<I", raw)
        sasl = self._mechanism == CommonCap.SPICE_COMMON_CAP_AUTH_SASL
        self.client.stage = Stage.SASL if sasl else Stage.TICKET
        if self._caps_cut and not sasl and self._mechanism != CommonCap.SPICE_COMMON_CAP_AUTH_SPICE:
            for direction in (self.client, self.server):  # it was no mechanism
                direction.lose()
        if sasl:
            self.server.stage = Stage.SASL

    def _after_ticket(self, raw: bytes) -> None:
        self.client.stage = Stage.DATA if self.linked else Stage.WAIT
        if self.linked and self._caps_cut:
            self.client.lose()

    def _after_sasl(self, raw: bytes) -> None:
        if self.server.stage is Stage.SASL:
            self.server.sasl_steps += 1
            accepted = link_sizes.sasl_accepted(raw) if self.server.sasl_steps > 1 else None
            if accepted is not None:
                self.server.stage = Stage.RESULT if accepted else Stage.OVER

    def _after_result(self, raw: bytes) -> None:
        self.linked = raw == bytes(4)
        for direction in (self.client, self.server):
            if not self.linked:
                direction.stage = Stage.OVER
            elif direction.stage not in (Stage.LOST, Stage.MECHANISM, Stage.TICKET):
                direction.stage = Stage.DATA  # read a ticket first that the capture shows late
        if self.linked and not self.header_known:
            self.server.lose()
            if self.client.stage is Stage.DATA:
                self.client.lose()

    # ---- missing bytes

    def names_channel(self, size: int) -> bool:
        """Whether the `size` missing bytes are capabilities of a link message, whose end is known."""
        head = self.client.buffer
        whole = link_sizes.mess_end(head) or 0
        return (
            self.client.stage is Stage.MESS
            and len(head) >= link_sizes.MESS_CAPS_AT
            and len(head) + size <= whole
        )

    def take_cut_mess(self, size: int) -> bytes:
        """Takes a link message that lacks `size` bytes of its capabilities; returns the bytes before them."""
        raw = bytes(self.client.buffer)
        self.client.passing = (link_sizes.mess_end(raw) or 0) - len(raw) - size
        self.client.buffer.clear()
        self._caps_cut = True
        self._after_mess(raw)
        return raw

    def passes_over(self, direction: Direction, size: int) -> bool:
        """Whether missing bytes belong to a link reply or a ticket whose end is known all the same, as where
        each packet is cut by a snap length. What is there of that packet is not shown."""
        if size <= direction.passing:
            direction.passing -= size
            return True
        there = len(direction.buffer) + size
        selects = self._caps_cut or _SELECTS in self._client_caps
        if direction.stage is Stage.TICKET and there <= TICKET_BYTES:
            end = TICKET_BYTES
            self._after_ticket(b"")
        elif direction.stage is Stage.REPLY and self.client.stage is Stage.WAIT and selects:
            end = link_sizes.reply_end(direction.buffer) or 0
            if there > end:
                return False
            self._caps_cut = True
            self.client.stage, direction.stage = Stage.MECHANISM, Stage.RESULT
        else:
            return False
        direction.passing = end - there
        direction.buffer.clear()
        return True

    def lose_client(self) -> None:
        """Without the server's part of the link stage the beginning of the client's messages is unknown."""
        if self.client.stage not in (Stage.MESS, Stage.DATA, Stage.OVER, Stage.LOST):
            self.client.lose()


_AFTER: dict[str, Callable[[LinkStage, bytes], None]] = {
    "mess": LinkStage._after_mess,
    "reply": LinkStage._after_reply,
    "mechanism": LinkStage._after_mechanism,
    "ticket": LinkStage._after_ticket,
    "sasl": LinkStage._after_sasl,
    "result": LinkStage._after_result,
}
