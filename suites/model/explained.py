# SPDX-License-Identifier: GPL-2.0-only
"""The disagreements of models and rules that are understood: what the server does, and why both stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dissectors.rules.judgement import Finding
from suites.model.known_answers import Word


@dataclass(frozen=True)
class Explained:
    """`seen`: a glob over what was seen; `letters`: globs, in this order among the letters of the word."""

    requirement: str
    seen: str
    letters: Sequence[str]
    reason: str

    def covers(self, finding: Finding, word: Word) -> bool:
        """Whether it explains a finding behind a word."""
        rest = iter(word)
        found = all(any(fnmatchcase(letter, glob) for letter in rest) for glob in self.letters)
        return found and self.requirement == finding.requirement and fnmatchcase(finding.seen, self.seen)


_SEAMLESS = "main: MIGRATE_CONNECTED_SEAMLESS"
_DO_SEAMLESS = "main: MIGRATE_DST_DO_SEAMLESS"

EXPLAINED: Sequence[Explained] = (
    Explained(
        "ROBUST-001", "*unexpected flush mark", ("*: MIGRATE_FLUSH_MARK",),
        "declared: an unsolicited FLUSH_MARK ends the process",
    ),
    Explained(
        "ROBUST-001", "*during_target_migrate' failed", (_DO_SEAMLESS,),
        "declared: DST_DO_SEAMLESS on a session that is no target's ends the process",
    ),
    Explained(
        "ROBUST-001", "*semi_seamless_migrate_complete: unexpected", (_DO_SEAMLESS, "main: MIGRATE_END"),
        "declared: MIGRATE_END after DST_DO_SEAMLESS ends the process",
    ),
    Explained(
        "ROBUST-001", "*reds_handle_other_links: assertion `*mig_client' failed",
        (_DO_SEAMLESS, "main: *", "inputs: link, id own"),
        "declared: the target's seamless flag is never reset, and the next secondary link ends the process",
    ),
    Explained(
        "MIG-SRC-040", "*", (_SEAMLESS, "main: link, id zero", "call finish"),
        "declared: the source's seamless flag survives the client that has set it",
    ),
    Explained(
        "MIG-SRC-048", "SPICE_MSG_MIGRATE", (_SEAMLESS, "call announce", "call finish"),
        "declared: the source's seamless flag survives a cancelled attempt",
    ),
    Explained(
        "MIG-SRC-042", "SPICE_MSG_MIGRATE_DATA",
        (_SEAMLESS, "call announce", "call finish", "main: *FLUSH_MARK"),
        "declared: what follows from the flag that survives a cancelled attempt (MIG-SRC-048)",
    ),
    Explained(
        "MIG-SRC-041", "SPICE_MSG_NOTIFY", (_SEAMLESS, "call finish", "inputs: link, id own"),
        "declared: the server tells on main that a channel without TLS is not secure, after MIGRATE too",
    ),
    Explained(
        "MIG-SRC-041", "SPICE_MSG_MAIN_MIGRATE_CANCEL",
        (_SEAMLESS, "call finish", "main: MIGRATE_CONNECTED*"),
        "provoked: the server answers a CONNECTED that comes too late with CANCEL, in this state too",
    ),
)  # fmt: skip


def explanation(finding: Finding, word: Word) -> str | None:
    """Why a finding behind a word is known; None if it is not."""
    return next((known.reason for known in EXPLAINED if known.covers(finding, word)), None)
