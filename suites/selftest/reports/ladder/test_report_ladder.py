# SPDX-License-Identifier: GPL-2.0-only
"""Ladders: lanes, faults at their messages, collapsed runs, drawn as SVG and as text."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from dissectors.framing.events import HostEvent, Message
from dissectors.wire.constants import MsgBase, Side
from reports.ladder.ladder_svg import svg
from reports.ladder.ladder_text import text
from reports.ladder.lanes import Ladder, RowKind, ladder
from suites.selftest.reports.run.report_samples import MUST, OBSERVED, conversation, found


@pytest.fixture
def broken() -> Ladder:
    return ladder(conversation(), [found(MUST, "SPICE_MSG_MAIN_INIT")])


def test_lanes_and_rows(broken: Ladder) -> None:
    assert broken.lanes == ("source", "client", "target")
    labels = [row.label for row in broken.rows]
    assert labels == [
        "SpiceLinkMess",
        "link reply, ticket",
        "link result",
        "INIT",
        "PING, PONG",
        "migrate_connect()",
        "MIGRATE_BEGIN",
        "SpiceLinkMess",
        "link reply, ticket",
        "link result",
        "MIGRATE_CONNECTED",
        "migrate_connect_complete",
        "closed",
        "INIT",
    ]
    begin = broken.rows[6]
    assert (begin.lane, begin.to, begin.detail) == (0, 1, "localhost:5902 tls 5903 “CN=target”")


def test_a_fault_stands_at_its_message(broken: Ladder) -> None:
    *fine, last = broken.rows
    assert last.failing
    assert last.faults == ("MIG-DST-900: expected nothing of the kind; seen: SPICE_MSG_MAIN_INIT",)
    assert not any(row.faults for row in fine)
    reported = ladder(conversation(), [found(OBSERVED)]).rows[-1]
    assert reported.faults
    assert not reported.failing


def test_a_fault_without_a_message_has_a_row_of_its_own() -> None:
    between = replace(found(MUST), time=1000.25, connection=None)
    row = next(row for row in ladder(conversation(), [between]).rows if row.faults)
    assert row.kind is RowKind.NOTE
    assert row.time == pytest.approx(0.25)


def test_secrets_are_hidden(broken: Ladder) -> None:
    for drawn in (svg(broken, "x"), text(broken)):
        assert "geheim" not in drawn
        assert "(hidden)" in drawn


def test_long_ladders_keep_their_ends_and_what_is_near_a_fault() -> None:
    start = conversation()[6]
    assert isinstance(start, Message)
    kind = int(MsgBase.SPICE_MSG_DISCONNECTING)
    many = [replace(start, time=1001.0 + n, type=kind, sender=Side.SERVER) for n in range(1000)]
    events = [*conversation(), *many]
    short = ladder(events, [replace(found(MUST), time=1501.0, connection=1)], limit=60)
    assert len(short.rows) < 80
    assert sum(row.label.endswith("rows are left out here") for row in short.rows) == 2
    assert sum(bool(row.faults) for row in short.rows) == 1
    assert len(ladder(events, collapse=False, limit=None).rows) > 1000


def test_death_is_shown() -> None:
    died = HostEvent(
        time=1001.0, host="target", name="died", args={"signal": "SIGTRAP", "message": "assertion"}
    )
    row = ladder([*conversation(), died]).rows[-1]
    assert (row.kind, row.lane) == (RowKind.DEATH, 2)
    assert "SIGTRAP" in row.detail


@pytest.mark.parametrize(
    ("hosts", "lanes"), [({"target"}, ("client", "target")), ({"source"}, ("source", "client"))]
)
def test_one_host_alone(hosts: set[str], lanes: tuple[str, ...]) -> None:
    number = {"source": 1, "target": 2}[next(iter(hosts))]
    events = [e for e in conversation() if getattr(e, "connection", 0) == number]
    assert ladder(events).lanes == lanes


def test_nothing_to_show() -> None:
    assert ladder([]).rows == ()
    assert ET.fromstring(svg(ladder([]), "empty", standalone=True)).tag.endswith("svg")


def test_svg_is_a_document_that_can_be_read_aloud(broken: Ladder) -> None:
    root = ET.fromstring(svg(broken, 'title with <&> "quotes"', standalone=True, interactive=True))
    name = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    assert root.findtext(f"{name}title") == 'title with <&> "quotes"'
    assert "1 broken rules" in (root.findtext(f"{name}desc") or "")
    reachable = [g for g in root.iter(f"{name}g") if g.get("tabindex") == "0"]
    assert len(reachable) == sum(row.event is not None for row in broken.rows)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_text_fits(broken: Ladder, width: int) -> None:
    lines = text(broken, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("seen:" in line for line in lines)
    assert any("CN=target" in line for line in lines)
