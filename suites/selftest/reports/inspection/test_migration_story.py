# SPDX-License-Identifier: GPL-2.0-only
"""Migrations in real networks: who is who, and whether the client arrived."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from dissectors.capture.capture_files import CaptureFile
from dissectors.wire.constants import MsgcMain, MsgMain, Side
from fixtures.captures import DIRECTORY
from suites.selftest.dissectors.capture.capture_mutations import packets, save
from suites.selftest.reports.inspection.scenes import (
    DISPLAY,
    ID,
    Scene,
    accused,
    init,
    outcomes,
    story_of,
)

A, B, C, D = "10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.14"
SIX = "fd00::11", "fd00::12"
CLIENT, OTHER = "10.1.0.50", "10.1.0.51"
CANCEL = MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL


def ends(story: dict[str, object]) -> list[tuple[str, str]]:
    """(source, target) of each migration."""
    migrations = story["migrations"]
    assert isinstance(migrations, list)
    return [(migration["source"], migration["target"]) for migration in migrations]


@pytest.mark.parametrize(
    ("client", "source", "target", "ports"),
    [(CLIENT, A, B, (5900, 5900)), (CLIENT, B, A, (5901, 49_215)), ("fd00::50", *SIX, (5900, 6000))],
)
def test_a_migration(scene: Scene, client: str, source: str, target: str, ports: tuple[int, int]) -> None:
    with scene:
        main = scene.session(client, source, ports[0])
        scene.begin(main, target, ports[1])
        scene.moved(main, scene.session(client, target, ports[1], target=True))
    story = story_of(scene.path)
    assert outcomes(story) == [("completed", None)]
    assert [phase["name"] for phase in story["migrations"][0]["phases"]] == [
        "announced",
        "linked",
        "connected",
        "moved",
        "ended",
        "arrived",
    ]
    assert story["migrations"][0]["duration_ms"] > 50
    assert accused(story) == []


def test_a_chain_of_three_migrations(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        for host in (B, C, D):
            scene.begin(main, host)
            target = scene.session(CLIENT, host, target=True)
            scene.moved(main, target)
            main = target
    story = story_of(scene.path)
    assert ends(story) == [(f"{a}:5900", f"{b}:5900") for a, b in ((A, B), (B, C), (C, D))]
    assert outcomes(story) == [("completed", None)] * 3


def test_cancelled_and_tried_again(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        first = scene.session(CLIENT, B, target=True)
        scene.client(main, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)
        scene.server(main, CANCEL)
        scene.close(first)
        scene.begin(main, C)
        scene.moved(main, scene.session(CLIENT, C, target=True))
    story = story_of(scene.path)
    assert outcomes(story) == [("cancelled", None), ("completed", None)]
    assert ends(story)[1] == (f"{A}:5900", f"{C}:5900")


def test_switch_host_arrives(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        scene.switched(main, B)
        scene.close(main)
        scene.session(CLIENT, B, number=ID + 1)
    story = story_of(scene.path)
    assert outcomes(story) == [("switched and arrived", None)]
    assert story["migrations"][0]["scheme"] == "switch-host"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("named", [False, True], ids=["addresses", "names"])
def test_two_machines_at_once_with_equal_ids_and_ports(
    scene: Scene, order: tuple[int, int], named: bool
) -> None:
    """By the announced host, or, if that is a name, by the client."""
    clients, sources, targets = (CLIENT, OTHER), (A, C), (B, D)
    with scene:
        mains = [scene.session(clients[n], sources[n]) for n in order]
        for n, main in zip(order, mains, strict=True):
            scene.begin(main, f"host{n}.example.com" if named else targets[n])
        arrived = {n: scene.session(clients[n], targets[n], target=True) for n in (1, 0)}
        for n, main in zip(order, mains, strict=True):
            scene.moved(main, arrived[n])
    story = story_of(scene.path)
    assert set(ends(story)) == {(f"{A}:5900", f"{B}:5900"), (f"{C}:5900", f"{D}:5900")}
    assert outcomes(story) == [("completed", None)] * 2


def test_one_client_with_two_machines_of_equal_ids(scene: Scene) -> None:
    with scene:
        mains = [scene.session(CLIENT, host) for host in (A, C)]
        for main, host in zip(mains, (B, D), strict=True):
            scene.begin(main, host)
        arrived = [scene.session(CLIENT, host, target=True) for host in (D, B)]
        scene.moved(mains[0], arrived[1])
        scene.moved(mains[1], arrived[0])
    assert set(ends(story_of(scene.path))) == {(f"{A}:5900", f"{B}:5900"), (f"{C}:5900", f"{D}:5900")}


def test_source_and_target_behind_one_address(scene: Scene) -> None:
    with scene:
        main = scene.session(CLIENT, "10.9.9.9", 15_900)
        scene.begin(main, B)
        scene.moved(main, scene.session(CLIENT, "10.9.9.9", 15_900, target=True))
    assert outcomes(story_of(scene.path)) == [("completed", None)]


def test_nat_between(scene: Scene) -> None:
    """The client links to another address than the announced one, and comes from another address itself."""
    with scene:
        main = scene.session(CLIENT, A)
        scene.begin(main, "192.168.7.12")
        scene.moved(main, scene.session("198.51.100.9", B, target=True))
    story = story_of(scene.path)
    assert outcomes(story) == [("completed", None)]
    assert ends(story) == [(f"{A}:5900", f"{B}:5900")]


def test_a_host_with_several_addresses(scene: Scene) -> None:
    """A display at another address, whose server takes the session's id, belongs to the session."""
    with scene:
        main = scene.session(CLIENT, A)
        display = scene.connect(CLIENT, "10.7.0.11")
        scene.link(display, DISPLAY, ID)
        scene.server(display, 3, bytes(8))
    story = story_of(scene.path)
    assert [[c["connection"] for c in session["channels"]] for session in story["sessions"]] == [
        [main, display]
    ]
    assert accused(story) == []


