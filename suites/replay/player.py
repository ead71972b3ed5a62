# SPDX-License-Identifier: GPL-2.0-only
"""Plays a recording or a finding against fresh server processes, and judges them.

Session ids, ticket, certificate and addresses are the new servers' own; everything else is as recorded. A
client acts when it has received what it had received in the recording, or when a deadline passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from dissectors.framing.events import Ending, Endpoint
from dissectors.wire.constants import MsgBase, MsgcBase, MsgMain, Side, message_name
from fixtures.bench import Bench
from fixtures.peer import Capabilities, Connection, Deadline, PeerFailure
from fixtures.peer.transport import trusting
from fixtures.system.hosts import Ability, HarnessError, Host, Unsupported, UsageError
from suites.replay import capture_script as recording
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
from suites.replay.spoken import SpokenDifference, SpokenMessage, differences

#: How long the replay waits for a message that the recorded client had received, s.
DEADLINE = 5.0
#: The offset of connection_id in a link message (after SpiceLinkHeader; protocol.h, SpiceLinkMess).
ID_AT = slice(16, 20)
PASSWORD = "replay"


class Recorded(Connection):
    """A connection that sends the recorded link message, with the connection_id of this run."""

    mess = b""

    def send_mess(self, **changes: Any) -> None:
        """Sends the recorded bytes."""
        self.send_raw(self.mess)


@dataclass
class Replay:
    """One play of a script. `accounts`: what each connection's server said, in the recording and in this
    run."""

    bench: Bench
    script: Script
    password: str | None = None
    deadline: float = DEADLINE
    hosts: dict[str, Host] = field(default_factory=dict)
    connections: dict[int, Connection] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=lambda: {0: 0})
    troubles: list[str] = field(default_factory=list)
    _missed: set[tuple[int | str, str]] = field(default_factory=set)

    def run(self) -> None:
        """Starts the hosts and plays everything; the bench judges (`Bench.finish`)."""
        for server in self.script.servers:
            self.hosts[server.label] = self._start(server)
        for action, seen in self.script.actions:
            self._await(seen)
            self._learn()
            try:
                self._do(action)
            except (PeerFailure, HarnessError, UsageError) as error:
                self.troubles.append(str(error))
        self._await(
            Counter(
                (number, said.name)
                for number, account in self.script.spoken.items()
                for said in account
                if not said.name.startswith("link ")
            )
        )

    def _start(self, server: ScriptServer) -> Host:
        settings = dict(server.settings)
        if server.tls:
            settings["tls"] = self.bench.certificate(server.label).settings()
        if self.password is not None or server.ticket:
            settings["ticket"] = self._password
        host = self.bench.start(server.label, **settings)
        if not getattr(host, "reports_calls", True):
            raise Unsupported(
                "a recording is played call by call, and this deployment's migration is one command"
            )
        return host

    @property
    def _password(self) -> str:
        return PASSWORD if self.password is None else self.password

    # ---- waiting

    def _await(self, seen: Seen) -> None:
        """Waits until everything has come that the recorded actor had received, except what has already
        failed to come."""
        due = {what: count for what, count in seen.items() if what not in self._missed}
        try:
            self.bench.pump.until(
                lambda: not any(self._lacking(due)), self._patience(), "the recorded messages"
            )
        except Deadline:
            self._missed.update(self._lacking(due))

    def _patience(self) -> float:
        """How long to wait, s: not at all if every host can report that it has nothing left to do."""
        self.bench.settle()
        exact = all(Ability.VIRTUAL_CLOCK in host.abilities for host in self.hosts.values())
        return 0.0 if exact and not self._threads() else self.deadline

    def _threads(self) -> bool:
        return any("display" in server.settings.get("devices", ()) for server in self.script.servers)

    def _lacking(self, due: Seen) -> Iterator[tuple[int | str, str]]:
        for (where, name), count in due.items():
            if isinstance(where, str):
                host = self.hosts.get(where)
                able = host is not None and Ability.CALLBACKS in host.abilities
                if host is not None and able and self.bench.seen(host, name) < count:
                    yield where, name
            elif (
                (connection := self.connections.get(where))
                and not connection.ending
                and (sum(message.name == name for message in connection.messages) < count)
            ):
                yield where, name

    def _learn(self) -> None:
        """Notes which session of this run corresponds to which of the recording."""
        for number, recorded in self.script.sessions.items():
            connection = self.connections.get(number)
            if connection and (got := connection.got(MsgMain.SPICE_MSG_MAIN_INIT)):
                self.ids[recorded] = int(got[0].packet.session_id)

    # ---- acting

    def _do(self, action: Action) -> None:
        match action:
            case Open():
                self._open(action)
            case Say():
                self._say(action)
            case Leave():
                connection = self.connections.get(action.connection)
                if connection:
                    connection.reset() if action.closed.how is Ending.RESET else connection.close()
            case Announce():
                arguments = {key: value for key, value in action.arguments.items() if value is not None}
                self.hosts[action.host].announce(self.hosts[action.target], **arguments)
            case Complete():
                source, target = self.hosts[action.host], self.hosts[action.target]
                if action.succeeded or action.moved:
                    source.complete(target, succeeded=action.succeeded)
                else:
                    source.cancel(target)
            case Calls():
                if Ability.CALLS in self.hosts[action.host].abilities:
                    self.hosts[action.host].call(action.function, **action.arguments)
            case Advance():
                if Ability.VIRTUAL_CLOCK in self.hosts[action.host].abilities:
                    self.hosts[action.host].advance(action.ms)

    def _open(self, action: Open) -> None:
        host = self.hosts[action.host]
        port = host.tls_port if action.tls else host.port
        if port is None:
            raise HarnessError(f"the {host.label} has no {'TLS ' if action.tls else ''}port")
        made = Recorded(
            self.bench.pump,
            Endpoint(host.address, port),
            channel=action.channel,
            channel_id=action.channel_id,
            password=self._password + "x" * action.denied,
            capabilities=Capabilities(action.common),  # type: ignore[arg-type]  # numbers will do
            tls=trusting(self.bench.certificate(host.label).ca) if action.tls else None,
        )
        self.connections[action.connection] = made
        recorded = int.from_bytes(action.mess[ID_AT], "little")
        wanted = self.ids.get(recorded, recorded)
        made.mess = action.mess[:16] + wanted.to_bytes(4, "little") + action.mess[20:]
        if not action.ticket:
            made.send_mess()
            return
        made.link()

    def _say(self, action: Say) -> None:
        connection = self.connections.get(action.connection)
        if connection is None or connection.ending:
            return
        body = action.body
        if action.type == MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK:
            connection.answers.none()  # the mark is the last message that the source reads
        if action.relayed is not None and (source := self.connections.get(action.relayed)):
            got = source.got(MsgBase.SPICE_MSG_MIGRATE_DATA)
            body = got[-1].body if got else body
        connection.send(action.type, body)

    # ---- what came of it

    @property
    def moves(self) -> list[str]:
        """The acts of the clients, a line each, in the form of a campaign's moves."""
        channels: dict[int, int] = {}
        lines = []
        for action, _ in self.script.actions:
            match action:
                case Open():
                    channels[action.connection] = action.channel
                    lines.append(f"{self.script.names[action.connection]}: link")
                case Say():
                    said = message_name(channels[action.connection], Side.CLIENT, action.type)
                    lines.append(f"{self.script.names[action.connection]}: {said}")
        return lines

    @property
    def accounts(self) -> dict[int, tuple[list[SpokenMessage], list[SpokenMessage]]]:
        """Connection of the recording -> its server's messages in the recording and in this run."""
        return {
            number: (self.script.spoken.get(number, []), self._here(number)) for number in self.script.names
        }

    def _here(self, number: int) -> list[SpokenMessage]:
        connection = self.connections.get(number)
        if connection is None:
            return []
        events = sorted([*connection.link_stage, *connection.messages], key=attrgetter("time"))
        return [said for event in events if (said := recording.spoken_of(event))]

    @property
    def different(self) -> dict[int, list[SpokenDifference]]:
        """Connection of the recording -> the differences in its server's messages; without connections that
        agree."""
        found = {number: list(differences(*both)) for number, both in self.accounts.items()}
        return {number: several for number, several in found.items() if several}

    @property
    def differences(self) -> list[str]:
        """The differences as lines."""
        return [
            f"{self.script.names[number]} (connection {number}): {one}"
            for number, several in self.different.items()
            for one in several
        ]
