# SPDX-License-Identifier: GPL-2.0-only
"""Sessions behind a proxy: several machines at one address, and links that the capture shows on both
sides."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from dissectors.wire.constants import MsgcMain, MsgMain, Side
from fixtures.captures.synthetic_capture import link_stage
from suites.selftest.reports.inspection.scenes import (
    DISPLAY,
    ID,
    MAIN,
    Scene,
    accused,
    destination,
    init,
    outcomes,
    story_of,
)

A, B, C, D = "10.1.0.11", "10.1.0.12", "10.1.0.21", "10.1.0.22"
CLIENT, OTHER, PROXY = "10.1.0.50", "10.1.0.51", "10.1.0.60"
S, M = Side.SERVER, MsgMain
LIST = struct.pack("<IBB", 1, DISPLAY, 0)


def tunnel(scene: Scene, client: str, host: str) -> int:
    """A connection through the HTTP proxy."""
    made = scene.connect(client, PROXY, 3128)
    scene.raw(made, Side.CLIENT, f"CONNECT {host}:5900 HTTP/1.0\r\n\r\n".encode())
    scene.raw(made, S, b"HTTP/1.0 200 OK\r\n\r\n")
    return made


def begun(scene: Scene, client: str, host: str, number: int) -> int:
    main = tunnel(scene, client, host)
    scene.link(main)
    scene.server(main, M.SPICE_MSG_MAIN_INIT, init(number))
    scene.client(main, MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    scene.server(main, M.SPICE_MSG_MAIN_CHANNELS_LIST, LIST)
    return main


@pytest.mark.parametrize("first_ends", [True, False])
def test_two_machines_of_equal_ids_behind_one_proxy(scene: Scene, first_ends: bool) -> None:
    with scene:
        mains = begun(scene, CLIENT, A, 1), begun(scene, OTHER, C, 1)
        scene.tick(1)
        scene.close(mains[not first_ends], by=S)
    story = story_of(scene.path)
    assert accused(story) == []
    assert story["notes"] == []
    assert [s["channels"][0]["via"] for s in story["sessions"]] == [f"{A}:5900", f"{C}:5900"]


@pytest.mark.parametrize("clients", [(CLIENT, OTHER), (CLIENT, CLIENT)])
def test_both_migrate_at_once(scene: Scene, clients: Sequence[str]) -> None:
    """The tunnel's host is the announced one."""
    with scene:
        sources = begun(scene, clients[0], A, 1), begun(scene, clients[1], C, 1)
        scene.begin(sources[0], B)
        scene.begin(sources[1], D)
        targets = tunnel(scene, clients[1], D), tunnel(scene, clients[0], B)
        for target in targets:
            scene.link(target, MAIN, 1)
        scene.moved(sources[0], targets[1], 1)
        scene.moved(sources[1], targets[0], 1)
    story = story_of(scene.path)
    assert outcomes(story) == [("completed", None)] * 2
    connections = {s["channels"][0]["connection"]: s["channels"][0]["via"] for s in story["sessions"]}
    assert connections == {1: f"{A}:5900", 2: f"{C}:5900", 3: f"{D}:5900", 4: f"{B}:5900"}
    ended = [m["phases"][-1]["packet"] for m in story["migrations"]]
    assert ended == sorted(ended)
    assert accused(story) == []


class Legs:
    """A link before and behind a proxy, or before and behind the translation of its addresses."""

    def __init__(self, scene: Scene, way: str, host: str, port: int, session: int = 0) -> None:
        self.scene = scene
        self.first = scene.connect(CLIENT, PROXY, port)
        if way == "proxy":
            self.second = scene.connect(PROXY, host)
        elif way == "loopback":
            self.second = scene.connect("127.0.0.1", "127.0.0.1", port + 1000)
        else:
            self.second = scene.connect_from(self.first, host)
        for side, data in link_stage(MAIN, session):
            self.say(side, scene.real(side, data, MAIN))

    def say(self, side: Side, data: bytes) -> None:
        legs = (self.first, self.second) if side is Side.CLIENT else (self.second, self.first)
        for leg in legs:
            self.scene.raw(leg, side, data)

    def server(self, kind: int, body: bytes = b"") -> None:
        self.say(S, self.scene.message(kind, body))

    def client(self, kind: int) -> None:
        self.say(Side.CLIENT, self.scene.message(kind))

    def close(self) -> None:
        self.scene.close(self.first)
        self.scene.close(self.second)


@pytest.mark.parametrize("way", ["proxy", "loopback", "translation"])
def test_a_link_on_both_sides_of_a_proxy_is_reported_once(scene: Scene, way: str) -> None:
    with scene:
        source = Legs(scene, way, A, 5900)
        source.server(M.SPICE_MSG_MAIN_INIT, init())
        source.client(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
        source.server(M.SPICE_MSG_MAIN_CHANNELS_LIST, LIST)
        source.server(M.SPICE_MSG_MAIN_MIGRATE_BEGIN, destination(B, 5900))
        target = Legs(scene, way, B, 5901, ID)
        source.client(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)
        source.server(M.SPICE_MSG_MAIN_MIGRATE_END)
        source.close()
        target.client(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
        target.server(M.SPICE_MSG_MAIN_INIT, init())
    story = story_of(scene.path)
    assert outcomes(story) == [("completed", None)]
    assert [s["host"] for s in story["sessions"]] == [f"{PROXY}:5900", f"{PROXY}:5901"]
    behind = ("127.0.0.1:6900", "127.0.0.1:6901") if way == "loopback" else (f"{A}:5900", f"{B}:5900")
    assert tuple(s["channels"][0]["via"] for s in story["sessions"]) == behind
    notes = [note["text"] for note in story["notes"] if note["kind"] == "legs"]
    assert len(notes) == 2
    assert f"what goes to {PROXY}:5900 goes on to {behind[0]}" in notes[0]
    assert accused(story) == []
