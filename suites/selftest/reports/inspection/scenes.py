# SPDX-License-Identifier: GPL-2.0-only
"""Small captures for the story's self-tests: sessions, migrations and their failures."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dissectors.capture.pcapng_writer import PcapngWriter
from dissectors.framing.events import Ending, Endpoint
from dissectors.rules.inspector import Inspection
from dissectors.wire.constants import SPICE_MAGIC, ChannelType, LinkErr, MsgcMain, MsgMain, Side
from dissectors.wire.data_header import encode
from fixtures.captures.synthetic_capture import link_stage

MAIN, DISPLAY = ChannelType.SPICE_CHANNEL_MAIN, ChannelType.SPICE_CHANNEL_DISPLAY
EPOCH = 1_700_000_000.0
STEP = 0.01  # seconds between two things that are said
ID = 0x1234ABCD
MIGRATES = struct.pack("<I", 0b1111)  # capabilities of main: both kinds of migration, NAME and UUID, tokens
DENIED = LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED


class Scene:
    """Writes a capture as a sniffer would. Connections are numbers; each packet advances the time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._writer = PcapngWriter(self._file, epoch=EPOCH, application="sniffer")
        self._count = 0
        self._port = 40_000
        self._clients: dict[int, Endpoint] = {}
        self.clock = 0.0

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def tick(self, seconds: float = STEP) -> float:
        """Advances the time."""
        self.clock += seconds
        return self.clock

    def connect(self, client: str, server: str, port: int = 5900) -> int:
        """A TCP connection."""
        self._count += 1
        self._port += 1
        return self._open(Endpoint(client, self._port), Endpoint(server, port))

    def connect_from(self, connection: int, server: str, port: int = 5900) -> int:
        """Another TCP connection from the same client's end."""
        self._count += 1
        return self._open(self._clients[connection], Endpoint(server, port))

    def _open(self, client: Endpoint, server: Endpoint) -> int:
        self._clients[self._count] = client
        self._writer.open_connection(self._count, client, server, self.tick())
        return self._count

    def attempt(self, client: str, server: str, port: int = 5900) -> None:
        """A SYN without an answer."""
        self._port += 1
        self._writer.attempt(Endpoint(client, self._port), Endpoint(server, port), self.tick())

    def raw(self, connection: int, side: Side, data: bytes) -> int:
        """Bytes; the frame number."""
        return self._writer.segment(connection, side, data, self.tick())

    def link(self, connection: int, channel: int = MAIN, session: int = 0, error: int = 0) -> int:
        """The link stage with its result. Returns the frame of the result."""
        frame = 0
        for side, data in link_stage(channel, session):
            frame = self.raw(connection, side, self.real(side, data, channel, error))
        return frame

    @staticmethod
    def real(side: Side, data: bytes, channel: int, error: int = 0) -> bytes:
        """A packet of the link stage with main's capabilities, a real key and this result."""
        if channel == MAIN and data.startswith(SPICE_MAGIC):
            data = data[:-4] + MIGRATES
        if side is Side.SERVER:
            return struct.pack("<I", error) if len(data) == 4 else _with_key(data)
        return data

    @staticmethod
    def message(kind: int, body: bytes = b"") -> bytes:
        """A message with a mini header."""
        return encode(kind, body, serial=None)

    def server(self, connection: int, kind: int, body: bytes = b"") -> int:
        """A message of the server."""
        return self.raw(connection, Side.SERVER, self.message(kind, body))

    def client(self, connection: int, kind: int, body: bytes = b"") -> int:
        """A message of the client."""
        return self.raw(connection, Side.CLIENT, self.message(kind, body))

    def close(self, connection: int, by: Side = Side.CLIENT, how: Ending = Ending.CLOSED) -> None:
        """The end of a connection."""
        self._writer.close_connection(connection, how, by, self.tick())

    def session(
        self, client: str, server: str, port: int = 5900, number: int = ID, target: bool = False
    ) -> int:
        """A session's main channel, as a target's (before MIGRATE_END) or as one that has begun."""
        main = self.connect(client, server, port)
        self.link(main, MAIN, number if target else 0)
        if not target:
            self.server(main, MsgMain.SPICE_MSG_MAIN_INIT, init(number))
            self.client(main, MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
            self.server(main, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST, struct.pack("<IBB", 1, DISPLAY, 0))
        return main

    def begin(self, main: int, host: str, port: int = 5900, tls_port: int = 0, subject: str = "") -> int:
        """MIGRATE_BEGIN."""
        kind = MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN
        return self.server(main, kind, destination(host, port, tls_port, subject))

    def moved(self, source: int, target: int, number: int = ID) -> None:
        """What follows when both main channels are there: the end of a semi-seamless migration."""
        self.client(source, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)
        self.server(source, MsgMain.SPICE_MSG_MAIN_MIGRATE_END)
        self.close(source)
        self.client(target, MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
        self.server(target, MsgMain.SPICE_MSG_MAIN_INIT, init(number))

    def switched(self, main: int, host: str, port: int = 5900) -> int:
        """SWITCH_HOST."""
        return self.server(main, MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, destination(host, port))


@cache
def _key() -> bytes:
    """An RSA key of 1024 bits as SubjectPublicKeyInfo."""
    public = rsa.generate_private_key(65_537, 1024).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _with_key(reply: bytes) -> bytes:
    """A link reply with a real key: after the header of 16 bytes and the error."""
    return reply[:20] + _key() + reply[20 + len(_key()) :]


def init(number: int = ID, agent: bool = False) -> bytes:
    """INIT's body."""
    return struct.pack("<8I", number, 1, 3, 2, agent, 10, 4711, 0)


def destination(host: str, port: int, tls_port: int = 0, subject: str = "") -> bytes:
    """The body of an announcement: ports, and pointers to host and certificate subject."""
    name, cert = host.encode("latin-1") + b"\0", subject.encode() + b"\0" if subject else b""
    at = 20
    return (
        struct.pack("<HHIIII", port, tls_port, len(name), at, len(cert), at + len(name) if cert else 0)
        + name
        + cert
    )


def story_of(*paths: Path, keylog: Path | None = None) -> dict[str, Any]:
    """The story of captures."""
    inspection = Inspection(paths, keylog=keylog)
    inspection.finish()
    return inspection.as_dict()


def outcomes(story: dict[str, Any]) -> Sequence[tuple[str, str | None]]:
    """(outcome, reason) of each migration."""
    return [(migration["outcome"], migration["reason"]) for migration in story["migrations"]]


def accused(story: dict[str, Any]) -> list[str]:
    """Findings about ids and migrations (a scene's link stage is too short for other rules)."""
    return [f["requirement"] for f in story["findings"] if f["requirement"].startswith(("CONNID", "MIG"))]
