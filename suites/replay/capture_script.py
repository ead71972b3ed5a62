# SPDX-License-Identifier: GPL-2.0-only
"""A capture as a script: the hosts that it needs, and the acts of client and hypervisor, in order.

Each act lists what its actor had received before it: received messages, and not times, steer the replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dissectors.capture import CaptureError
from dissectors.conversation.conversation import Connection, Conversation
from dissectors.conversation.main_order import ANNOUNCEMENTS
from dissectors.conversation.migration_steps import ENDS
from dissectors.framing.events import Closed, Event, Gap, Garbage, HostEvent, LinkBytes, Message
from dissectors.rules.inspector import Inspection
from dissectors.wire.constants import (
    ChannelType,
    LinkErr,
    MsgBase,
    MsgcBase,
    MsgInputs,
    MsgMain,
    Side,
    channel_name,
)
from dissectors.wire.enums import MouseMode
from fixtures.system.hosts import SEVERAL_CLIENTS, UsageError
from suites.replay.script import (
    Action,
    Advance,
    Announce,
    Calls,
    Complete,
    Leave,
    Open,
    Say,
    Script,
    ScriptServer,
    Seen,
)
from suites.replay.spoken import SpokenMessage, compared, spoken

MAIN = ChannelType.SPICE_CHANNEL_MAIN


def telling(message: Message) -> bool:
    """Whether a replay waits for this server message: not for pictures, sound, time and acknowledgement."""
    if message.sender is not Side.SERVER:
        return False
    if message.channel == MAIN:
        return message.type in (MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_MIGRATE_DATA) or (
            message.type in _COMPARED_ON_MAIN
        )
    return message.type in (MsgBase.SPICE_MSG_MIGRATE, MsgBase.SPICE_MSG_MIGRATE_DATA)


def spoken_of(event: Event) -> SpokenMessage | None:
    """What an event says of its server, in the form that a replay compares; None if it is not compared."""
    if isinstance(event, LinkBytes):
        return spoken(event) if event.sender is Side.SERVER else None
    if isinstance(event, Message) and event.whole and (telling(event) or compared(event)):
        return spoken(event)
    return None


#: Messages of other channels whose first one a replay waits for: it shows that the channel works.
_FIRST: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {
        ChannelType.SPICE_CHANNEL_DISPLAY: (MsgBase.SPICE_MSG_SET_ACK,),
        ChannelType.SPICE_CHANNEL_CURSOR: (MsgBase.SPICE_MSG_SET_ACK,),
        ChannelType.SPICE_CHANNEL_INPUTS: (MsgInputs.SPICE_MSG_INPUTS_INIT,),
    }
)
_UNTIMELY = {
    MsgMain.SPICE_MSG_MAIN_MULTI_MEDIA_TIME,
    MsgMain.SPICE_MSG_MAIN_AGENT_DATA,
    MsgMain.SPICE_MSG_MAIN_AGENT_TOKEN,
}
_COMPARED_ON_MAIN = frozenset(MsgMain) - _UNTIMELY
#: Bodies above this size are left out of a recording's ladder, bytes.
LARGE_BODY = 4096
CALLBACKS = frozenset({"migrate_connect_complete", "migrate_end_complete"})
#: Messages that a client sends by itself.
_REFLEXES = frozenset({MsgcBase.SPICE_MSGC_PONG, MsgcBase.SPICE_MSGC_ACK, MsgcBase.SPICE_MSGC_ACK_SYNC})
#: Calls that a replay repeats as recorded, if the host supports them.
_CALLS = frozenset(
    {"migrate_connect", "migrate_start", "migrate_end", "vm_start", "vm_stop", "agent_attach", "agent_detach"}
)
#: A channel type -> the devices that give a machine this channel.
DEVICES: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        ChannelType.SPICE_CHANNEL_INPUTS: ("keyboard", "mouse"),
        ChannelType.SPICE_CHANNEL_DISPLAY: ("display",),
        ChannelType.SPICE_CHANNEL_CURSOR: ("display",),
        ChannelType.SPICE_CHANNEL_PLAYBACK: ("playback",),
        ChannelType.SPICE_CHANNEL_RECORD: ("record",),
        ChannelType.SPICE_CHANNEL_USBREDIR: ("usbredir",),
        ChannelType.SPICE_CHANNEL_SMARTCARD: ("smartcard",),
        ChannelType.SPICE_CHANNEL_WEBDAV: ("webdav",),
    }
)


def read(path: Path, *, keylog: Path | None = None) -> Script:
    """The script of a capture; `keylog` decrypts its TLS. Raises UsageError with one line if the capture has
    nothing to play."""
    try:
        inspection = Inspection([path], keylog=keylog, everything=True)
    except CaptureError as error:
        raise UsageError(str(error)) from None
    events = [event for event, _ in inspection.run()]
    if inspection.error is not None and not events:
        raise UsageError(str(inspection.error))
    view = inspection.oracle.conversation
    if not any(connection.mess for connection in view.connections.values()):
        raise UsageError(f"{path}: no SPICE link stage in this capture: there is nothing to replay")
    script = _Reader(view, events).script()
    script.notes += [str(inspection.error)] if inspection.error else []
    return script


def _light(event: Event) -> Event:
    """The event without a large body: a ladder shows only the message's name."""
    if isinstance(event, Message) and len(event.body) > LARGE_BODY:
        return replace(event, body=b"", whole=False)
    return event


