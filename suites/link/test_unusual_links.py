# SPDX-License-Identifier: GPL-2.0-only
"""Unusual but correct link messages: the server accepts them and reads them correctly (protocol.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from dissectors.wire.constants import CommonCap, LinkErr, MainCap, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import requirement

INIT, NAME = MsgMain.SPICE_MSG_MAIN_INIT, MsgMain.SPICE_MSG_MAIN_NAME
FIXED, LARGEST = 18, 4096
COMMON = 1 << CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION | 1 << CommonCap.SPICE_COMMON_CAP_AUTH_SPICE
MINI = 1 << CommonCap.SPICE_COMMON_CAP_MINI_HEADER
NAMED = 1 << MainCap.SPICE_MAIN_CAP_NAME_AND_UUID
#: A word none of whose bits is a capability.
UNKNOWN = 0x80000000


@dataclass(frozen=True)
class Mess:
    """A link message on main: its capability words, a gap before them, and bytes after them."""

    common: tuple[int, ...]
    channel: tuple[int, ...]
    gap: int = 0
    tail: int = 0
    filling: bytes = b"\0"  # of gap and tail

    def __bytes__(self) -> bytes:
        words = struct.pack(f"<{len(self.common) + len(self.channel)}I", *self.common, *self.channel)
        offset = FIXED + self.gap
        fixed = struct.pack("<IBBIII", 0, 1, 0, len(self.common), len(self.channel), offset)
        body = fixed + self.filling * self.gap + words + self.filling * self.tail
        return struct.pack("<4sIII", b"REDQ", 2, 2, len(body)) + body


MESSES = {
    "gap": Mess((COMMON | MINI,), (NAMED,), gap=7),
    "gap of ones": Mess((COMMON,), (0,), gap=8, filling=b"\xff"),
    "tail": Mess((COMMON | MINI,), (NAMED,), tail=9),
    "tail of ones": Mess((COMMON,), (), tail=8, filling=b"\xff"),
    "two common words": Mess((COMMON | MINI, UNKNOWN), (NAMED,)),
    "two channel words": Mess((COMMON | MINI,), (NAMED, UNKNOWN)),
    "many words": Mess((COMMON | MINI,) + (UNKNOWN,) * 400, (NAMED,) + (UNKNOWN,) * 500),
    "all 4096 bytes": Mess((COMMON | MINI,), (NAMED,), gap=LARGEST - FIXED - 12, tail=4),
    "full header": Mess((COMMON,), (NAMED,)),
    "full header, two words": Mess((COMMON, MINI), (NAMED,)),
    "no name": Mess((COMMON | MINI,), (0,)),
    "no name, two words": Mess((COMMON | MINI, NAMED), (0, NAMED)),
    "no words": Mess((COMMON,), ()),
}


@requirement("LINK-019", "LINK-029", "MAIN-006", "LINK-008")
@pytest.mark.parametrize("mess", MESSES.values(), ids=MESSES.keys())
def test_capabilities_are_read_where_they_are(bench: Bench, mess: Mess) -> None:
    """Wherever the words are and however many there are, the server reads each for what it is: header and
    NAME depend on the client's first words alone."""
    main = bench.connect(bench.start(name="named"))
    main.send_raw(bytes(mess))
    with bench.owed("LINK-019"):
        error = int(main.expect_reply().error)
    bench.claim(error != LinkErr.SPICE_LINK_ERR_INVALID_DATA, "no INVALID_DATA", error, proves="LINK-008")
    if error:
        return
    main.send_mechanism()
    main.send_ticket()
    with bench.owed("LINK-019"):
        error = int(main.expect_result().error)
    bench.claim(error == LinkErr.SPICE_LINK_ERR_OK, "SPICE_LINK_ERR_OK", error, proves="LINK-019")
    init = bench.expect(main, INIT, proves="MAIN-001")
    mini = bool(mess.common[0] & MINI)
    bench.claim(
        (init.serial is None) == mini, "the header agreed on", f"serial {init.serial}", proves="LINK-029"
    )
    bench.settle()
    named = bool(mess.channel and mess.channel[0] & NAMED)
    bench.claim(bool(main.got(NAME)) == named, f"NAME: {named}", len(main.got(NAME)), proves="MAIN-006")
