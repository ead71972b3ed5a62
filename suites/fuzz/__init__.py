# SPDX-License-Identifier: GPL-2.0-only
"""Drives servers, their hypervisors and clients through legal and illegal orders.

`moves` is the alphabet; `standing` is where a play stands, `choices` says what is legal there (from the
oracle's tables). `playground` plays moves on fresh hosts with real sockets, `walk` on branches of hosts, much
faster. `explorer` chooses what to play, from situations that it keeps; `state_machine` lets Hypothesis
choose, from nothing, for `certify`. `campaign` plays until the time is over, `team` in several processes
(`fuzz_worker`); `corpus` is what is played first. `minimise` shortens what failed, `finding_file` saves it.
"""
