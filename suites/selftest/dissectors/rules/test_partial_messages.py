# SPDX-License-Identifier: GPL-2.0-only
"""A message of which a capture holds only a part: nobody is accused because of the fields that are missing.

One packet is cut in each example, as by a snap length, at several places of its first message.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dissectors.rules.inspector import Inspection
from dissectors.wire.constants import MsgBase, MsgMain
from suites.selftest.dissectors.capture.capture_mutations import Packet, save
from suites.selftest.dissectors.rules.test_harmless_changes import judged, recording

HEADER_BYTES = 6  # mini header
LARGEST_BYTES = 200  # of a payload; messages that decide anything are small
#: Type of a message -> how many bytes of its body the capture holds: nothing, and up to within each field.
DECIDING = {
    int(MsgMain.SPICE_MSG_MAIN_INIT): (0, 2, 4, 8, 20, 28),
    int(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST): (0, 4, 9),
    int(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN): (0, 2, 4, 20, 24),
    int(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS): (0, 2, 4, 20, 24),
    int(MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST): (0, 2, 4, 20, 24),
    int(MsgBase.SPICE_MSG_MIGRATE): (0, 2),
}
RECORDED = ("semi-seamless", "seamless", "switch-host")


def cut_packet(packets: tuple[Packet, ...], place: int, size: int) -> list[Packet]:
    """The packets, of which one has only `size` bytes of its payload in the capture."""
    changed, packet = list(packets), packets[place]
    held = len(packet.data) - len(packet.payload) + size
    changed[place] = replace(packet, data=packet.data[:held])
    return changed


def deciding_cuts(packets: tuple[Packet, ...]) -> list[tuple[int, int]]:
    """(place of a packet, bytes of its payload) for each deciding message that begins a packet."""
    found = []
    for place, packet in enumerate(packets):
        payload = packet.payload
        kind, size = int.from_bytes(payload[:2], "little"), int.from_bytes(payload[2:6], "little")
        if len(payload) >= HEADER_BYTES and size + HEADER_BYTES <= len(payload):
            held = (HEADER_BYTES + body for body in DECIDING.get(kind, ()) if body < size)
            found += [(place, bytes_held) for bytes_held in held]
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_a_part_of_a_deciding_message(name: str, tmp_path: Path) -> None:
    whole, accused = recording(name), {}
    cuts = deciding_cuts(whole)
    assert len(cuts) > 10
    for place, size in cuts:
        broken, _ = judged(save(tmp_path / "part.pcap", cut_packet(whole, place, size)))
        if broken:
            accused[place, size] = broken
    assert accused == {}


@pytest.mark.parametrize("name", RECORDED)
def test_half_of_any_small_packet(name: str, tmp_path: Path) -> None:
    whole, accused = recording(name), {}
    small = [place for place, packet in enumerate(whole) if 0 < len(packet.payload) <= LARGEST_BYTES]
    for place in small[::5]:
        size = len(whole[place].payload) // 2
        broken, _ = judged(save(tmp_path / "part.pcap", cut_packet(whole, place, size)))
        if broken:
            accused[place] = broken
    assert accused == {}


def test_the_message_itself_still_counts(tmp_path: Path) -> None:
    """BEGIN without its host: the migration is told, SWITCH_HOST gives the address and is not compared."""
    whole = recording("switch-host")
    begin = int(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN).to_bytes(2, "little")
    payloads = [packet.payload for packet in whole]
    place = next(at for at, said in enumerate(payloads) if said.startswith(begin) and b"127.0.0.1" in said)
    inspection = Inspection([save(tmp_path / "part.pcap", cut_packet(whole, place, HEADER_BYTES + 4))])
    judgement = inspection.finish()
    (migration,) = inspection.oracle.conversation.migrations
    assert migration.begin is not None
    assert not migration.begin.whole
    assert migration.host == "127.0.0.1"
    assert judgement.kept["MIG-SRC-019"] == 0
    assert list(inspection.findings) == []
