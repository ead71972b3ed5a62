# SPDX-License-Identifier: GPL-2.0-only
"""What a test leaves in Allure's results: its ladder, its packets, its servers' log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import allure

from dissectors.events import Event
from dissectors.rules.model import Finding
from reports.ladder import ladder
from reports.ladder_svg import svg

_TYPES = {"pcapng": ("application/vnd.tcpdump.pcap", "pcapng"), "log": ("text/plain", "log")}


def attach(
    title: str, events: Iterable[Event], findings: Iterable[Finding], artefacts: Mapping[str, str]
) -> None:
    """To be called while the test is Allure's current one. `artefacts`: kind -> path."""
    drawn = svg(ladder(events, findings), title, standalone=True)
    allure.attach(drawn, "ladder", attachment_type=allure.attachment_type.SVG)
    for kind, path in artefacts.items():
        mime, extension = _TYPES.get(kind, ("application/octet-stream", kind))
        allure.attach.file(Path(path), name=kind, attachment_type=mime, extension=extension)
