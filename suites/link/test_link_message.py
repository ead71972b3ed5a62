# SPDX-License-Identifier: GPL-2.0-only
"""The link stage: the server's answer to right and wrong link messages (protocol.h, SpiceLinkMess)."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dissectors.wire.constants import ChannelType, CommonCap, LinkErr, MsgBase, MsgMain
from dissectors.wire.link_packets import SpiceLinkMess
from fixtures.bench import Bench
from fixtures.bench.planting import (
    PING_BODY,
    Fault,
    accepted,
    before,
    changed,
    closed_instead,
    dies,
    lost,
    put,
    refused,
    reply,
    requirement,
    result,
    serial,
    stuck_after,
)
from fixtures.peer import Connection, LinkRefused
from fixtures.peer.client_capabilities import EVERYTHING
from suites.steps import served

DENIED = LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED
LIST = MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST
PING = MsgBase.SPICE_MSG_PING

AUTH_SELECTION = CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION
MINI_HEADER = CommonCap.SPICE_COMMON_CAP_MINI_HEADER
INIT = MsgMain.SPICE_MSG_MAIN_INIT


def refusal(bench: Bench, connection: Connection, proves: str | None = None) -> None:
    """Waits for the server's reply, if it sends one, and for the end of the connection. A server that waits
    for more bytes breaks the requirement."""
    with bench.owed(proves), suppress(LinkRefused):
        connection.expect_reply()
    bench.must_close(connection)


@requirement("LINK-001", fault=put("reply", magic=b"REDP"))
@requirement(
    "LINK-002",
    fault=(put("reply", minor_version=1), put("reply", minor_version=3), put("reply", major_version=1)),
)
@requirement("LINK-003", fault=put("reply", caps_offset=179))
@requirement(
    "LINK-009",
    fault=(
        changed("exponent 65539", "reply", lambda b: b[:181] + b"\3" + b[182:]),
        changed("a modulus of 1,023 bits", "reply", lambda b: b[:49] + bytes([b[49] & 0x7F]) + b[50:]),
        changed("an even modulus", "reply", lambda b: b[:176] + bytes([b[176] ^ 1]) + b[177:]),
    ),
)
@requirement(
    "LINK-011",
    fault=(
        put("reply", common_caps=[0b0011]),
        put("reply", common_caps=[0b1001]),
        put("reply", common_caps=[0b1010]),
    ),
)
@requirement("LINK-012", fault=put("reply", channel_caps=[0b1110]))
@requirement("LINK-015", fault=result(10))
@requirement("LINK-019", fault=reply(LinkErr.SPICE_LINK_ERR_ERROR, where=accepted))
@requirement("LINK-022", fault=put("reply", channel_caps=[0b0111]))
@requirement("LINK-025", fault=result(DENIED, where=accepted))
@requirement("LINK-031", fault=(put("reply", channel_caps=[0b1101]), put("reply", channel_caps=[0b1011])))
@requirement(
    "CONNID-012",
    fault=result(LinkErr.SPICE_LINK_ERR_BAD_CONNECTION_ID, channel=ChannelType.SPICE_CHANNEL_MAIN),
)
@requirement("MAIN-001", fault=before(INIT, PING, PING_BODY))
def test_link(bench: Bench) -> None:
    """The server accepts a correct link; the layout, key and capabilities of its reply are correct."""
    main = bench.connect(bench.start())
    error = bench.try_link(main)
    for owing in ("LINK-019", "LINK-025", "CONNID-012"):
        bench.claim(error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", error, proves=owing)
    bench.expect(main, INIT, proves="MAIN-001")


@requirement("LINK-004", fault=reply(LinkErr.SPICE_LINK_ERR_ERROR, where=refused))
@requirement("LINK-016")
@pytest.mark.parametrize(
    "magic",
    [b"REDR", b"redq", b"QDER", b"\0\0\0\0", b"GET "],
    ids=["near", "small", "reversed", "zero", "http"],
)
def test_wrong_magic(bench: Bench, magic: bytes) -> None:
    """The server answers another magic with INVALID_MAGIC and closes the link."""
    main = bench.connect(bench.start())
    main.send_mess(magic=magic)
    refusal(bench, main, proves="LINK-004")


def taken_for_2(version: int) -> Fault:
    """A planted fault: the server takes that major version for its own."""
    return changed(
        f"major version {version} is taken", "mess", lambda b: b[:4] + b"\2\0\0\0" + b[8:], case=f"-{version}"
    )


@requirement(
    "LINK-005",
    fault=(
        reply(LinkErr.SPICE_LINK_ERR_INVALID_DATA, where=refused, case="3"),
        closed_instead("reply", case="1"),
        *(taken_for_2(version) for version in (0, 1, 3)),
    ),
)
@pytest.mark.parametrize("version", [0, 1, 3, 0xFFFFFFFF, 0x02000000])
def test_wrong_major_version(bench: Bench, version: int) -> None:
    """The server answers another major version with VERSION_MISMATCH."""
    main = bench.connect(bench.start())
    main.send_mess(major_version=version)
    refusal(bench, main)


@requirement("LINK-006", fault=reply(LinkErr.SPICE_LINK_ERR_VERSION_MISMATCH, where=accepted))
@requirement("LINK-002")
@pytest.mark.parametrize("version", [0, 1, 3, 0xFFFFFFFF])
def test_other_minor_version(bench: Bench, version: int) -> None:
    """The minor version does not matter."""
    main = bench.connect(bench.start())
    main.send_mess(minor_version=version)
    reply = main.expect_reply()
    bench.claim(reply.error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", reply.error, proves="LINK-006")


@requirement("LINK-007", fault=reply(LinkErr.SPICE_LINK_ERR_VERSION_MISMATCH, where=refused))
@requirement("ROBUST-015", fault=stuck_after("result", nth=1, case="-4294967295"))
@requirement("LINK-016")
@pytest.mark.parametrize("size", [0, 1, 17, 4097, 0x10000, 0x7FFFFFFF, 0xAAAAAAAA, 0xFFFFFFFF])
def test_wrong_size(bench: Bench, size: int) -> None:
    """The server answers a size shorter than the fixed part or longer than 4096 with INVALID_DATA."""
    source = bench.start()
    main = bench.connect(source)
    main.send_mess(size=size)
    refusal(bench, main, proves="LINK-007")
    served(bench, source, "after a wrong size", proves="ROBUST-015")


@requirement("LINK-007", "LINK-016")
@pytest.mark.parametrize("size", [16, 17])
def test_size_without_capabilities(bench: Bench, size: int) -> None:
    """The server refuses a message that is cut short for its size, even if it counts no capability words."""
    main = bench.connect(bench.start())
    main.send_mess(size=size, common_caps=[], channel_caps=[])
    refusal(bench, main, proves="LINK-007")


@requirement("LINK-008", fault=reply(LinkErr.SPICE_LINK_ERR_VERSION_MISMATCH, where=refused))
@requirement("ROBUST-015", fault=(dies(1), lost(INIT, nth=1)))
@requirement("LINK-016")
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
    """The server answers capability words that lie outside the message with INVALID_DATA."""
    source = bench.start()
    main = bench.connect(source)
    size = 18 + 8
    mess = SpiceLinkMess(
        common_caps=[0xB], channel_caps=[0xF], **({"num_common_caps": 1, "num_channel_caps": 1} | fields)
    )
    raw = bytearray(bytes(mess))
    raw[12:16] = size.to_bytes(4, "little")
    main.send_raw(bytes(raw[: 16 + size]).ljust(16 + size, b"\0"))
    refusal(bench, main, proves="LINK-008")
    served(bench, source, "after capability words out of range", proves="ROBUST-015")


@requirement("LINK-029", fault=put("reply", common_caps=[0b0011]))
@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
def test_header_follows_capability(bench: Bench, mini: bool) -> None:
    """Both sides use mini headers exactly when both have the capability."""
    caps = EVERYTHING if mini else EVERYTHING.without(MINI_HEADER)
    main = bench.link(bench.start(), capabilities=caps)
    init = bench.expect(main, INIT, proves="MAIN-001")
    bench.claim((init.serial is None) == mini, "the header that was agreed on", f"serial {init.serial}")
    bench.claim(not init.packet.problems(), "an INIT in its layout", init.packet.problems())


@requirement(
    "CHAN-003",
    fault=(
        serial("one left out", LIST, lambda n: n + 1),
        serial("the last one again", LIST, lambda n: n - 1),
    ),
)
def test_serials(bench: Bench) -> None:
    """With full headers serials go up by one."""
    client = bench.client(bench.start(), capabilities=EVERYTHING.without(MINI_HEADER))
    bench.settle()
    assert client.main.messages


@requirement("LINK-030", fault=result(DENIED, where=accepted))
def test_client_without_auth_selection(bench: Bench) -> None:
    """A client without PROTOCOL_AUTH_SELECTION sends its ticket at once."""
    main = bench.connect(bench.start(), capabilities=EVERYTHING.without(AUTH_SELECTION))
    error = bench.try_link(main)
    bench.claim(error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", error)
    bench.expect(main, INIT, proves="MAIN-001")


@requirement("LINK-012")
def test_client_without_capabilities(bench: Bench) -> None:
    """A client without any capabilities is served."""
    nothing = EVERYTHING.without(*CommonCap, *(cap for caps in EVERYTHING.channel.values() for cap in caps))
    main = bench.link(bench.start(), capabilities=nothing)
    bench.expect(main, INIT, proves="MAIN-001")


@requirement("LINK-026", fault=reply(LinkErr.SPICE_LINK_ERR_ERROR, where=accepted))
@pytest.mark.parametrize("step", [1, 7, 33])
def test_split_into_segments(bench: Bench, step: int) -> None:
    """The link stage does not depend on how its bytes are split."""
    main = bench.connect(bench.start())
    raw = bytes(SpiceLinkMess(**main.wanted.capabilities.fields(ChannelType.SPICE_CHANNEL_MAIN)))
    for at in range(0, len(raw), step):
        main.send_raw(raw[at : at + step])
        bench.settle()
    reply = main.expect_reply()
    bench.claim(reply.error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", reply.error)


@requirement("LINK-027", fault=lost("reply", nth=11))
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
    with bench.owed():
        bench.client(source, channels=())


class FirstKey:
    """A planted fault: the third link gets the first link's key; every other link gets its own."""

    def __init__(self) -> None:
        self._replies: list[bytes] = []

    def __call__(self, reply: bytes) -> bytes:
        self._replies.append(reply)
        return self._replies[0] if len(self._replies) == 3 else reply


@requirement("LINK-010", fault=changed("the third link has the first one's key", "reply", FirstKey()))
def test_keys_differ(bench: Bench) -> None:
    """Each link has a key of its own."""
    source = bench.start()
    for _ in range(3):
        connection = bench.connect(source)
        connection.send_mess()
        connection.expect_reply()


@requirement(
    "CONNID-011",
    fault=(
        put("mess", channel_type=ChannelType.SPICE_CHANNEL_INPUTS, nth=2),
        stuck_after("mess", nth=2),
        dies(2),
    ),
)
@pytest.mark.parametrize("channel", [ChannelType.SPICE_CHANNEL_SMARTCARD, 7, 12, 255], ids=str)
def test_missing_channel(bench: Bench, channel: int) -> None:
    """The server refuses a link to a channel that does not exist."""
    source = bench.start()
    client = bench.client(source, channels=())
    absent = bench.connect(source, channel=channel, connection_id=client.session_id)
    with bench.owed("CONNID-011"):
        error = bench.try_link(absent)
    bench.claim(error != LinkErr.SPICE_LINK_ERR_OK, "an error or the connection's end", error)
    bench.alive("after a link to a missing channel", source)