@pytest.mark.parametrize("clients", [(CLIENT, OTHER), (OTHER, CLIENT)])
def test_two_machines_of_one_host_with_equal_ids(scene: Scene, clients: tuple[str, str]) -> None:
    """Their displays are on ports of their own (TLS): each belongs to its own client's session."""
    with scene:
        mains = [scene.session(client, A, port) for client, port in zip(clients, (5900, 5902), strict=True)]
        displays = [
            scene.connect(client, A, port) for client, port in zip(clients, (5901, 5903), strict=True)
        ]
        for display in displays:
            scene.link(display, DISPLAY, ID)
            scene.server(display, 3, bytes(8))
    story = story_of(scene.path)
    assert accused(story) == []
    joined = {
        s["channels"][0]["connection"]: [c["connection"] for c in s["channels"][1:]]
        for s in story["sessions"]
    }
    assert joined == {mains[0]: [displays[0]], mains[1]: [displays[1]]}


def test_a_take_over_is_reported(scene: Scene) -> None:
    with scene:
        old = scene.session(CLIENT, A)
        new = scene.connect(OTHER, A)
        scene.link(new)
        scene.close(old, by=Side.SERVER)
        scene.server(new, MsgMain.SPICE_MSG_MAIN_INIT, init(ID + 1))
    (note,) = story_of(scene.path)["notes"]
    assert note["kind"] == "take-over"
    assert f"{OTHER} took {A}:5900 over from {CLIENT}" in note["text"]


def test_loopback_is_fine_on_one_machine(scene: Scene) -> None:
    with scene:
        main = scene.session("127.0.0.1", "127.0.0.1", 5900)
        scene.begin(main, "127.0.0.1", 5901)
        scene.moved(main, scene.session("127.0.0.1", "127.0.0.1", 5901, target=True))
    story = story_of(scene.path)
    assert outcomes(story) == [("completed", None)]
    assert story["notes"] == []


def test_an_agent_that_the_target_lacks_is_reported(scene: Scene) -> None:
    with scene:
        main = scene.connect(CLIENT, A)
        scene.link(main)
        scene.server(main, MsgMain.SPICE_MSG_MAIN_INIT, init(agent=True))
        scene.client(main, MsgcMain.SPICE_MSGC_MAIN_AGENT_START, bytes(4))
        scene.begin(main, B)
        target = scene.session(CLIENT, B, target=True)
        scene.moved(main, target)
        scene.client(target, MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, bytes(20))
    assert "the agent was connected at the source" in story_of(scene.path)["notes"][0]["text"]


