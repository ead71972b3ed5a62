# SPDX-License-Identifier: GPL-2.0-only
"""What the agent and the client tell each other, put together from the AGENT_DATA that carries it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dissectors.framing.events import Event, Gap, Message
from dissectors.wire.constants import ChannelType, MsgcMain, MsgMain, Side

if TYPE_CHECKING:
    from dissectors.channels.agent import AgentStream, VDAgentMessage

LARGEST = 1 << 16  # bytes of an agent message that are taken apart; of a larger one the header is shown
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
            self._streams.pop(event.connection, None)  # where the next one begins nobody knows
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
    """Name and size; what is in a clipboard or a file is not for a summary."""
    return f"{packet.sprintf('%type%')} ({packet.size or 0:,} bytes)"


def lines(packets: list[VDAgentMessage]) -> Iterator[str]:
    """One line for each."""
    for packet in packets:
        problems = packet.problems()
        yield f"agent: {title(packet)}" + (f" malformed: {problems[0]}" if problems else "")
