# SPDX-License-Identifier: GPL-2.0-only
"""Plays a recorded conversation against other server processes, and judges it.

`capture_script` reads a capture into a `script` of the acts of client and hypervisor; `player` plays it;
`spoken` compares what the servers said."""
