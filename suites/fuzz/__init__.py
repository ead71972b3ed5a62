# SPDX-License-Identifier: GPL-2.0-only
"""Drives servers, their hypervisors and clients through legal and illegal orders.

`moves` is the alphabet, `playground` plays it on hosts, `choices` says what is legal next (from the oracle's
tables). `explorer` chooses what to play, from situations that it keeps; `state_machine` lets Hypothesis
choose, from nothing, for `certify`. `campaign` plays until the time is over, `team` in several processes
(`fuzz_worker`); `corpus` is what is played first. `minimise` shortens what failed, `finding_file` saves it.
"""
