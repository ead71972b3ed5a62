# SPDX-License-Identifier: GPL-2.0-only
"""The messages between agent and client, put together from the AGENT_DATA that carries them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dissectors.framing.events import Event, Gap, Message
from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain, Side

if TYPE_CHECKING:
    from dissectors.channels.agent import AgentStream, VDAgentMessage

LARGEST = 1 << 16  # bytes of an agent message that are decoded; of a larger message only the header is shown
_KINDS = {
    Side.SERVER: MsgMain.SPICE_MSG_MAIN_AGENT_DATA,
    Side.CLIENT: MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA,
}


class AgentTalk:
    """The agent messages of all main channels, each at the AGENT_DATA that completes it."""

    def __init__(self) -> None:
        self._streams: dict[int, dict[Side, AgentStream]] = {}

    def completed(self, event: Event) -> list[VDAgentMessage]:
        """The agent messages that an event completes; most events complete none."""
        if isinstance(event, Gap):
            self._streams.pop(event.connection, None)  # the place of the next message's beginning is unknown
        if not isinstance(event, Message) or event.channel != ChannelType.SPICE_CHANNEL_MAIN:
            return []
        if event.type != _KINDS[event.sender] or not event.whole:
            return []
        return self._stream(event).feed(event.body)

    def _stream(self, event: Message) -> AgentStream:
        from dissectors.channels.agent import AgentStream

        if event.connection not in self._streams:
            client = AgentStream(limit=LARGEST)
            both = {Side.CLIENT: client, Side.SERVER: AgentStream(other=client, limit=LARGEST)}
            self._streams[event.connection] = both
        return self._streams[event.connection][event.sender]


def title(packet: VDAgentMessage) -> str:
    """Name and size, without the content of a clipboard or a file."""
    return f"{packet.sprintf('%type%')} ({packet.size or 0:,} bytes)"


def lines(packets: list[VDAgentMessage]) -> Iterator[str]:
    """One line for each message."""
    for packet in packets:
        problems = packet.problems()
        yield f"agent: {title(packet)}" + (f" malformed: {problems[0]}" if problems else "")
