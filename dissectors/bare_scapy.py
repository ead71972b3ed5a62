# SPDX-License-Identifier: GPL-2.0-only
"""Import this before Scapy where starting fast matters: Scapy then leaves its tables of the world empty.

Whenever it is imported, Scapy reads 40,000 vendors of network cards and all services and EtherTypes
(`scapy.data`) from a cache of its own, which takes a third of its start. SPICE has no use for them. So the
cache here is one in memory that has each table, empty. Where Scapy asks for something else, or asks no
longer, it finds its own way and is only slower.
"""

from __future__ import annotations

import hashlib
import io
import os

import scapy.main

#: Where Scapy looks for Wireshark's list of vendors.
_PREFIXES = ("/usr", "/usr/local", "/opt", "/opt/wireshark", "/Applications/Wireshark.app/Contents/Resources")
_VENDORS = (f"{prefix}/share/wireshark/manuf" for prefix in _PREFIXES)
#: What each table is made from, and its empty form as a pickle: `scapy.data.EtherDA("none")` and so on.
_TABLES = {
    "ethertypes": ("/etc/ethertypes", "cscapy.data\nEtherDA\n(S'none'\ntR"),
    "services": ("/etc/services", "(" + "cscapy.dadict\nDADict\n(S'none'\ntR" * 3 + "t"),
    "manufdb": (next(filter(os.path.exists, _VENDORS), ""), "cscapy.data\nManufDA\n(S'none'\ntR"),
}


class _Cached:
    """What Scapy takes for a file of its cache."""

    def __init__(self, name: str) -> None:
        self._name = name

    def exists(self) -> bool:
        """Whether there is such a table."""
        return self._name in _TABLES

    def open(self, mode: str) -> io.BytesIO:
        """The table, as Scapy keeps it. Raises OSError for writing: nothing is kept."""
        if mode != "rb":
            raise OSError("not kept")
        made_from, empty = _TABLES[self._name]
        identity = hashlib.sha256(made_from.encode()).hexdigest()
        return io.BytesIO(f"(S'id'\nS'{identity}'\nS'content'\n{empty}d.".encode())

    def unlink(self, missing_ok: bool = False) -> None:
        """Scapy throws away what it cannot read."""


class _Cache:
    """What Scapy takes for its cache's folder."""

    def __truediv__(self, file: str) -> _Cached:
        return _Cached(file.removesuffix(".pickle"))


scapy.main.SCAPY_CACHE_FOLDER = _Cache()
