# SPDX-License-Identifier: GPL-2.0-only
"""Drives servers, their hypervisors and clients through legal and illegal orders.

`moves` is the alphabet; `standing` holds the state of a play; `choices` says what is legal in that state
(from the oracle's tables). `playground` plays moves on fresh hosts with real sockets; `walk` plays them on
branches of hosts, much faster. `explorer` chooses what to play, starting from situations that it keeps; for
`certify`, `state_machine` lets Hypothesis choose, starting from fresh hosts. `campaign` plays until its time
is over, `team` does so in several processes (`fuzz_worker`); a campaign plays the `corpus` first. `minimise`
shortens failing plays, `finding_file` saves them."""
