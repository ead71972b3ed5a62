# SPDX-License-Identifier: GPL-2.0-only
"""What a test leaves in Allure's results: its ladder, its packets, its servers' log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import allure

from dissectors.framing.events import Event
from dissectors.rules.judgement import Finding
from reports.ladder.ladder_svg import svg
from reports.ladder.lanes import ladder

#: What is larger stays where it is, and Allure gets its path: Allure copies what is attached. Bytes.
_LARGEST = 4 << 20
_TYPES = {"pcapng": ("application/vnd.tcpdump.pcap", "pcapng"), "log": ("text/plain", "log")}


def attach(
    title: str, events: Iterable[Event], findings: Iterable[Finding], artefacts: Mapping[str, str]
) -> None:
    """To be called while the test is Allure's current one. `artefacts`: kind -> path."""
    drawn = svg(ladder(events, findings), title, standalone=True)
    allure.attach(drawn, "ladder", attachment_type=allure.attachment_type.SVG)
    for kind, path in artefacts.items():
        mime, extension = _TYPES.get(kind, ("application/octet-stream", kind))
        if Path(path).stat().st_size > _LARGEST:
            allure.attach(path, kind, attachment_type=allure.attachment_type.TEXT)
        else:
            allure.attach.file(Path(path), name=kind, attachment_type=mime, extension=extension)
