# SPDX-License-Identifier: GPL-2.0-only
"""The exit statuses of every command of `spice-conform`: the one place from which the code takes them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The meaning of each status. A number has one name for each kind of command that uses it.

    certify, replay, fuzz, learn: 0 the server is conformant (declared deviations only), 1 it is not, 2 wrong
    use, 3 the harness failed, the server would not start or the run was interrupted, 4 a declared deviation
    no longer occurs.

    inspect: 0 judged and nothing found, 1 findings, 2 a capture is not readable, 3 nothing could be judged.

    compare: 0 nothing is worse, 1 something is worse. verify: 0 the run holds, 1 it does not. `learn
    --compare`: 0 the models are equal, 1 they differ."""

    CONFORMANT = 0
    NOT_CONFORMANT = 1
    USAGE = 2
    HARNESS = 3
    STALE_DEVIATION = 4

    CLEAN = 0
    FINDINGS = 1
    UNREADABLE = 2
    NOTHING_JUDGED = 3

    HOLDS = 0
    DOES_NOT_HOLD = 1
    NOT_WORSE = 0
    WORSE = 1
