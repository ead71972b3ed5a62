# SPDX-License-Identifier: GPL-2.0-only
"""The machine that drives servers, their hypervisors and clients through legal and illegal orders.

`moves` is its alphabet, `stage` plays it on fresh hosts, `choices` says what is legal next (from the oracle's
tables), `machine` chooses, `minimise` shortens what failed, `finding` saves it, `campaign` is the command.
"""
