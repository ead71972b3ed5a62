# SPDX-License-Identifier: GPL-2.0-only
"""The guest's end in tests: the agent's messages, and what the guest has read from its character devices."""

from __future__ import annotations

import struct

from dissectors.channels.agent_enums import AgentPort
from fixtures.bench import Bench
from fixtures.system.hosts import Host

#: VDIChunkHeader: port, size (little-endian, as all of vd_agent.h).
CHUNK = struct.Struct("<II")
#: VDAgentMessage without its data: protocol, type, opaque, size.
HEADER = struct.Struct("<IIQI")


def agent_message(
    kind: int, content: bytes = b"", *, protocol: int = 1, opaque: int = 0, size: int | None = None
) -> bytes:
    """A VDAgentMessage of this type. `size`: the size that its header states (default: the content's)."""
    return HEADER.pack(protocol, kind, opaque, len(content) if size is None else size) + content


def chunk(content: bytes, port: int = AgentPort.VDP_CLIENT_PORT) -> bytes:
    """An agent message, or a part of one, as the guest's device carries it."""
    return CHUNK.pack(port, len(content)) + content


def read_by_guest(bench: Bench, *hosts: Host, device: str | None = None) -> bytes:
    """What the guest has read from its character devices, or from one `device`: first at the first host, then
    at the next; without `hosts` at every host, in the order of time."""
    events = [e for e in bench.pump.tape.host_events if e.name == "chardev_write"]
    if device:
        events = [e for e in events if e.args["device"] == device]
    if hosts:
        events = [e for host in hosts for e in events if e.host == host.label]
    return b"".join(bytes.fromhex(e.args["hex"]) for e in events)
