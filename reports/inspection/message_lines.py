# SPDX-License-Identifier: GPL-2.0-only
"""A line for each message, as they come: for all messages, or for those that matter to the story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rich.console import Console
from rich.text import Text

from dissectors.framing.events import (
    Closed,
    ConnectFailed,
    ConnectionEvent,
    Event,
    Gap,
    Garbage,
    HostEvent,
    LinkBytes,
    Message,
    Opened,
    ProxyHeader,
    ProxyTunnel,
    TlsAlert,
    TlsCertificate,
    TlsHello,
    WrongProtocol,
)
from dissectors.rules.judgement import FAILING, Finding
from dissectors.wire.constants import Side, channel_name
from dissectors.wire.visible_text import visible
from reports.inspection.agent_view import AgentTalk, lines
from reports.ladder import wording

INDENT = 57  # columns before a message's name


@dataclass(frozen=True)
class Filter:
    """Which lines to show. `types`: globs over a message's full or short name; `start`, `stop`: seconds
    since the first event."""

    channels: Sequence[str] = ()
    types: Sequence[str] = ()
    start: float | None = None
    stop: float | None = None

    def wants(self, time: float, channel: str, names: Sequence[str]) -> bool:
        """Whether to show a line with these facts."""
        if self.channels and channel.partition(" ")[0] not in self.channels and channel not in self.channels:
            return False
        if self.types and not any(fnmatchcase(name, glob) for name in names for glob in self.types):
            return False
        return (self.start is None or time >= self.start) and (self.stop is None or time <= self.stop)


class Lines:
    """Prints the lines. `everything`: routine messages too."""

    def __init__(self, console: Console, chosen: Filter, *, everything: bool) -> None:
        self._console = console
        self._filter = chosen
        self._everything = everything
        self._zero: float | None = None
        self._channels: dict[int, str] = {}
        self._servers: dict[int, str] = {}
        self._agent = AgentTalk()

    def show(self, event: Event, findings: Sequence[Finding]) -> None:
        """Shows one event, and the rules that it broke."""
        if self._zero is None:
            self._zero = event.time
        line = self._line(event, bool(findings))
        if line is not None:
            self._console.print(line, soft_wrap=True)
        for words in lines(self._agent.completed(event)):
            if line is not None:
                self._console.print(Text(" " * INDENT + visible(words)), soft_wrap=True)
        for found in findings:
            style = "bold red" if found.level in FAILING else "yellow"
            words = f"  ^ {found.requirement} [{found.level}] expected {found.expected}; seen: {found.seen}"
            self._console.print(Text(visible(words), style), soft_wrap=True)

    def _line(self, event: Event, broken: bool) -> Text | None:
        match event:
            case Opened() | ConnectFailed():
                self._servers[event.connection] = getattr(event, "host", None) or str(event.server)
            case LinkBytes(kind="mess"):
                self._channels[event.connection] = wording.channel_of_link(event)
            case Message():
                self._channels.setdefault(event.connection, channel_name(event.channel))
            case _:
                pass
        words = _words(event)
        if words is None:
            return None
        name, detail, routine = words
        time = event.time - (self._zero or 0.0)
        channel = self._channels.get(event.connection, "") if isinstance(event, ConnectionEvent) else ""
        names = (name, wording.short(event)) if isinstance(event, Message) else (name,)
        if not broken and (
            not self._filter.wants(time, channel, names) or (routine and not self._everything)
        ):
            return None
        frame = "" if event.frame is None else str(event.frame)
        head = f"{frame:>7} {time:>12.6f}  {self._where(event):<22} {channel:<10} "
        style = "red" if broken else "dim" if routine else ""
        return Text(visible(head + " ".join(filter(None, (name, detail)))), style)

    def _where(self, event: Event) -> str:
        if isinstance(event, HostEvent):
            return event.host
        if not isinstance(event, ConnectionEvent):
            return ""
        server = self._servers.get(event.connection, "")
        sender = getattr(event, "sender", None)
        arrow = {Side.CLIENT: "->", Side.SERVER: "<-"}.get(sender, "--") if sender else "--"
        return f"#{event.connection} {arrow} {server}"


def _words(event: Event) -> tuple[str, str, bool] | None:
    """(name, detail, is it routine); None for an event without a line."""
    match event:
        case Message():
            size = f"{event.size:,} bytes" + ("" if event.whole else ", not whole")
            return event.name, f"({size}) {wording.detail(event)}".rstrip(), wording.is_routine(event)
        case LinkBytes():
            return wording.link(event)
        case Opened():
            return "opened", f"by {event.client}" + (", TLS" if event.tls else ""), True
        case Closed():
            return str(event.how), f"by the {event.by}" if event.by else "", False
        case Gap():
            return "gap", f"{'?' if event.bytes is None else f'{event.bytes:,}'} bytes missing", False
        case Garbage():
            return "no SPICE", event.reason, False
        case ConnectFailed():
            return f"connection {event.how}", f"to {event.server} by {event.client}: {event.why}", False
        case TlsHello() | TlsCertificate() | TlsAlert() | ProxyTunnel() | ProxyHeader() | WrongProtocol():
            return wording.around(event)
        case HostEvent():
            return *wording.host(event), wording.is_backstage(event)
    return None
