# SPDX-License-Identifier: GPL-2.0-only
"""Plays a recorded conversation against other server processes, and judges it.

`recording` reads a capture into a `script` of what client and hypervisor did; `player` plays it and is the
command.
"""
