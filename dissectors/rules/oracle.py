# SPDX-License-Identifier: GPL-2.0-only
"""The one oracle: events in, findings out. Live runs, replays, fuzzing and captures all use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dissectors.conversation.conversation import Conversation
from dissectors.conversation.order_rows import NOTHING
from dissectors.framing.events import CLAIM, ConnectionEvent, Event, HostEvent, LinkBytes, Message, Quiet
from dissectors.rules.catalogue import CATALOGUE
from dissectors.rules.judgement import Finding, Judgement, Level, Requirement, layout_requirement
from dissectors.rules.rule_engine import (
    AnyRule,
    Broken,
    Kept,
    Ruling,
    counting_rules,
    final_rules,
    message_rules,
    rules_for,
    unasked,
)
from dissectors.wire.constants import Side

# These modules declare the rules, which judge an event in the order of this list.
# isort: off
from dissectors.rules import (  # noqa: F401
    order_rules,
    link_rules,
    channel_rules,
    session_rules,
    channels_list_rules,
    agent_rules,
    source_rules,
    target_rules,
    client_rules,
    seamless_rules,
    overdue_rules,
    host_rules,
)
# isort: on

#: The rule that any end of the process breaks.
GENERAL = "ROBUST-001"


class Oracle:
    """Reads events in the order of their times. `quiet` names the message types that need only be counted.

    A message that `quiet` names is judged as if it had only been counted: the findings are the same whether
    the framer shows it or not.
    """

    def __init__(self, catalogue: Mapping[str, Requirement] = CATALOGUE) -> None:
        self.conversation = Conversation()
        self.judgement = Judgement()
        self._catalogue = catalogue
        #: Hosts whose process ended by an input that a test has named; None: any host.
        self._named_deaths: set[str | None] = set()
        self._reported: set[tuple[str, int | None, str | None, str]] = set()
        self._rules: dict[type[Event], list[AnyRule]] = {}

    def remembered(self) -> tuple[set[str | None], set[Any]]:
        """The oracle's state besides conversation and judgement, for `remember`."""
        return self._named_deaths, self._reported

    def remember(self, known: tuple[set[str | None], set[Any]]) -> None:
        """Takes over another oracle's `remembered` state."""
        self._named_deaths, self._reported = known

    def observe(self, event: Event) -> list[Finding]:
        """Judges one event; returns its new findings."""
        if isinstance(event, ConnectionEvent) and event.connection in self.conversation.legs:
            return []
        before = len(self.judgement.findings)
        if isinstance(event, Message):
            self._message(event)
        elif isinstance(event, HostEvent) and event.name == CLAIM:
            self._claim(event)
        else:
            if isinstance(event, Quiet):
                self.judgement.unlooked[layout_requirement(event.sender)] += event.count
            if not isinstance(event, LinkBytes) or event.whole:
                for rule in self._rules_for(type(event)):
                    self._ask(rule, event)
            legs = len(self.conversation.legs)
            self.conversation.apply(event)
            if len(self.conversation.legs) > legs:
                self._forget_legs()
        return self.judgement.findings[before:]

    def _forget_legs(self) -> None:
        """Removes findings on a link's second leg: the first leg has the same ones."""
        findings, legs = self.judgement.findings, self.conversation.legs
        findings[:] = [finding for finding in findings if finding.connection not in legs]

    def _message(self, event: Message) -> None:
        known, sender = self.conversation.connection(event), event.sender
        if event.type in self.quiet(event.connection, sender):
            self.judgement.unlooked[layout_requirement(sender)] += 1
            for rule in counting_rules():
                self._ask(rule, event)
            self.conversation.count(event)
            return
        first = not known.messages[sender]
        for rule in message_rules(event.channel, known.state, sender, event.type, first):
            self._ask(rule, event)
        self.conversation.apply(event)

    def _claim(self, event: HostEvent) -> None:
        """Takes in a claim of the recording test. Where the claim names the input that ended a host's
        process, the general rule is not reported again for this host."""
        requirement = self._catalogue.get(str(event.args.get("requirement")))
        if requirement is None:
            return
        if event.args.get("kept"):
            self.judgement.kept[requirement.id] += 1
            return
        texts = {key: str(event.args.get(key)) for key in ("expected", "seen")}
        found = Finding.at(requirement, event, texts["expected"], texts["seen"])
        about, connection = event.args.get("about"), event.args.get("connection")
        found = replace(
            found,
            host=str(about) if about else None,
            connection=connection if isinstance(connection, int) else None,
        )
        if requirement.level is Level.ROBUST:
            self._named_deaths.add(found.host)
            self.judgement.findings[:] = [f for f in self.judgement.findings if not self._named(f)]
        if found not in self.judgement.findings:
            self.judgement.findings.append(found)

    def _ask(self, rule: AnyRule, event: Event) -> None:
        for ruling in rule(self.conversation, event):
            self._rule(ruling, event)

    def _rules_for(self, kind: type[Event]) -> list[AnyRule]:
        if kind not in self._rules:
            self._rules[kind] = rules_for(kind)
        return self._rules[kind]

    def close(self) -> Judgement:
        """The judgement, after the rules that judge at the end."""
        for rule in final_rules():
            for ruling in rule(self.conversation):
                self._rule(ruling, None)
        return self.judgement

    def quiet(self, connection: int, sender: Side) -> frozenset[int]:
        """The message types of a connection that the framer need only count at present."""
        known = self.conversation.connections.get(connection)
        if known is None or not known.messages[sender] or not known.familiar[sender]:
            return NOTHING
        return unasked(known.channel, known.state, sender) & known.familiar[sender]

    def _rule(self, ruling: Ruling, event: Event | None) -> None:
        requirement = self._catalogue[ruling.requirement]
        if isinstance(ruling, Kept):
            self.judgement.kept[requirement.id] += 1
            return
        self._find(requirement, ruling, event)

    def _find(self, requirement: Requirement, ruling: Broken, event: Event | None) -> None:
        where = ruling.event or event
        if where is None:
            where = Event(time=0.0)
        finding = self._with_host(Finding.at(requirement, where, ruling.expected, ruling.seen))
        if self._named(finding):
            return
        key = (finding.requirement, finding.connection, finding.host, finding.seen)
        if key not in self._reported:  # a repeated breach is one finding
            self._reported.add(key)
            self.judgement.findings.append(finding)

    def _named(self, finding: Finding) -> bool:
        """Whether this is the general finding of a death whose input a test has named."""
        named = self._named_deaths
        return finding.requirement == GENERAL and (None in named or finding.host in named)

    def _with_host(self, finding: Finding) -> Finding:
        """The finding, with the label of its connection's host."""
        known = self.conversation.connections.get(finding.connection or 0)
        if finding.host is not None or known is None or known.host < 0:
            return finding
        return replace(finding, host=self.conversation.hosts[known.host].label)


def judge(events: Iterable[Event]) -> Judgement:
    """The judgement of a whole conversation."""
    oracle = Oracle()
    for event in events:
        oracle.observe(event)
    return oracle.close()
