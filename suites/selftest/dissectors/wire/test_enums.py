# SPDX-License-Identifier: GPL-2.0-only
"""Our values equal those of spice-protocol: the test reads its headers and compares."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

import pytest
from scapy.packet import Packet

from dissectors.channels import agent, agent_enums, agent_messages, framed_message
from dissectors.channels.inventory import inventory
from dissectors.wire import constants, data_header, enums
from fixtures.builds.apt import Apt
from fixtures.builds.mirror import mirrors, release_of_machine
from fixtures.builds.process import run

#: Names that are newer than Debian 12's headers.
NEWER = {"SPICE_VIDEO_CODEC_TYPE_AV1", "SPICE_DISPLAY_CAP_GL_SCANOUT2", "SPICE_MSG_DISPLAY_GL_SCANOUT2_UNIX"}
#: Names in the headers that are no values on the wire: ends of enumerations.
NO_VALUE = re.compile(
    r"_ENUM_END$|^SPICE_END_|^VD_AGENT_END_|^VDP_END_|_END_(BASE|[A-Z]+)$|^SPICE_(MSG|MSGC)_\w*LAST$"
)
ENUM = re.compile(r"enum\s*\w*\s*\{(?P<body>.*?)\}", re.S)
STRUCT = re.compile(r"typedef struct SPICE_ATTR_PACKED (?P<name>\w+) \{(?P<body>.*?)\n\} (?P=name);", re.S)
MEMBER = re.compile(r"(?P<type>u?int(?P<bits>\d+)_t)\s+(?P<name>\w+)\s*(?:\[(?P<count>[^\]]*)\])?;")


@cache
def _headers() -> dict[str, str]:
    """The headers' text without comments, by file name."""
    folder = Path("/usr/include/spice-1/spice")
    found = {path.name: path.read_text() for path in folder.glob("*.h")} or _fetched_headers()
    return {
        name: re.sub(r"/\*.*?\*/|//[^\n]*|#if 0.*?#endif", "", text, flags=re.S)
        for name, text in found.items()
    }


def _fetched_headers() -> dict[str, str]:
    """Those of the distribution's package, where it is not installed and we may not install it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        apt = Apt(
            folder / "apt",
            folder / "archives",
            mirrors(None, None)[0],
            release_of_machine()["VERSION_CODENAME"],
        )
        apt.update()
        for archive in apt.download(apt.plan(("libspice-protocol-dev",)), lambda *_: None):
            run(["dpkg-deb", "-x", str(archive), name])
        return {path.name: path.read_text() for path in folder.glob("usr/include/spice-1/spice/*.h")}


def _header_values(name: str) -> dict[str, int]:
    """The enumerators of a header and its flags that are #defined."""
    values: dict[str, int] = {}
    text = _headers()[name]
    for block in ENUM.finditer(text):
        value = -1
        for entry in filter(None, (entry.strip() for entry in block["body"].split(","))):
            key, _, given = entry.replace("SPICE_GNUC_DEPRECATED", "").partition("=")
            value = _evaluate(given, values) if given else value + 1
            if not (key.strip().endswith("_MASK") and "0x" in given):  # the sum of an enumeration's flags
                values[key.split()[0]] = value
    for key, given in re.findall(r"#define (VD_AGENT_\w+_MASK) (.*)", text):
        values[key] = _evaluate(given, values)
    return values


def _evaluate(text: str, values: dict[str, int]) -> int:
    text = text.strip().strip("()")
    left, shift, right = text.partition("<<")
    if shift:
        return int(left, 0) << int(right, 0)
    return values[text] if text in values else int(text, 0)


def _ours(*modules: object) -> dict[str, int]:
    """Every name of our enumerations, aliases too."""
    found: dict[str, int] = {}
    for module in modules:
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, int) and hasattr(thing, "__members__"):
                found.update({name: int(value) for name, value in thing.__members__.items()})
    return found


OURS = _ours(constants, enums, agent_enums)
WIRE_HEADERS = ("enums.h", "protocol.h", "vd_agent.h")


@pytest.mark.parametrize("name", WIRE_HEADERS)
def test_values_of_the_headers_are_ours(name: str) -> None:
    """Each value of the header has our name and number."""
    theirs = {key: value for key, value in _header_values(name).items() if not NO_VALUE.search(key)}
    assert len(theirs) > 20
    assert {key: OURS.get(key) for key in theirs} == theirs


def test_no_value_of_ours_is_invented() -> None:
    """Each of our names is in a header, except those that are declared newer."""
    theirs = set().union(*(_header_values(name) for name in WIRE_HEADERS))
    unknown = {name for name in OURS if name.startswith(("SPICE_", "VD_", "VDP_"))} - theirs
    assert unknown <= NEWER


def test_single_constants() -> None:
    """#defines of protocol.h and vd_agent.h."""
    text = _headers()["protocol.h"] + _headers()["vd_agent.h"]
    for key, given in re.findall(
        r"#define (SPICE_(?:VERSION|MAX|TICKET)_\w+|VD_AGENT_\w+) (\d+)$", text, re.M
    ):
        ours = getattr(constants, key, getattr(agent, key, None))
        assert ours in (int(given), None), key
    assert f'SPICE_MAGIC_CONST("{constants.SPICE_MAGIC.decode()}")' in text


@cache
def _struct_sizes(name: str) -> dict[str, int]:
    """Bytes of the header's packed structures, without members of no or variable length."""
    sizes: dict[str, int] = {}
    for struct in STRUCT.finditer(_headers()[name]):
        body = struct["body"]
        members = MEMBER.findall(body)
        if len(members) == body.count(";"):
            counted = [(int(bits), count) for _, bits, _, count in members]
            if all(not count or count.isdigit() for _, count in counted):
                sizes[struct["name"]] = sum(bits // 8 * int(count or 1) for bits, count in counted)
    return sizes


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("protocol.h", data_header),
        ("protocol.h", framed_message),
        ("vd_agent.h", agent_messages),
        ("vd_agent.h", agent),
    ],
)
def test_sizes_of_packed_structures(file: str, module: object) -> None:
    """A packet of the same name, with no list or text in it, is as long as the structure."""
    compared = 0
    for name, size in _struct_sizes(file).items():
        cls = getattr(module, name, None)
        if isinstance(cls, type) and issubclass(cls, Packet):
            assert len(cls()) == size, name
            compared += 1
    assert compared


def test_every_message_name_has_a_class() -> None:
    """Each SPICE_MSG_* and SPICE_MSGC_* of enums.h is in the inventory with its number."""
    rows = {row.name: row.type for row in inventory()}
    for key, value in _header_values("enums.h").items():
        if key.startswith(("SPICE_MSG_", "SPICE_MSGC_")) and not NO_VALUE.search(key):
            assert rows.get(key) == value, key
