# SPDX-License-Identifier: GPL-2.0-only
"""Drives servers, their hypervisors and clients through legal and illegal orders.

`moves` is the alphabet; `play_state` holds the state of a play; `choices` says what is legal in that state
(from the oracle's tables). `fresh_play` plays moves on fresh hosts with real sockets; `branch_play` plays
them on branches of hosts, much faster. `explorer` chooses what to play, starting from situations that it
keeps; for `certify`, `state_machine` lets Hypothesis choose, starting from fresh hosts. `campaign` plays
until its time is over, `parallel_campaign` does so in several processes (`fuzz_worker`); a campaign plays
the `corpus` first. `minimise` shortens failing plays, `finding_file` saves them."""
