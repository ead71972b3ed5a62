# SPDX-License-Identifier: GPL-2.0-only
"""The matrix: every state that a connection can reach, times everything that can happen there.

A `place` is a state and the way into it; a `cell` is one thing that happens there: a message, a host's call,
a link, a way to leave. The bench makes each place once, plays each cell on a copy of it
(`fixtures.peer.copies`), and compares the outcome with the tables
(`dissectors.conversation.owed_answers`)."""
