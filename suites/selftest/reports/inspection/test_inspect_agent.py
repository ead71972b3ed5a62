# SPDX-License-Identifier: GPL-2.0-only
"""An agent message in several AGENT_DATA is shown, whole, at the last of them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.channels.agent import VDAgentMessage, chunks
from dissectors.channels.agent_enums import AgentType
from dissectors.framing.events import Endpoint
from dissectors.framing.framer import MINI
from dissectors.wire.constants import ChannelType, MsgMain, Side
from fixtures.captures.synthetic_capture import link_stage, main_init
from reports.commands import inspect

SIZES = [VDAgentMessage(type=AgentType.VD_AGENT_CLIPBOARD, body=struct.pack("<I", 1) + bytes(5000))]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "agent.pcapng"
    with path.open("wb") as file:
        writer = PcapngWriter(file, epoch=1_700_000_000.0)
        writer.open_connection(1, Endpoint("192.0.2.1", 40_000), Endpoint("192.0.2.2", 5900), 0.0)
        said = [*link_stage(ChannelType.SPICE_CHANNEL_MAIN, 0), (Side.SERVER, main_init())]
        for piece in chunks(SIZES):
            said.append((Side.SERVER, MINI.pack(MsgMain.SPICE_MSG_MAIN_AGENT_DATA, len(piece)) + piece))
        for index, (side, data) in enumerate(said, 1):
            writer.segment(1, side, data, index / 100)
    return path


def test_messages_show_what_the_pieces_are(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect.main(captures=[capture], messages=True)
    output = capsys.readouterr().out.splitlines()
    pieces = [index for index, line in enumerate(output) if "SPICE_MSG_MAIN_AGENT_DATA (" in line]
    (agent,) = (
        index for index, line in enumerate(output) if "agent: VD_AGENT_CLIPBOARD (5,004 bytes)" in line
    )
    assert len(pieces) == 3
    assert agent == pieces[-1] + 1


def test_the_page_shows_its_fields(capture: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    inspect.main(captures=[capture], html=page, as_json=True)
    text = page.read_text()
    assert text.count('"agent": ') == 1
    assert "VD_AGENT_CLIPBOARD" in text
