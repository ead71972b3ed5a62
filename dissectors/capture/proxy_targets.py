# SPDX-License-Identifier: GPL-2.0-only
"""The target in a client's request to a proxy, fit to be shown: a ticket in place of a host name is masked.

Proxmox VE sends "pvespiceproxy:TIME:VM:NODE::SIGNATURE:PORT", oVirt's proxy takes an encoded ticket for a
host name. Whatever does not look like a host name or an address may be a ticket.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from dissectors.capture.protocol_heads import shown
from dissectors.framing.events import HIDDEN_HOST as MASK

LONGEST_SHOWN = 255

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_HEX = re.compile(r"[0-9a-fA-F]{16,}")


def shown_target(host: bytes, port: int | bytes) -> str:
    """`host:port` for people, secrets masked, nothing that could move a cursor."""
    text = shown(host[:LONGEST_SHOWN])
    number = str(port) if isinstance(port, int) else shown(port[:5])
    return f"{_host(text)}:{number}"


def shown_authority(authority: bytes) -> str:
    """The same of "host:port" in one piece, as HTTP CONNECT has it."""
    host, colon, port = authority.rpartition(b":")
    if not colon or not port.isdigit():
        host, port = authority, b"?"
    return shown_target(host, port)


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ip_address(bare)
    except ValueError:
        pass
    else:
        return f"[{bare}]" if ":" in bare else bare
    if ":" in text:
        return ":".join(part if _is_plain(part) else MASK for part in text.split(":"))
    return text if all(map(_is_plain, text.rstrip(".").split("."))) else MASK


def _is_plain(label: str) -> bool:
    """It looks like a part of a host name, not like a ticket or a signature."""
    if not label:
        return True
    if not _LABEL.fullmatch(label) or _HEX.fullmatch(label):
        return False
    if len(label) < 20:
        return True
    digits = sum(char.isdigit() for char in label)
    mixed = label != label.lower() and label != label.upper()
    return (not mixed and digits * 4 < len(label)) or _is_uuid(label)


def _is_uuid(label: str) -> bool:
    return bool(re.fullmatch(r"(vm-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", label))
