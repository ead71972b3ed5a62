# SPDX-License-Identifier: GPL-2.0-only
"""Plays a recording or a finding against fresh server processes, and judges what they do.

Session ids, ticket, certificate and addresses are the new servers' own; everything else is as recorded. A
client acts when it has seen what it had seen in the recording, or when the deadline says that it will not.
"""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from dissectors.framing.events import Ending, Endpoint
from dissectors.rules.judgement import Finding, Judgement
from dissectors.wire.constants import MsgBase, MsgcBase, MsgMain
from fixtures.bench import Bench
from fixtures.bench.launchers import Launcher, Launchers
from fixtures.peer import Capabilities, Connection, Deadline, PeerFailure
from fixtures.peer.transport import trusting
from fixtures.system.certificates import Authority
from fixtures.system.hosts import Ability, HarnessError, Host, UsageError
from reports.commands.fetching import drawn
from reports.run import deviations
from reports.run import run_directory as directory
from reports.run.run_events import Deviation
from suites.fuzz import finding_file as findings
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
    Seen,
    Server,
)

#: How long something that the recorded client had seen may take, s.
DEADLINE = 5.0
CONFORMANT, NOT_CONFORMANT, GONE = 0, 1, 4
#: Where connection_id lies in a link message (after SpiceLinkHeader; protocol.h, SpiceLinkMess).
ID_AT = slice(16, 20)
PASSWORD = "replay"


class Recorded(Connection):
    """A connection whose link message is the recorded one, with the connection_id of this run."""

    mess = b""

    def send_mess(self, **changes: Any) -> None:
        """The recorded bytes."""
        self.send_raw(self.mess)


@dataclass
class Replay:
    """One play of a script. `differences`: what servers said otherwise, one line each."""

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
        self._await({(n, name): names.count(name) for n, names in self.script.told.items() for name in names})

    def _start(self, server: Server) -> Host:
        settings = dict(server.settings)
        if server.tls:
            settings["tls"] = self.bench.certificate(server.label).settings()
        if self.password is not None or server.ticket:
            settings["ticket"] = self._password
        return self.bench.start(server.label, **settings)

    @property
    def _password(self) -> str:
        return PASSWORD if self.password is None else self.password

    # ---- waiting

    def _await(self, seen: Seen) -> None:
        """Until everything that the recorded actor had seen is there, but for what did not come before."""
        due = {what: count for what, count in seen.items() if what not in self._missed}
        try:
            self.bench.pump.until(
                lambda: not any(self._lacking(due)), self._patience(), "the recorded messages"
            )
        except Deadline:
            self._missed.update(self._lacking(due))

    def _patience(self) -> float:
        """A host that can say that it has done all it will do need not be waited for."""
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
        """Which session of this run is which of the recording."""
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
                told = {key: value for key, value in action.told.items() if value is not None}
                self.hosts[action.host].announce(self.hosts[action.target], **told)
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
            connection.answers.none()  # the mark is the last thing that the source hears
        if action.relayed is not None and (source := self.connections.get(action.relayed)):
            got = source.got(MsgBase.SPICE_MSG_MIGRATE_DATA)
            body = got[-1].body if got else body
        connection.send(action.type, body)

    # ---- what came of it

    @property
    def differences(self) -> list[str]:
        """What servers said here and not in the recording, and the other way round."""
        found = []
        for number, name in self.script.names.items():
            connection = self.connections.get(number)
            here = [m.name for m in connection.messages if recording.telling(m)] if connection else []
            for line in difflib.ndiff(self.script.told.get(number, []), here):
                if line[0] in WORDS:
                    found.append(f"{name} (connection {number}): {line[2:]} {WORDS[line[0]]}")
        return found


WORDS: Mapping[str, str] = MappingProxyType({"-": "only in the recording", "+": "only here"})


# ---- the command


