# SPDX-License-Identifier: GPL-2.0-only
"""The captures that the project recorded: whole, small, and as their notes say."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest

from dissectors.events import Closed, Gap, Garbage, LinkBytes, Message, Opened
from dissectors.inspection import EventReader
from dissectors.rules.oracle import judge
from fixtures.captures import note_of, recorded
from fixtures.captures.make import LARGEST, RECIPES

#: Messages of main that each capture must have, in this order, whatever is between them.
STEPS = {
    "semi-seamless": ["MIGRATE_BEGIN", "C_MIGRATE_CONNECTED", "MIGRATE_END", "C_MIGRATE_END", "INIT"],
    "seamless": [
        "MIGRATE_BEGIN_SEAMLESS",
        "C_MIGRATE_DST_DO_SEAMLESS",
        "MIGRATE_DST_SEAMLESS_ACK",
        "C_MIGRATE_CONNECTED_SEAMLESS",
        "MULTI_MEDIA_TIME",
    ],
    "switch-host": ["MIGRATE_BEGIN", "C_MIGRATE_CONNECT_ERROR", "MIGRATE_SWITCH_HOST", "INIT"],
    "late": ["MIGRATE_BEGIN", "MIGRATE_SWITCH_HOST", "C_MIGRATE_CONNECTED", "MIGRATE_CANCEL", "INIT"],
    "tls": ["MIGRATE_BEGIN", "C_MIGRATE_CONNECTED", "MIGRATE_END", "C_MIGRATE_END", "INIT"],
}


def _short(name: str) -> str:
    return name.replace("SPICE_MSGC_MAIN_", "C_").replace("SPICE_MSG_MAIN_", "")


def test_there_is_one_for_each_recipe() -> None:
    assert {path.name.split(".")[0] for path in recorded()} == set(RECIPES) == set(STEPS)


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.name)
def test_a_capture(path: Path) -> None:
    name = path.name.split(".")[0]
    note = tomllib.loads(note_of(path).read_text(encoding="utf-8"))
    assert note["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size <= LARGEST
    events = list(EventReader([path]))
    opened = [e.connection for e in events if isinstance(e, Opened)]
    assert sorted(opened) == sorted(e.connection for e in events if isinstance(e, Closed))
    assert {e.connection for e in events if isinstance(e, LinkBytes)} == set(opened)
    assert not [e for e in events if isinstance(e, Gap | Garbage)]
    seen = iter([_short(e.name) for e in events if isinstance(e, Message)])
    assert [step for step in STEPS[name] if step in seen] == STEPS[name]
    found = " ".join(sorted(judge(events).broken))
    assert found == note["findings"], "python -m fixtures.captures.make --judge all"