class _Reader:
    """Reads the events of a conversation, in order."""

    def __init__(self, view: Conversation, events: Sequence[Event]) -> None:
        self.view = view
        self.events = sorted(events, key=lambda event: event.time)
        self.labels = _labels(view)
        self.seen: Counter[tuple[int | str, str]] = Counter()
        self.actions: list[tuple[Action, Seen]] = []
        self.clocks: dict[str, float] = {}
        self.moved: set[str] = set()
        self.announced: set[str] = set()
        called = {e.name for e in self.events if isinstance(e, HostEvent)}
        self.recorded = "call:migrate_connect" in called
        self.literal = "call:vm_stop" in called or not self.recorded

    def script(self) -> Script:
        """The whole script of the capture."""
        notes: list[str] = []
        spoken: dict[int, list[SpokenMessage]] = {}
        for event in self.events:
            if isinstance(event, Message | LinkBytes) and (said := spoken_of(event)):
                spoken.setdefault(event.connection, []).append(said)
            if isinstance(event, Gap | Garbage):
                notes = [f"the recording lacks bytes of connection {event.connection}: they are not replayed"]
            for action in self._actions(event):
                self.actions.append((action, dict(self.seen)))
            self._note(event)
        connections = {n: c for n, c in self.view.connections.items() if c.mess and c.host in self.labels}
        names = {n: f"{channel_name(c.channel)} of the {self.labels[c.host]}" for n, c in connections.items()}
        return Script(
            servers=list(self._servers()),
            actions=self.actions,
            sessions=self._sessions(),
            spoken=spoken,
            names=names,
            notes=notes,
            host_calls="recorded" if self.recorded else "inferred from the messages",
            events=[_light(event) for event in self.events],
        )

    def _note(self, event: Event) -> None:
        if isinstance(event, Message) and event.sender is Side.SERVER:
            if telling(event):
                self.seen[event.connection, event.name] += 1
            elif event.type in _FIRST.get(event.channel, ()):
                self.seen[event.connection, event.name] = 1
        elif isinstance(event, HostEvent) and event.name in CALLBACKS:
            self.seen[event.host, event.name] += 1

    def _sessions(self) -> dict[int, int]:
        return {
            e.connection: int(e.packet.session_id)
            for e in self.events
            if isinstance(e, Message) and self._is_init(e)
        }

    # ---- actions

    def _actions(self, event: Event) -> Iterator[Action]:
        if isinstance(event, HostEvent):
            yield from self._host(event)
            return
        number = getattr(event, "connection", 0)
        connection = self.view.connections.get(number)
        if connection is None or connection.host not in self.labels or connection.mess is None:
            return
        match event:
            case LinkBytes(kind="mess"):
                yield self._open(connection)
            case Message(sender=Side.CLIENT) if event.type not in _REFLEXES and event.whole:
                yield Say(number, event.type, event.body, self._relayed(connection, event))
            case Message(sender=Side.SERVER) if not self.recorded:
                yield from self._inferred(connection, event)
            case Closed(by=Side.CLIENT):
                yield Leave(number, event)

    def _open(self, connection: Connection) -> Open:
        assert connection.mess is not None
        result = connection.result.raw if connection.result else b""
        return Open(
            connection=connection.number,
            host=self.labels[connection.host],
            channel=connection.channel,
            channel_id=connection.channel_id,
            tls=connection.opened is not None and connection.opened.tls,
            mess=connection.mess.raw,
            common=connection.client_common,
            ticket=connection.ticket is not None,
            denied=result == LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED.to_bytes(4, "little"),
        )

    def _relayed(self, connection: Connection, message: Message) -> int | None:
        """The connection from which this MIGRATE_DATA was relayed."""
        if message.type != MsgcBase.SPICE_MSGC_MIGRATE_DATA:
            return None
        for event in self.events:
            if (
                isinstance(event, Message)
                and event.sender is Side.SERVER
                and event.type == MsgBase.SPICE_MSG_MIGRATE_DATA
                and event.channel == message.channel
                and event.connection != message.connection
                and event.body == message.body
            ):
                return event.connection
        return None

    def _inferred(self, connection: Connection, message: Message) -> Iterator[Action]:
        """The hypervisor's calls that a message implies: the first such message of each channel."""
        host = self.labels[connection.host]
        target = self._target(connection.session.main if connection.session else connection)
        kind = message.type if connection.is_main or message.type == MsgBase.SPICE_MSG_MIGRATE else None
        if kind in ANNOUNCEMENTS - ENDS:
            self.announced.add(host)
            yield Announce(host, target, self._arguments(message))
        elif kind == MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST and host not in self.announced:
            yield Announce(host, target, self._arguments(message))
            yield Complete(host, target)
        elif kind in ENDS and host in self.announced:
            self.announced.discard(host)
            yield Complete(host, target, succeeded=kind != MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL)

    def _arguments(self, message: Message) -> dict[str, Any]:
        subject = getattr(message.packet, "cert_subject", None)
        return {"subject": subject.rstrip(b"\0").decode("utf-8", "replace")} if subject else {}

    def _target(self, connection: Connection | None = None, port: int = 0, source: str = "") -> str:
        """The target of a migration: found by its sessions, by its port, otherwise the next host."""
        here = self.labels[connection.host] if connection else source
        for migration in reversed(self.view.migrations):
            known = connection is not None and migration.source.main is connection
            if known and migration.target is not None and migration.target.host in self.labels:
                return self.labels[migration.target.host]
        for index, label in self.labels.items():
            if any(e.port == port for e in self.view.hosts[index].endpoints):
                return label
        others = [label for label in self.labels.values() if label != here]
        return others[0] if others else "target"

    def _host(self, event: HostEvent) -> Iterator[Action]:
        """The recorded calls of the hypervisor."""
        if event.host not in self.labels.values():
            return
        yield from self._time(event)
        name = event.name.removeprefix("call:")
        if name == event.name or name not in _CALLS:
            return
        args = dict(event.args)
        target = self._target(port=int(args.get("port") or args.get("tls_port") or 0), source=event.host)
        if name == "migrate_connect":
            yield Announce(event.host, target, {"subject": args.get("subject")})
        elif self.literal:
            yield Calls(event.host, name, args)
        elif name == "migrate_start":
            self.moved.add(event.host)
        elif name == "migrate_end":
            moved = event.host in self.moved
            yield Complete(event.host, target, bool(args.get("completed")), moved)

    def _time(self, event: HostEvent) -> Iterator[Action]:
        settings = self.view.host_of(event.host).settings
        if event.clock_ms is None or not settings.get("virtual_clock"):
            return
        passed = event.clock_ms - self.clocks.get(event.host, event.clock_ms if not self.clocks else 0.0)
        self.clocks[event.host] = event.clock_ms
        if passed >= 1:
            yield Advance(event.host, round(passed))

    # ---- hosts

    def _servers(self) -> Iterator[ScriptServer]:
        wanted = set(self.labels.values())
        for index, label in self.labels.items():
            mine = [c for c in self.view.connections.values() if c.host == index and c.mess]
            known = self.view.hosts[index].settings
            yield ScriptServer(
                label,
                tls=any(c.opened is not None and c.opened.tls for c in mine),
                ticket=bool(known.get("ticket")),
                settings=self._settings(label, known),
            )
        announced = {a.target for a, _ in self.actions if isinstance(a, Announce | Complete)}
        for label in sorted(announced - wanted):
            yield ScriptServer(label, tls=False, ticket=False, settings=self._settings(label, {}))

    def _settings(self, label: str, known: Mapping[str, Any]) -> dict[str, Any]:
        if "devices" in known:
            environment = SEVERAL_CLIENTS if known.get("many_clients") else {}
            uuid = known.get("uuid")
            return {
                "name": known.get("name"),
                "uuid": bytes.fromhex(str(uuid)) if uuid else None,
                "devices": tuple(known["devices"]),
                "seamless": bool(known.get("seamless")),
                "incoming": bool(known.get("incoming")),
                "environment": environment,
            }
        return {
            **self._machine(),
            "devices": tuple(self._devices()),
            "seamless": any(m.seamless for m in self.view.migrations),
            "incoming": label != "source",
        }

    def _machine(self) -> dict[str, Any]:
        """Name and UUID of the machine, as its server sent them."""
        found: dict[str, Any] = {}
        for event in self.events:
            if not isinstance(event, Message) or event.channel != MAIN or event.sender is not Side.SERVER:
                continue
            if event.type == MsgMain.SPICE_MSG_MAIN_NAME:
                found["name"] = bytes(event.packet.vm_name).rstrip(b"\0").decode("utf-8", "replace")
            elif event.type == MsgMain.SPICE_MSG_MAIN_UUID:
                found["uuid"] = bytes(event.packet.uuid)
        return found

    def _devices(self) -> Iterable[str]:
        """The devices of the whole conversation: a machine has the same ones at source and target."""
        channels = {c.channel for c in self.view.connections.values()}
        channels |= {channel for session in self.view.sessions for channel, _ in session.offered}
        found = dict.fromkeys(name for channel in sorted(channels) for name in DEVICES.get(channel, ()))
        inits = [e.packet for e in self.events if isinstance(e, Message) and self._is_init(e)]
        agent = any("_AGENT_" in name for (_, name) in self.seen) or any(i.agent_connected for i in inits)
        pointer = any(int(i.supported_mouse_modes) & MouseMode.SPICE_MOUSE_MODE_CLIENT for i in inits)
        if pointer:  # the client's mouse mode needs a tablet and a screen
            found |= dict.fromkeys(("display", "tablet"))
        return [*found, *(["agent"] if agent else [])]

    @staticmethod
    def _is_init(event: Message) -> bool:
        main = event.channel == MAIN and event.sender is Side.SERVER
        return main and event.type == MsgMain.SPICE_MSG_MAIN_INIT


def _labels(view: Conversation) -> dict[int, str]:
    """Host -> its label: as recorded, else source, target, target2 ... in the order of links."""
    found: dict[int, str] = {}
    used = {host.label for host in view.hosts if host.label}
    free = (name for name in _names() if name not in used)
    for connection in view.connections.values():
        if connection.mess is not None and connection.host >= 0 and connection.host not in found:
            found[connection.host] = view.hosts[connection.host].label or next(free)
    for index, host in enumerate(view.hosts):
        if host.label is not None and host.settings:
            found.setdefault(index, host.label)
    return found


def _names() -> Iterator[str]:
    yield "source"
    yield "target"
    number = 2
    while True:
        yield f"target{number}"
        number += 1
