# SPDX-License-Identifier: GPL-2.0-only
"""Notes on the unread parts of a capture, and what to do about them: one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dissectors.capture.encapsulations import DEEPEST, NESTED
from dissectors.capture.link_headers import LINK_NAMES
from dissectors.capture.link_layers import SegmentFinder

NFLOG = 239
ADVICE = {
    NESTED: f"they are more than {DEEPEST} layers deep",
    "IPsec (ESP)": "they are encrypted; capture inside the tunnel",
    "WireGuard": "they are encrypted; capture on the tunnel's own interface",
    "MACsec (encrypted)": "capture on the MACsec interface",
    "802.11 (encrypted)": "capture on the station or the access point itself",
    "PPP (encrypted)": "capture on the PPP interface",
    "PPP (compressed)": "capture on the PPP interface",
}


def reading_notes(finder: SegmentFinder, packets: int) -> Iterator[str]:
    """The lines about link types, encapsulations and cut packets."""
    for link, count in sorted(finder.unsupported.items()):
        yield (
            f"{_packets(count)} of link type {link_name(link)} {_were(count)} not read; "
            "capture on an Ethernet interface or with tcpdump -i any"
        )
    if count := finder.links[NFLOG]:
        yield f"{_packets(count)} of link type {link_name(NFLOG)} hold only what a firewall rule has logged"
    for name, count in sorted(finder.unread.items()):
        advice = f": {ADVICE[name]}" if name in ADVICE else ""
        yield f"{_packets(count)} of {name} {_were(count)} not read{advice}"
    if finder.cut:
        yield (
            f"packets are cut at {finder.cut_at} bytes ({finder.cut:,} of {packets:,}); "
            "capture with -s 0 to keep all of them"
        )


def unread_tls(reasons: Mapping[str, tuple[str, int]]) -> Iterator[str]:
    """The lines about TLS connections that could not be decrypted, by reason: the first in full, how many."""
    for general, (first, count) in reasons.items():
        if count == 1:
            yield f"TLS connection not decrypted: {first}"
        else:
            yield f"{count:,} TLS connections not decrypted: {general}"


def link_name(number: int) -> str:
    """A link type as its number and name."""
    return f"{number} ({LINK_NAMES[number]})" if number in LINK_NAMES else str(number)


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count:,} packets"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
