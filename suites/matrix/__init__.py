# SPDX-License-Identifier: GPL-2.0-only
"""The matrix: every state that a connection can be brought into, times everything that can happen there.

A `place` is a state and the way into it, a `cell` one thing that happens there: a message, a host's call, a
link, a way to leave. The place is made once; each cell plays on a copy of it (`fixtures.peer.copies`) and is
compared with what the tables owe (`dissectors.conversation.owed_answers`).
"""
