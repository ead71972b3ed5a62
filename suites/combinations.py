# SPDX-License-Identifier: GPL-2.0-only
"""The combinations of migrations: a table of parameters and their values, and a list of rows that holds every
pair of compatible values. covertable takes half a second to make the list, so it is kept beside the table as
JSON. `python -m suites.combinations` writes it again; a self-test checks that it is up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dissectors.wire.constants import (
    CHANNEL_CAPS,
    ChannelType,
    CommonCap,
    DisplayCap,
    MainCap,
    PlaybackCap,
    RecordCap,
    SpicevmcCap,
)

ROWS_FILE = Path(__file__).with_name("combined_rows.json")
SEMI, SEAMLESS = MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE, MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE


class Header(StrEnum):
    """Which channels have mini headers."""

    MINI = "mini"
    FULL = "full"
    MAIN_FULL = "main full"
    MAIN_MINI = "main mini"


class Tls(StrEnum):
    """What the hosts listen on, and which of it the client takes."""

    NONE = "plain"
    BOTH_PLAIN = "both ports, plain"
    BOTH_TLS = "both ports, TLS"
    ONLY = "TLS only"


class Scheme(StrEnum):
    """How the client reaches the target. NACK: the client proposes a seamless version that the target does
    not know."""

    SEMI_SEAMLESS = "semi-seamless"
    SEAMLESS = "seamless"
    NACK = "seamless refused"
    SWITCH_HOST = "switch host"


class MigrationEnd(StrEnum):
    """How the migration ends."""

    ARRIVES = "arrives"
    CANCELLED = "cancelled"
    CANNOT = "cannot connect"
    LATE = "no answer"
    LEAVES = "leaves"


#: Devices of both hosts, and the channel types that the client opens beside main.
CHANNELS: Mapping[str, tuple[tuple[str, ...], tuple[ChannelType, ...]]] = MappingProxyType(
    {
        "main": (("agent",), ()),
        "inputs": (("keyboard", "mouse"), (ChannelType.SPICE_CHANNEL_INPUTS,)),
        "picture": (
            ("display",),
            (ChannelType.SPICE_CHANNEL_DISPLAY, ChannelType.SPICE_CHANNEL_CURSOR),
        ),
        "sound": (
            ("playback", "record"),
            (ChannelType.SPICE_CHANNEL_PLAYBACK, ChannelType.SPICE_CHANNEL_RECORD),
        ),
        "ports": (
            ("usbredir", "smartcard", "webdav", "port:org.example.port"),
            (
                ChannelType.SPICE_CHANNEL_USBREDIR,
                ChannelType.SPICE_CHANNEL_SMARTCARD,
                ChannelType.SPICE_CHANNEL_WEBDAV,
                ChannelType.SPICE_CHANNEL_PORT,
            ),
        ),
    }
)
#: The capability that a client lacks, by its name; "nothing": it lacks none. MINI_HEADER is the parameter
#: `header`; no client of these tests has SASL.
LACKS: Mapping[str, IntEnum | None] = MappingProxyType(
    {"nothing": None}
    | {
        cap.name: cap
        for cap in (*CommonCap, *MainCap, *DisplayCap, *PlaybackCap, *RecordCap, *SpicevmcCap)
        if cap not in (CommonCap.SPICE_COMMON_CAP_AUTH_SASL, CommonCap.SPICE_COMMON_CAP_MINI_HEADER)
        or not isinstance(cap, CommonCap)
    }
)

PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lacks": tuple(LACKS),
        "header": tuple(Header),
        "tls": tuple(Tls),
        "ticket": ("no ticket", "ticket"),
        "channels": tuple(CHANNELS),
        "scheme": tuple(Scheme),
        "end": tuple(MigrationEnd),
    }
)


@dataclass(frozen=True)
class Apart:
    """Values that are incompatible, and why."""

    values: Mapping[str, tuple[str, ...]]
    why: str


def _not_of(channels: str) -> tuple[str, ...]:
    """The capabilities of channels that are not open."""
    opened = {ChannelType.SPICE_CHANNEL_MAIN, *CHANNELS[channels][1]}
    of_opened = {cap.name for channel in opened for cap in CHANNEL_CAPS.get(channel, ())}
    common = {cap.name for cap in CommonCap}
    return tuple(name for name in LACKS if name not in of_opened | common | {"nothing"})


APART = (
    Apart({"scheme": (Scheme.SEMI_SEAMLESS, Scheme.NACK), "lacks": (SEMI.name,)}, "the scheme needs it"),
    Apart({"scheme": (Scheme.SEAMLESS, Scheme.NACK), "lacks": (SEAMLESS.name,)}, "the scheme needs it"),
    Apart(
        {"scheme": (Scheme.SWITCH_HOST,), "lacks": (SEMI.name, SEAMLESS.name)},
        "a client that is switched lacks both",
    ),
    Apart(
        {"scheme": (Scheme.SWITCH_HOST,), "end": (MigrationEnd.CANNOT, MigrationEnd.LATE)},
        "a client that is switched hears of no migration to answer to",
    ),
    Apart(
        {"lacks": (SEMI.name,), "end": (MigrationEnd.CANCELLED,)},
        "MIG-SRC-067 has a test of its own: released servers send no MIGRATE_CANCEL",
    ),
    *(
        Apart({"channels": (channels,), "lacks": _not_of(channels)}, "no open channel has the capability")
        for channels in CHANNELS
    ),
)


def allowed(row: Mapping[str, str]) -> bool:
    """Whether values are compatible; a parameter that is not named may have any value."""
    return not any(all(row.get(name) in values for name, values in apart.values.items()) for apart in APART)


def _never(apart: Apart) -> dict[str, Any]:
    inside = [{"operator": "in", "left": name, "values": list(v)} for name, v in apart.values.items()]
    return {"operator": "not", "condition": {"operator": "and", "conditions": inside}}


@cache
def combinations() -> tuple[Mapping[str, str], ...]:
    """Rows of parameter -> value; each pair of compatible values is in at least one row."""
    return tuple(dict(zip(PARAMETERS, row, strict=True)) for row in json.loads(ROWS_FILE.read_text("utf-8")))


def made_anew() -> list[list[str]]:
    """The rows, generated from the table, with a value for each parameter."""
    from covertable import make

    factors = {name: list(values) for name, values in PARAMETERS.items()}
    rows = make(factors, strength=2, constraints=[_never(apart) for apart in APART])
    return [[str(row[name]) for name in PARAMETERS] for row in rows]


def called(row: Mapping[str, str]) -> str:
    """The name of a row, as the test's parameter."""
    lacks = row["lacks"].removeprefix("SPICE_")
    rest = ", ".join(row[name] for name in ("scheme", "end", "channels", "header", "tls", "ticket"))
    return f"{rest}, lacks {lacks}"


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(row) for row in made_anew())
    ROWS_FILE.write_text(f"[\n{lines}\n]\n", "utf-8")