@pytest.mark.parametrize("host", [A, "fd00::11"])
def test_a_capture_that_begins_before_the_announcement(scene: Scene, tmp_path: Path, host: str) -> None:
    """The capture has nothing of the source's link stage: client, host and session are found all the same."""
    client = CLIENT if host == A else "fd00::50"
    target_host = B if host == A else "fd00::12"
    with scene:
        main = scene.session(client, host)
        announced = scene.begin(main, target_host)
        scene.moved(main, scene.session(client, target_host, target=True))
    late = save(tmp_path / "late.pcap", packets(scene.path)[announced - 1 :])
    story = story_of(late)
    assert outcomes(story) == [("completed", None)]
    source = f"[{host}]:5900" if ":" in host else f"{host}:5900"
    assert story["migrations"][0]["source"] == source
    assert story["migrations"][0]["session_id"] == ID
    assert accused(story) == []


def test_a_capture_that_begins_after_the_announcement(scene: Scene, tmp_path: Path) -> None:
    with scene:
        main = scene.session(CLIENT, A)
        announced = scene.begin(main, B)
        scene.moved(main, scene.session(CLIENT, B, target=True))
    story = story_of(save(tmp_path / "late.pcap", packets(scene.path)[announced:]))
    assert accused(story) == []
    assert {s["host"] for s in story["sessions"]} >= {f"{B}:5900"}


@pytest.mark.parametrize("name", ["semi-seamless", "seamless", "switch-host", "late"])
def test_recorded_migrations_wherever_the_capture_begins(name: str, tmp_path: Path) -> None:
    """At any packet before the announcement, in the middle of the link stage too."""
    recording = tmp_path / "whole.pcapng"
    recording.write_bytes(gzip.decompress((DIRECTORY / f"{name}.pcapng.gz").read_bytes()))
    link = next(CaptureFile(recording).records())[2]
    every = packets(recording)
    whole = story_of(save(tmp_path / "whole.pcap", every, link))
    facts = ("scheme", "outcome", "source", "target", "host", "port")
    (announced,) = (m["phases"][0]["packet"] for m in whole["migrations"])
    for start in range(1, announced - 1, max(1, announced // 20)):
        story = story_of(save(tmp_path / "late.pcap", every[start:], link))
        result = [[m[key] for key in facts] for m in story["migrations"]]
        assert result == [[m[key] for key in facts] for m in whole["migrations"]], start
        assert story["findings"] == []


def test_old_connections_of_others_are_one_number(scene: Scene, tmp_path: Path) -> None:
    """ssh, NFS and the like that began before the capture, beside a migration."""
    with scene:
        foreign = [
            scene.connect(f"10.2.0.{n}", "10.3.0.1", port) for n, port in enumerate((22, 2049, 3260) * 5)
        ]
        first = 3 * len(foreign)
        for n, connection in enumerate(foreign):
            for turn in range(6):
                side = Side.CLIENT if turn % 2 else Side.SERVER
                scene.raw(connection, side, bytes((n * 31 + turn * 7 + k * k) % 256 for k in range(90)))
        main = scene.session(CLIENT, A)
        scene.begin(main, B)
        scene.moved(main, scene.session(CLIENT, B, target=True))
    story = story_of(save(tmp_path / "busy.pcap", packets(scene.path)[first:]))
    assert story["capture"]["other_streams"] == len(foreign)
    assert outcomes(story) == [("completed", None)]
    assert len(story["sessions"]) == 2


def test_connected_and_the_end_are_enough(tmp_path: Path) -> None:
    """The capture begins after BEGIN, and the source's main channel says nothing more than it must."""
    with Scene(tmp_path / "whole.pcapng") as scene:
        source = scene.session(CLIENT, A)
        announced = scene.begin(source, B)
        target = scene.session(CLIENT, B, target=True)
        scene.moved(source, target)
    story = story_of(save(tmp_path / "late.pcap", packets(scene.path)[announced:]))
    (migration,) = story["migrations"]
    assert (migration["scheme"], migration["outcome"]) == ("semi-seamless", "completed")
    assert (migration["source"], migration["target"]) == (f"{A}:5900", f"{B}:5900")
    assert (migration["session_id"], migration["host"]) == (ID, None)
    assert accused(story) == []
