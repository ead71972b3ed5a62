# SPDX-License-Identifier: GPL-2.0-only
"""Parts of a page that few readers open: packed together; the page's script unpacks them when one is opened.

A part is HTML. `GROUP` parts make one `<script>` element whose text is base64 of gzip of a JSON list. In the
page a part is an element with `data-part="NAME-GROUP.INDEX"`; the `<script>` element's id is `NAME-GROUP`."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

#: How many parts are packed together: similar parts pack better together, but too many take long to unpack.
GROUP = 64


class PackedParts:
    """Collects the parts of one kind of a page: drawings, bodies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._open: list[str] = []
        self._packed: list[str] = []

    def add(self, part: str) -> str:
        """Packs a part; returns its place, for `data-part`."""
        place = f"{self.name}-{len(self._packed)}.{len(self._open)}"
        self._open.append(part)
        if len(self._open) == GROUP:
            self._pack()
        return place

    def groups(self) -> list[str]:
        """The text of each element `NAME-GROUP`; nothing can be added after that."""
        if self._open:
            self._pack()
        return self._packed

    def _pack(self) -> None:
        self._packed.append(packed(self._open))
        self._open = []


def packed(parts: list[Any]) -> str:
    """A JSON list as the text of an element: base64 of gzip."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
