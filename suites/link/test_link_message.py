# SPDX-License-Identifier: GPL-2.0-only
"""The link stage: what the server answers to a link message, right or wrong (protocol.h, SpiceLinkMess)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dissectors.wire.constants import ChannelType, CommonCap, LinkErr, MsgMain
from dissectors.wire.link_packets import SpiceLinkMess
from fixtures.bench import Bench
from fixtures.peer import Connection, LinkRefused
from fixtures.peer.peer_connection import EVERYTHING

AUTH_SELECTION = CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION
MINI_HEADER = CommonCap.SPICE_COMMON_CAP_MINI_HEADER
INIT = MsgMain.SPICE_MSG_MAIN_INIT


def refused(bench: Bench, requirement: str, connection: Connection) -> None:
    """Hears the server out: its reply, if there is one, and the end that it must make. A server that waits
    for more breaks the requirement."""
    with bench.owed(requirement), suppress(LinkRefused):
        connection.expect_reply()
    bench.must_close(connection)


@pytest.mark.requirement("LINK-001", "LINK-002", "LINK-003", "LINK-009", "LINK-011", "LINK-012", "LINK-015")
@pytest.mark.requirement("LINK-019", "LINK-022", "LINK-025", "LINK-031", "CONNID-012", "MAIN-001")
def test_link(bench: Bench) -> None:
    """A link without fault is accepted; its reply has its shape, its key, its capabilities."""
    main = bench.link(bench.start())
    bench.expect("MAIN-001", main, INIT)
    error = int(main.link_stage[-1].packet.error)
    bench.claim("LINK-025", error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", error)
    bench.claim("LINK-019", True, "", "")
    bench.claim("CONNID-012", True, "", "")


@pytest.mark.requirement("LINK-004", "LINK-016")
@pytest.mark.parametrize(
    "magic",
    [b"REDR", b"redq", b"QDER", b"\0\0\0\0", b"GET "],
    ids=["near", "small", "reversed", "zero", "http"],
)
def test_wrong_magic(bench: Bench, magic: bytes) -> None:
    """Another magic is answered by INVALID_MAGIC, and the link is closed."""
    main = bench.connect(bench.start())
    main.send_mess(magic=magic)
    refused(bench, "LINK-004", main)


@pytest.mark.requirement("LINK-005")
@pytest.mark.parametrize("version", [0, 1, 3, 0xFFFFFFFF, 0x02000000])
def test_wrong_major_version(bench: Bench, version: int) -> None:
    """Another major version is answered by VERSION_MISMATCH."""
    main = bench.connect(bench.start())
    main.send_mess(major_version=version)
    refused(bench, "LINK-005", main)


@pytest.mark.requirement("LINK-006", "LINK-002")
@pytest.mark.parametrize("version", [0, 1, 3, 0xFFFFFFFF])
def test_other_minor_version(bench: Bench, version: int) -> None:
    """The minor version does not matter."""
    main = bench.connect(bench.start())
    main.send_mess(minor_version=version)
    reply = main.expect_reply()
    bench.claim("LINK-006", reply.error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", reply.error)


@pytest.mark.requirement("LINK-007", "LINK-016")
@pytest.mark.parametrize("size", [0, 1, 17, 4097, 0x10000, 0x7FFFFFFF, 0xAAAAAAAA, 0xFFFFFFFF])
def test_wrong_size(bench: Bench, size: int) -> None:
    """A size shorter than the fixed part or longer than 4096 is answered by INVALID_DATA."""
    main = bench.connect(bench.start())
    main.send_mess(size=size)
    refused(bench, "LINK-007", main)


@pytest.mark.requirement("LINK-007", "LINK-016")
@pytest.mark.parametrize("size", [16, 17])
def test_size_without_capabilities(bench: Bench, size: int) -> None:
    """A message that is cut is refused for its size, also where it counts no capability words."""
    main = bench.connect(bench.start())
    main.send_mess(size=size, common_caps=[], channel_caps=[])
    refused(bench, "LINK-007", main)


@pytest.mark.requirement("LINK-008", "LINK-016", "ROBUST-015")
@pytest.mark.parametrize(
    "fields",
    [
        {"caps_offset": 0},
        {"caps_offset": 17},
        {"caps_offset": 19},
        {"caps_offset": 26},
        {"caps_offset": 0x7FFFFFFF},
        {"caps_offset": 0xFFFFFFFC},
        {"num_common_caps": 1025},
        {"num_channel_caps": 1025},
        {"num_common_caps": 0x80000000, "num_channel_caps": 0x80000000},
        {"num_common_caps": 0xFFFFFFFF, "num_channel_caps": 1},
        {"num_common_caps": 3},
    ],
    ids=lambda f: "-".join(f"{k.removeprefix('num_')}={v:#x}" for k, v in f.items()),
)
def test_capabilities_out_of_range(bench: Bench, fields: dict[str, int]) -> None:
    """Capability words that do not lie inside the message are answered by INVALID_DATA."""
    source = bench.start()
    main = bench.connect(source)
    size = 18 + 8
    mess = SpiceLinkMess(
        common_caps=[0xB], channel_caps=[0xF], **({"num_common_caps": 1, "num_channel_caps": 1} | fields)
    )
    raw = bytearray(bytes(mess))
    raw[12:16] = size.to_bytes(4, "little")
    main.send_raw(bytes(raw[: 16 + size]).ljust(16 + size, b"\0"))
    refused(bench, "LINK-008", main)
    bench.alive("ROBUST-015", "after capability words out of range", source)


@pytest.mark.requirement("LINK-029")
@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
def test_header_follows_capability(bench: Bench, mini: bool) -> None:
    """Mini headers are used exactly when both sides have the capability."""
    caps = EVERYTHING if mini else EVERYTHING.without(MINI_HEADER)
    main = bench.link(bench.start(), capabilities=caps)
    init = bench.expect("MAIN-001", main, INIT)
    bench.claim(
        "LINK-029", (init.serial is None) == mini, "the header that was agreed on", f"serial {init.serial}"
    )
    bench.claim("LINK-029", not init.packet.problems(), "an INIT in its layout", init.packet.problems())


@pytest.mark.requirement("CHAN-003")
def test_serials(bench: Bench) -> None:
    """With full headers serials go up by one."""
    client = bench.client(bench.start(), capabilities=EVERYTHING.without(MINI_HEADER))
    bench.settle()
    assert client.main.messages


@pytest.mark.requirement("LINK-030")
def test_client_without_auth_selection(bench: Bench) -> None:
    """A client without PROTOCOL_AUTH_SELECTION sends its ticket at once."""
    main = bench.connect(bench.start(), capabilities=EVERYTHING.without(AUTH_SELECTION))
    error = bench.try_link(main)
    bench.claim("LINK-030", error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", error)
    bench.expect("MAIN-001", main, INIT)


@pytest.mark.requirement("LINK-012")
def test_client_without_capabilities(bench: Bench) -> None:
    """A client that can do nothing is served all the same."""
    nothing = EVERYTHING.without(*CommonCap, *(cap for caps in EVERYTHING.channel.values() for cap in caps))
    main = bench.link(bench.start(), capabilities=nothing)
    bench.expect("MAIN-001", main, INIT)


@pytest.mark.requirement("LINK-026")
@pytest.mark.parametrize("step", [1, 7, 33])
def test_split_into_segments(bench: Bench, step: int) -> None:
    """The link stage does not depend on how its bytes are split."""
    main = bench.connect(bench.start())
    raw = bytes(SpiceLinkMess(**main.wanted.capabilities.fields(ChannelType.SPICE_CHANNEL_MAIN)))
    for at in range(0, len(raw), step):
        main.send_raw(raw[at : at + step])
        bench.settle()
    reply = main.expect_reply()
    bench.claim("LINK-026", reply.error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", reply.error)


@pytest.mark.requirement("LINK-027")
def test_half_open_links(bench: Bench) -> None:
    """Links that stop at every stage do not keep another client out."""
    source = bench.start()
    idle = [bench.connect(source) for _ in range(20)]
    for number, connection in enumerate(idle):
        if number % 4 == 1:
            connection.send_raw(b"RED")
        elif number % 4 == 2:
            connection.send_mess()
        elif number % 4 == 3:
            connection.send_mess()
            connection.expect_reply()
            connection.send_mechanism()
    with bench.owed("LINK-027"):
        client = bench.client(source, channels=())
    bench.claim("LINK-027", client.session_id != 0, "a session", "none")


@pytest.mark.requirement("LINK-010")
def test_keys_differ(bench: Bench) -> None:
    """Each link has a key of its own."""
    source = bench.start()
    for _ in range(3):
        connection = bench.connect(source)
        connection.send_mess()
        connection.expect_reply()


@pytest.mark.requirement("CONNID-011")
@pytest.mark.parametrize("channel", [ChannelType.SPICE_CHANNEL_SMARTCARD, 7, 12, 255], ids=str)
def test_missing_channel(bench: Bench, channel: int) -> None:
    """A link to a channel that does not exist is refused."""
    source = bench.start()
    client = bench.client(source, channels=())
    absent = bench.connect(source, channel=channel, connection_id=client.session_id)
    error = bench.try_link(absent)
    bench.claim("CONNID-011", error != LinkErr.SPICE_LINK_ERR_OK, "an error or the connection's end", error)
    bench.alive("CONNID-011", "after a link to a missing channel", source)
