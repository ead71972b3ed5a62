# SPDX-License-Identifier: GPL-2.0-only
"""How the server notifies its hypervisor of clients: channel_event, and the number of clients (spice-core.h,
SpiceChannelEventInfo; spice-server.h). QEMU reports sessions to its users by these events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dissectors.wire.constants import ChannelType
from fixtures.bench import Bench
from fixtures.bench.planting import called_twice, never, other_result, requirement, skipped
from fixtures.peer import Client
from fixtures.peer.transport import trusting
from fixtures.system.hosts import SEVERAL_CLIENTS, Ability, Host

MAIN, INPUTS, PORT = (
    ChannelType.SPICE_CHANNEL_MAIN,
    ChannelType.SPICE_CHANNEL_INPUTS,
    ChannelType.SPICE_CHANNEL_PORT,
)
DEVICES = ("keyboard", "mouse", "display", "playback", "port:one.example", "port:two.example")

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)

#: session id, channel type, channel id, over TLS
ChannelEvent = tuple[int, int, int, bool]


def channel_events(bench: Bench, name: str) -> list[ChannelEvent]:
    """The events with this name, of all channels."""
    args = (e.args for e in bench.pump.tape.host_events if e.name == f"channel_{name}")
    return [(a["connection_id"], a["type"], a["id"], a["tls"]) for a in args]


def closes(client: Client) -> None:
    client.close()


def resets(client: Client) -> None:
    for connection in client.current:
        connection.reset()


@requirement(
    "MAIN-063",
    fault=(
        never("channel_initialized"),
        never("channel_disconnected"),
        never("channel_connected"),
        called_twice("channel_disconnected", case="plain-resets"),
        skipped("addresses"),
    ),
)
@pytest.mark.parametrize("end", [closes, resets], ids=lambda f: f.__name__)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_events_of_each_channel(bench: Bench, secure: bool, end: Callable[[Client], None]) -> None:
    """The host gets CONNECTED, INITIALIZED and DISCONNECTED of each channel, once each and in this order,
    with the addresses of both ends."""
    certificate = bench.certificate() if secure else None
    source = bench.start(devices=DEVICES, tls=certificate and certificate.settings())
    client = bench.client(source, tls=certificate and trusting(certificate.ca))
    bench.settle()
    links = [(MAIN, 0), *client.current.channels]
    wanted = sorted((client.session_id, int(kind), number, secure) for kind, number in links)
    ports = sorted([[c.server.port] * 2 + [c.opened.client.port] * 2 for c in client.current])
    begun = len(channel_events(bench, "connected"))
    bench.claim(begun == len(links), f"{len(links)} times connected", begun)
    seen = sorted(channel_events(bench, "initialized"))
    bench.claim(seen == wanted, f"initialized, each with session, type, id, TLS: {wanted}", seen)
    early = channel_events(bench, "disconnected")
    bench.claim(not early, "none gone before the client goes", early)
    end(client)
    bench.settle()
    gone = lambda: len(channel_events(bench, "disconnected")) >= len(links)  # noqa: E731 - cards have their own thread
    bench.until(gone, f"{len(links)} times disconnected")
    seen = sorted(channel_events(bench, "disconnected"))
    bench.claim(seen == wanted, f"disconnected, each once: {wanted}", seen)
    for name in ("connected", "initialized", "disconnected"):
        ends = sorted(e.args["ports"] for e in bench.pump.tape.host_events if e.name == f"channel_{name}")
        bench.claim(ends == ports, f"{name}, each with server's and client's port, twice: {ports}", ends)


@requirement("MAIN-063", fault=called_twice("channel_connected"))
def test_events_of_a_refused_link(bench: Bench) -> None:
    """For a link that is refused the host gets CONNECTED and DISCONNECTED, and never INITIALIZED."""
    source = bench.start(ticket="correct horse")
    link = bench.connect(source, password="wrong")
    bench.try_link(link)
    bench.must_close(link)
    bench.settle()
    counts = [len(channel_events(bench, name)) for name in ("connected", "initialized", "disconnected")]
    bench.claim(counts == [1, 0, 1], "connected, initialized, disconnected: 1, 0, 1 times", counts)


@requirement("MAIN-064", fault=other_result("num_clients"))
def test_clients_are_counted(bench: Bench) -> None:
    """get_num_clients counts sessions, not their channels, while clients come and go."""
    source: Host = bench.start(environment=SEVERAL_CLIENTS)
    counts = [source.call("num_clients")]
    clients = []
    for _ in range(2):
        clients.append(bench.client(source))
        bench.settle()
        counts.append(source.call("num_clients"))
    for client in clients:
        client.close()
        bench.settle()
        counts.append(source.call("num_clients"))
    bench.claim(counts == [0, 1, 2, 1, 0], [0, 1, 2, 1, 0], counts)
