# SPDX-License-Identifier: GPL-2.0-only
"""How the server sets up the connections that it accepts: probes of silent ones, no delay, and the priority
of sound (server/net-utils.c, server/sound.cpp)."""

from __future__ import annotations

import pytest

from dissectors.wire.constants import ChannelType
from fixtures.bench import Bench
from fixtures.bench.planting import requirement, skipped
from fixtures.system.hosts import Ability

DEVICES = ("keyboard", "mouse", "display", "playback", "record")
SOUND = (ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD)
#: server/reds.cpp, KEEPALIVE_TIMEOUT.
SET_UP = {"keep_alive": 1, "idle_s": 600, "no_delay": 1}
#: server/sound.cpp, config_socket; IPTOS_LOWDELAY (netinet/ip.h).
URGENT = {"priority": 6, "service": 0x10}

pytestmark = pytest.mark.needs(Ability.DEVICES, Ability.CALLS)


@requirement("LINK-068", fault=skipped("reuse_address"))
@requirement("LINK-060", fault=(skipped("keep_alive"), skipped("no_delay")))
@requirement("CHAN-151", fault=skipped("priority"))
def test_each_connection_is_set_up(bench: Bench) -> None:
    """The server's port and TLS port, and every connection of a client on a quick line; those of playback and
    record have a priority as well."""
    source = bench.start(devices=DEVICES, tls=bench.certificate().settings())
    client = bench.client(source, quick=True)
    bench.settle()
    sockets = source.call("sockets")
    ports = [sockets[str(port)] for port in (source.port, source.tls_port)]
    bench.claim(ports == [{"reuse_address": 1}] * 2, "SO_REUSEADDR at both ports", ports, proves="LINK-068")
    for channel in client.current:
        found = sockets[str(channel.opened.client.port)]
        seen = {name: found.get(name) for name in SET_UP}
        bench.claim(seen == SET_UP, f"{channel.name}: {SET_UP}", seen, proves="LINK-060")
        wanted = URGENT if channel.wanted.channel in SOUND else {"priority": 0, "service": 0}
        seen = {name: found.get(name) for name in wanted}
        bench.claim(seen == wanted, f"{channel.name}: {wanted}", seen, proves="CHAN-151")
