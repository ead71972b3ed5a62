# SPDX-License-Identifier: GPL-2.0-only
"""Escapes text from outside: it cannot move a cursor, forge a line or reveal a ticket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Control characters (C0, DEL, C1), line and paragraph separators, what turns the direction of writing, and
#: half surrogates.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
#: What may be a proxy's ticket in a host field (`pvespiceproxy:<time>:<id>:<node>::<ticket>`).
_TICKET = re.compile(r"[0-9A-Fa-f]{16,}|[0-9A-Za-z+/=_-]{24,}")


def visible(text: str) -> str:
    """The text with every character that could act on a terminal shown as `\\x1b`, `\\n`, `\\u202e`."""
    return _HIDDEN.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """Like `visible`, but keeps line ends."""
    return "\n".join(map(visible, text.split("\n")))


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    number = ord(character)
    return _NAMES.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def visible_host(text: str) -> str:
    """A host field: visible, and without a proxy's ticket."""
    return visible(_TICKET.sub("(hidden)", text) if ":" in text else text)


def all_visible(data: Any) -> Any:
    """The same JSON-able data with all its texts visible."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, Mapping):
        return {key: all_visible(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [all_visible(value) for value in data]
    return data
