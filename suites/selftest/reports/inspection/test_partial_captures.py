# SPDX-License-Identifier: GPL-2.0-only
"""Captures with only a part of a migration: one direction, one lost segment, its last messages. The story
reports this part, and calls no client lost that may have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dissectors.wire.constants import MsgcMain, MsgMain, Side
from fixtures.captures import DIRECTORY
from suites.selftest.dissectors.capture.capture_mutations import Packet, cut, packets, save, without
from suites.selftest.dissectors.capture.harmless_changes import ports, server_ports
from suites.selftest.dissectors.rules.test_harmless_changes import bare, bare_packets
from suites.selftest.reports.inspection.scenes import DENIED, ID, Scene, init, outcomes, story_of

A, B, CLIENT, OTHER = "10.1.0.11", "10.1.0.12", "10.1.0.50", "10.1.0.51"
RECORDED = ("semi-seamless", "seamless", "switch-host", "late")


def recorded(name: str) -> Sequence[Packet]:
    return bare_packets(DIRECTORY / f"{name}.pcapng.gz")


def told(path: Path, every: Sequence[Packet]) -> dict[str, Any]:
    return story_of(save(path / "part.pcap", every))


def of(every: Sequence[Packet], side: Side) -> Sequence[Packet]:
    """The bytes of one side."""
    servers = server_ports(every)
    return [packet for packet in every if ports(packet)[side is Side.CLIENT] in servers]


def scheme_and_outcome(story: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(m["scheme"], m["outcome"], m["reason"]) for m in story["migrations"]]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("semi-seamless", ("semi-seamless", "not seen", "one direction only")),
        ("seamless", ("seamless", "completed", None)),
        ("switch-host", ("semi-seamless", "not seen", "one direction only")),
        ("late", ("semi-seamless", "not seen", "one direction only")),
    ],
)
def test_the_clients_half(tmp_path: Path, name: str, wanted: tuple[str, str, str | None]) -> None:
    """The server's bytes are known by their acknowledgements alone."""
    story = told(tmp_path, of(recorded(name), Side.CLIENT))
    assert scheme_and_outcome(story) == [wanted]
    assert len(story["sessions"]) == 2
    assert len(story["sessions"][0]["channels"]) == 4
    assert story["findings"] == []
    assert all(gap["all"] for gap in story["gaps"])
    assert not story["capture"]["nothing_judged"]
    assert "only one end says anything" in story["capture"]["notes"][0]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("semi-seamless", ("semi-seamless", "completed", None)),
        ("seamless", ("seamless", "completed", None)),
        ("switch-host", ("semi-seamless, then switch-host", "switched and arrived", None)),
        ("late", ("semi-seamless, then switch-host", "switched and arrived", None)),
    ],
)
def test_the_servers_half(tmp_path: Path, name: str, wanted: tuple[str, str, str | None]) -> None:
    story = told(tmp_path, of(recorded(name), Side.SERVER))
    assert scheme_and_outcome(story) == [wanted]
    assert story["findings"] == []


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("name", RECORDED)
def test_one_direction_of_the_source_alone(tmp_path: Path, name: str, side: Side) -> None:
    every = recorded(name)
    source = [packet for packet in every if server_ports(every)[0] in ports(packet)]
    story = told(tmp_path, of(source, side))
    assert [(m["outcome"], m["reason"]) for m in story["migrations"]] == [("not seen", "one direction only")]
    assert story["findings"] == []


@pytest.mark.parametrize("start", range(5))
@pytest.mark.parametrize("name", RECORDED)
def test_one_lost_packet_loses_no_client(tmp_path: Path, name: str, start: int) -> None:
    """Whichever packet the capture lacks, the story does not call the client lost."""
    every = recorded(name)
    for place in range(start, len(every), 25):
        story = told(tmp_path, without(every, [place]))
        (migration,) = story["migrations"]
        assert migration["outcome"] in ("completed", "switched and arrived", "cancelled"), place
        assert story["findings"] == [], place


@pytest.mark.parametrize("snap", [60, 74, 96, 128, 1500])
@pytest.mark.parametrize("name", RECORDED)
def test_cut_packets_lose_no_client(tmp_path: Path, name: str, snap: int) -> None:
    story = told(tmp_path, cut(recorded(name), snap))
    assert all(m["outcome"] != "did not arrive" for m in story["migrations"])
    assert story["findings"] == []