def main(
    recorded: Path,
    *,
    server: str,
    out: Path | None = None,
    password: str | None = None,
    keylog: Path | None = None,
) -> int:
    """`spice-conform replay`: the exit status. `password`: the ticket that the servers get, instead of one
    of ours. Raises UsageError, HarnessError, Unsupported."""
    path = recorded / findings.NAME if recorded.is_dir() else recorded
    is_finding = _is_json(path)
    failure = findings.read(path) if is_finding else None
    script = None if is_finding else recording.read(path, keylog=keylog)
    with drawn(server) as (progress, say):
        launchers = Launchers(say, progress)
        launcher = launchers.of(server)
    try:
        results = directory.prepare(out or directory.fresh())
        if failure is not None:
            return replay_finding(failure, launcher, server, results)
        assert script is not None
        return replay_script(script, launcher, server, results, password)
    finally:
        launchers.close()


def _is_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] == b"{"
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def replay_finding(failure: findings.Failure, launcher: Launcher, server: str, results: Path) -> int:
    """Plays a finding's moves: 1 if it (or another failure) shows, 0 if none does or all are declared, 4 if
    it is declared for this build and does not show."""
    from suites.fuzz.campaign import ready

    ready(launcher, server)
    click.echo(f"{failure.key.requirement}: {failure.finding.seen}")
    for move in failure.moves:
        click.echo(f"    {move}")
    stage = findings.play({"source": launcher, "target": launcher}, failure.setup, failure.moves)
    builds = {label: host.identity for label, host in stage.hosts.items()}
    stage.pump.tape.write_pcapng(results / findings.PACKETS)
    entries = deviations.load()

    def declared(found: Finding) -> Deviation | None:
        return deviations.declared(entries, found, server, builds)

    shown = stage.failed()
    for found in shown.values():
        word = "declared" if declared(found) else "not declared"
        click.echo(f"seen ({word}): {found.requirement}: {found.seen}")
    known = declared(failure.finding)  # other versions may word it otherwise: the deviation is the same
    same = failure.key in shown or any(known and declared(found) is known for found in shown.values())
    if not same:
        click.echo("the finding does not show on this build")
    if not all(map(declared, shown.values())):
        return NOT_CONFORMANT
    return GONE if known and not same else CONFORMANT


def replay_script(
    script: Script, launcher: Launcher, server: str, results: Path, password: str | None = None
) -> int:
    """Plays a script and tells what came of it."""
    said = sum(isinstance(action, Say) for action, _ in script.actions)
    click.echo(
        f"replaying {len(script.names)} connections with {said} client messages on"
        f" {', '.join(s.label for s in script.servers)} ({server}); hypervisor's calls: {script.host_calls}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench({"source": launcher, "target": launcher}, Path(scratch), Authority(Path(scratch)))
        replay = Replay(bench, script, password)
        try:
            replay.run()
            judgement = bench.finish()
            bench.pump.tape.write_pcapng(results / findings.PACKETS)
        finally:
            with suppress(HarnessError):
                bench.close()
    builds = {host.label: host.identity for host in bench.hosts}
    entries = deviations.load()
    declared = {
        i for i, f in enumerate(judgement.failures) if deviations.declared(entries, f, server, builds)
    }
    _tell(replay, script, judgement.failures, declared)
    _write(results, replay, judgement, server)
    return NOT_CONFORMANT if len(declared) < len(judgement.failures) else CONFORMANT


def _tell(replay: Replay, script: Script, failures: list[Finding], declared: set[int]) -> None:
    for line in (*script.notes, *replay.troubles):
        click.echo(f"note: {line}")
    for line in replay.differences or ["the servers said what they said in the recording"]:
        click.echo(line)
    for index, found in enumerate(failures):
        word = "declared" if index in declared else found.level
        click.echo(f"{found.requirement} ({word}): expected {found.expected}; seen {found.seen}")
    if not failures:
        click.echo("no requirement was broken")


def _write(results: Path, replay: Replay, judgement: Judgement, server: str) -> None:
    story = {
        "server": server,
        "differences": replay.differences,
        "notes": [*replay.script.notes, *replay.troubles],
        "findings": [found.as_dict() for found in judgement.findings],
        "kept": dict(judgement.kept),
        "packets": findings.PACKETS,
    }
    (results / "replay.json").write_text(json.dumps(story, indent=1) + "\n", encoding="utf-8")
