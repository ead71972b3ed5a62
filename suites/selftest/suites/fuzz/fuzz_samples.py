# SPDX-License-Identifier: GPL-2.0-only
"""A campaign's finding, for the self-tests of fuzz and replay."""

from __future__ import annotations

from dissectors.rules.judgement import Finding, Level
from dissectors.wire.constants import MsgcBase
from suites.fuzz.finding_file import FuzzFailure
from suites.fuzz.moves import MAIN, Link, Send, Setup

LINK = Link(0, "source", MAIN)
FLUSH_MARK = Send(0, "source", MAIN, int(MsgcBase.SPICE_MSGC_MIGRATE_FLUSH_MARK))


def failure(seen: str = "it ended by SIGTRAP: unexpected flush mark") -> FuzzFailure:
    """An unsolicited FLUSH_MARK, which ends released servers."""
    found = Finding("ROBUST-001", Level.ROBUST, "the server process lives", seen, 1.0)
    return FuzzFailure(found, Setup(), [LINK, FLUSH_MARK], "system", 1, 1, 9)
