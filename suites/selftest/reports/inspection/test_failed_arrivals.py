# SPDX-License-Identifier: GPL-2.0-only
"""Migrations whose client did not arrive: `inspect` says why, and what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.packet import Packet
from scapy.utils import rdpcap, wrpcap

from dissectors.framing.events import Ending
from dissectors.wire.constants import LinkErr, MsgcMain, MsgMain, Side
from fixtures.captures.synthetic_capture import link_stage
from suites.selftest.reports.inspection.scenes import (
    DENIED,
    DISPLAY,
    EPOCH,
    ID,
    MAIN,
    Scene,
    outcomes,
    story_of,
)

A, B, C = "10.1.0.11", "10.1.0.12", "10.1.0.13"
CLIENT = "10.1.0.50"
CONNECT_ERROR = MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR


@pytest.mark.parametrize(
    ("channel", "error", "reason"),
    [
        (MAIN, DENIED, "permission denied"),
        (MAIN, LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID, "bad connection id"),
        (MAIN, LinkErr.SPICE_LINK_ERR_NEED_SECURED, "link refused"),
        (DISPLAY, DENIED, "permission denied"),
    ],
)
def test_a_refused_link_is_why_the_client_did_not_arrive(
    scene: Scene, channel: int, error: int, reason: str
) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        if channel != MAIN:
            scene.session(CLIENT, B, target=True)
        second = scene.connect(CLIENT, B)
        frame = scene.link(second, channel, ID, error)
        scene.close(second, by=Side.SERVER)
        scene.client(main, CONNECT_ERROR)
        scene.switched(main, B)
    story = story_of(scene.path)
    assert outcomes(story) == [("did not arrive", reason)]
    (refused,) = story["refused"]
    assert (refused["packet"], refused["server"], refused["channel"]) == (frame, f"{B}:5900", channel)
    assert refused["error"] == LinkErr(error).name.removeprefix("SPICE_LINK_ERR_")
    assert story["migrations"][0]["next"]


def test_a_target_that_does_not_answer(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B, 5900)
        scene.attempt(CLIENT, B, 5900)
        scene.tick(6)
        scene.client(main, CONNECT_ERROR)
        scene.switched(main, B)
    story = story_of(scene.path)
    assert outcomes(story) == [("did not arrive", "not answered")]
    assert story["migrations"][0]["why"].startswith(f"{B}:5900 did not answer")
    assert [attempt["server"] for attempt in story["migrations"][0]["attempts"]] == [f"{B}:5900"]


def answered(kind: str) -> Packet:
    """The answer to a SYN to B: a reset, or ICMP from a router."""
    if kind == "reset":
        return IP(src=B, dst=CLIENT) / TCP(sport=5900, dport=50_000, flags="RA", ack=2)
    quoted = bytes(IP(src=CLIENT, dst=B) / TCP(sport=50_000, dport=5900, flags="S", seq=1))
    return IP(src="10.1.0.1", dst=CLIENT) / ICMP(type=3, code=13 if kind == "prohibited" else 1) / quoted[:28]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("reset", "connection refused"), ("prohibited", "prohibited"), ("no host", "unreachable")],
)
def test_a_target_that_cannot_be_reached(scene: Scene, tmp_path: Path, kind: str, reason: str) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        begun = scene.clock + EPOCH
        scene.tick(1)
        scene.client(main, CONNECT_ERROR)
        scene.switched(main, B)
    syn, answer = IP(src=CLIENT, dst=B) / TCP(sport=50_000, dport=5900, flags="S", seq=1), answered(kind)
    syn.time, answer.time = begun + 0.1, begun + 0.2
    path = tmp_path / "unreached.pcap"
    wrpcap(str(path), sorted([*rdpcap(str(scene.path)), syn, answer], key=lambda p: float(p.time)))
    story = story_of(path)
    assert outcomes(story) == [("did not arrive", reason)]
    assert f"{B}:5900" in story["migrations"][0]["why"]


@pytest.mark.parametrize(
    ("by", "waits", "reason"),
    [
        (Side.SERVER, 0.0, "closed without a word"),
        (Side.CLIENT, 5.0, "link not answered"),
        (Side.CLIENT, 0.5, None),
    ],
)
def test_a_link_message_without_a_reply(scene: Scene, by: Side, waits: float, reason: str | None) -> None:
    """A client that leaves soon has changed its mind."""
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        link = scene.connect(CLIENT, B)
        scene.raw(link, Side.CLIENT, next(data for _, data in link_stage(MAIN, ID)))
        scene.tick(waits)
        scene.close(link, by=by)
        scene.client(main, CONNECT_ERROR)
        scene.switched(main, B)
    wanted = ("did not arrive", reason) if reason else ("not seen", "no attempt seen")
    assert outcomes(story_of(scene.path)) == [wanted]


def test_a_target_that_is_no_spice_server(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        link = scene.connect(CLIENT, B)
        scene.raw(link, Side.SERVER, b"RFB 003.008\n")
        scene.close(link)
        scene.client(main, CONNECT_ERROR)
        scene.switched(main, B)
    story = story_of(scene.path)
    assert outcomes(story) == [("did not arrive", "wrong protocol")]
    assert "speaks VNC" in story["migrations"][0]["why"]


@pytest.mark.parametrize("named", ["127.0.0.1", "host12.example.com", B])
def test_switch_host_behind_translated_ports(scene: Scene, named: str) -> None:
    """Neither port nor id tell that it is the target: the same client comes at once, and the announced
    address says nothing of where."""
    with scene:
        main = scene.session(CLIENT, A, 15_900)
        scene.switched(main, named, 5900)
        scene.close(main)
        scene.session(CLIENT, C, 15_901, number=ID + 1)
    wanted = ("switched and arrived", None) if named != B else ("not seen", "no attempt seen")
    assert outcomes(story_of(scene.path)) == [wanted]


def test_nothing_seen_of_the_target(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.switched(main, B)
        scene.close(main)
    assert outcomes(story_of(scene.path)) == [("not seen", "no attempt seen")]


def test_the_target_drops_the_client(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        target = scene.session(CLIENT, B, target=True)
        scene.client(main, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)
        scene.server(main, MsgMain.SPICE_MSG_MAIN_MIGRATE_END)
        scene.close(target, by=Side.SERVER, how=Ending.RESET)
    assert outcomes(story_of(scene.path)) == [("did not arrive", "dropped")]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "fe80::1", "localhost", "fd00::12"])
def test_an_announcement_that_cannot_help_is_named(scene: Scene, host: str) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, host)
        scene.client(main, CONNECT_ERROR)
    story = story_of(scene.path)
    assert [note["kind"] for note in story["notes"]] == ["address"]
    assert host in story["notes"][0]["text"]
    assert story["migrations"][0]["unreachable"]
