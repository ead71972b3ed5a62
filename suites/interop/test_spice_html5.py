# SPDX-License-Identifier: GPL-2.0-only
"""A second real client, spice-html5, over the server's WebSocket: its session, and how it meets a migration.

It has no SEMI_SEAMLESS_MIGRATE, so the source tells it SWITCH_HOST; what it does not implement is a client's
deviation.
"""

from __future__ import annotations

import socket

import pytest

from dissectors.framing.events import Message
from dissectors.wire.constants import ChannelType
from fixtures.bench import Bench
from fixtures.bench.planting import requirement
from fixtures.html5.html5_client import Html5Client
from fixtures.html5.html5_page import Html5Page
from fixtures.system.hosts import Ability, Host, Unsupported

TICKET = "a ticket of the project"
DEVICES = ("keyboard", "mouse", "tablet", "display")
OPENED = {
    ChannelType.SPICE_CHANNEL_MAIN,
    ChannelType.SPICE_CHANNEL_DISPLAY,
    ChannelType.SPICE_CHANNEL_INPUTS,
    ChannelType.SPICE_CHANNEL_CURSOR,
}
START_S = 40.0  # a browser starts on a busy machine
STAYS_MS = 10_000
SWITCH = "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST"
UPGRADE = (
    b"GET /websockify HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: binary\r\n\r\n"
)

pytestmark = [
    pytest.mark.client_duties,
    pytest.mark.needs(Ability.CALLS, Ability.VIRTUAL_CLOCK),
    requirement("MIG-CLI-013", "MIG-CLI-014", "MIG-CLI-015", "MIG-CLI-017", "MIG-CLI-018"),
]


def _must_have_websocket(host: Host) -> None:
    """Raises Unsupported: the server answers an upgrade with something else than 101."""
    with socket.create_connection((host.address, host.port or 0), 5) as asking:
        asking.sendall(UPGRADE)
        asking.settimeout(5)
        if not asking.recv(64).startswith(b"HTTP/1.1 101"):
            raise Unsupported("this build has no WebSocket")


def _messages(bench: Bench, host: Host) -> list[Message]:
    tracks = [t for t in bench.pump.tape.tracks.values() if t.opened.host == host.label]
    return [e for track in tracks for e in track.events if isinstance(e, Message)]


def _session(bench: Bench, *, tls: bool = False, devices: tuple[str, ...] = DEVICES) -> tuple[Host, Host]:
    """Source and target, and the client at the source with all its channels open."""
    certificate = bench.certificate() if tls else None
    plain = bench.start("probe")
    _must_have_websocket(plain)
    bench.relayed(certificate=certificate)
    settings = {"tls": certificate.settings(), "tls_only": True} if certificate else {}
    source, target = bench.pair(devices=devices, ticket=TICKET, **settings)
    page = Html5Page(certificate)
    bench.belongings.callback(page.close)
    port = source.tls_port if tls else source.port
    client = Html5Client(page.address(source.address, port or 0, TICKET), bench.directory / "profile")
    bench.belongings.callback(client.stop)

    def opened() -> bool:
        assert client.life().alive, f"the browser ended: {client.life().message}"
        return {m.channel for m in _messages(bench, source)} >= OPENED

    bench.pump.until(opened, START_S, "spice-html5's main, display, inputs and cursor channels")
    bench.settle()
    return source, target


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_session(bench: Bench, tls: bool) -> None:
    """It opens its channels over the server's WebSocket, and draws what the guest draws."""
    source, _ = _session(bench, tls=tls)
    had = len(_messages(bench, source))
    source.call("qxl_draw")
    bench.pump.until(lambda: len(_messages(bench, source)) > had, what="what the guest draws")
    bench.settle()


def test_with_agent(bench: Bench) -> None:
    """It talks to the guest's agent, in client mouse mode."""
    source, _ = _session(bench, devices=(*DEVICES, "agent"))
    started = "SPICE_MSGC_MAIN_AGENT_START"
    bench.pump.until(lambda: any(m.name == started for m in _messages(bench, source)), what=started)
    bench.settle()


@requirement("MIG-SRC-018", "MIG-SRC-030", "MIG-CLI-006")
def test_switch_host(bench: Bench) -> None:
    """It is told SWITCH_HOST when the machine has moved, and dropped when it does not go."""
    source, target = _session(bench)
    source.announce(target)
    bench.wait(source, "migrate_connect_complete", proves="MIG-SRC-030")
    source.complete(target)
    told = lambda: any(m.name == SWITCH for m in _messages(bench, source))  # noqa: E731
    bench.until(told, SWITCH, proves="MIG-SRC-018")
    bench.pass_time(source, STAYS_MS)
    bench.pump.until(
        lambda: all(t.closed for t in bench.pump.tape.tracks.values() if t.opened.host == source.label),
        what="the end of its connections",
    )
    came = any(t.opened.host == target.label for t in bench.pump.tape.tracks.values())
    bench.claim(came, "a new session at the target after SWITCH_HOST", "no link", proves="MIG-CLI-006")
