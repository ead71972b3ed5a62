# SPDX-License-Identifier: GPL-2.0-only
"""The protocol as one page: whole, self-contained, drawn from the tables and the catalogue."""

from __future__ import annotations

import re
import shutil

from dissectors.conversation.channel_order import MIGRATING_ORDER, SECONDARY_ORDER
from dissectors.conversation.main_order import MAIN_ORDER
from dissectors.rules.catalogue import CATALOGUE
from reports.views.protocol_page import BEFORE_DATA, protocol_page
from reports.views.state_diagrams import DIAGRAMS, undrawn


def test_everything_is_there() -> None:
    """Each requirement and each state of main is there, each link leads somewhere, and the page loads
    nothing."""
    text = protocol_page()
    ids = set(re.findall(r' id="([^"]+)"', text))
    assert ids >= CATALOGUE.keys()
    assert set(re.findall(r'href="#([^"]+)"', text)) <= ids
    assert not re.search(r"<(link|img|script src)|@import", text)
    for state, _ in MAIN_ORDER:
        assert str(state) in text
    for message in ("SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS", "SPICE_MSGC_MIGRATE_FLUSH_MARK"):
        assert message in text


def test_what_precedes_migrate_data() -> None:
    """Each step has a requirement."""
    assert {identifier for *_, identifier in BEFORE_DATA} <= CATALOGUE.keys()


def test_pictures() -> None:
    """Each legal step is in a picture, and each picture is small enough to read."""
    assert [undrawn(rows) for rows in (MAIN_ORDER, MIGRATING_ORDER, SECONDARY_ORDER)] == [[], [], []]
    assert max(len(diagram.edges) for diagram in DIAGRAMS) <= 18
    if shutil.which("dot"):
        assert all("<svg" in str(diagram.picture) for diagram in DIAGRAMS)