@pytest.mark.parametrize("snap", [70, 82])  # raw IPv4: 30 and 42 bytes of payload
def test_a_refusal_in_cut_packets_is_reported(tmp_path: Path, snap: int) -> None:
    """A target that refuses the client, seen by tcpdump -s 96, with TCP timestamps or without."""
    with Scene(tmp_path / "scene.pcapng") as scene:
        source = scene.session(CLIENT, A)
        scene.begin(source, B)
        target = scene.connect(CLIENT, B)
        scene.link(target, session=ID, error=DENIED)
        scene.close(target, Side.SERVER)
        scene.client(source, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR)
        scene.close(source)
    story = told(tmp_path, cut(list(map(bare, packets(scene.path))), snap))
    assert story["capture"]["spice_streams"] == 2
    assert outcomes(story) == [("did not arrive", "permission denied")]
    assert (story["findings"], story["doubtful"]) == ([], [])


def test_the_last_packets_of_a_migration(tmp_path: Path) -> None:
    """Wherever the capture begins: the migration, as long as the source's MIGRATE_END is there."""
    with Scene(tmp_path / "scene.pcapng") as scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        scene.moved(main, scene.session(CLIENT, B, target=True))
    every = packets(scene.path)
    for place in range(len(every) - 4):
        story = told(tmp_path, every[place:])
        assert scheme_and_outcome(story) == [("semi-seamless", "completed", None)], place
        (migration,) = story["migrations"]
        assert (migration["source"], migration["target"]) == (f"{A}:5900", f"{B}:5900"), place
        assert migration["session_id"] == migration["target_session_id"], place
    story = told(tmp_path, every[-3:])
    assert story["migrations"] == []
    assert [note["kind"] for note in story["notes"]] == ["arrival"]


def test_a_lone_message_of_a_stranger_is_no_source(tmp_path: Path) -> None:
    """The six bytes of MIGRATE_END prove nothing if no client of this source reaches a target."""
    with Scene(tmp_path / "scene.pcapng") as scene:
        stranger = scene.connect(OTHER, A, 7000)
        scene.server(stranger, MsgMain.SPICE_MSG_MAIN_MIGRATE_END)
        scene.close(stranger)
        main = scene.session(CLIENT, B, target=True)
        scene.client(main, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
        scene.server(main, MsgMain.SPICE_MSG_MAIN_INIT, init())
    story = told(tmp_path, packets(scene.path)[3:])
    assert story["migrations"] == []
    assert story["capture"]["other_streams"] == 1


@pytest.mark.parametrize(("by", "reason"), [(Side.SERVER, "dropped"), (Side.CLIENT, "the client gave up")])
def test_the_source_is_left_before_the_end(tmp_path: Path, by: Side, reason: str) -> None:
    with Scene(tmp_path / "scene.pcapng") as scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        scene.close(main, by=by)
    story = story_of(scene.path)
    assert outcomes(story) == [("did not arrive", reason)]
    assert "before the migration had ended" in story["migrations"][0]["why"]


def test_a_source_that_is_taken_over_meanwhile(tmp_path: Path) -> None:
    with Scene(tmp_path / "scene.pcapng") as scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        other = scene.connect(OTHER, A)
        scene.link(other)
        scene.close(main, by=Side.SERVER)
        scene.server(other, MsgMain.SPICE_MSG_MAIN_INIT, init(7))
    story = story_of(scene.path)
    assert outcomes(story) == [("did not arrive", "dropped")]
    assert story["migrations"][0]["why"].endswith(f": {OTHER} took it over")


@pytest.mark.parametrize("name", ["seamless", "switch-host", "late"])
def test_a_capture_that_ends_too_early_loses_nobody(tmp_path: Path, name: str) -> None:
    """The client is not lost while a SYN is on its way, or while it makes the link that SWITCH_HOST
    requests."""
    every = recorded(name)
    whole = told(tmp_path, every)["migrations"][0]
    begun = whole["phases"][0]["packet"]
    ended = {"seamless": len(every), "switch-host": begun, "late": begun + 8}[name]
    for place in range(begun, min(begun + 6, ended)):
        (migration,) = told(tmp_path, every[:place])["migrations"]
        assert migration["outcome"] != "did not arrive", place
    if name != "seamless":
        for place in range(len(every) - 50, len(every), 6):
            (migration,) = told(tmp_path, every[:place])["migrations"]
            assert migration["outcome"] in ("moving", "switched and arrived"), place
