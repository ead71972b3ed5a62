# SPDX-License-Identifier: GPL-2.0-only
"""The ways of a play's connections to its servers other than plain TCP: TLS and WebSocket.

A process makes one certificate, and keeps it in memory: a server reads its files only while it starts."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fixtures.peer.transport import Wrap, trusting
from fixtures.peer.websocket_client import WebSocket
from fixtures.system.certificates import Authority, ServerCertificate
from fixtures.system.hosts import Host
from suites.fuzz.moves import Carrier


@dataclass(frozen=True)
class _Issued:
    """A certificate's files, and a client's context that trusts them."""

    subject: str
    files: tuple[tuple[str, bytes], ...]
    trust: ssl.SSLContext


@cache
def _issued() -> _Issued:
    with tempfile.TemporaryDirectory() as directory:
        made = Authority(Path(directory)).server()
        paths = (made.ca, made.certificate, made.key)
        return _Issued(made.subject, tuple((p.name, p.read_bytes()) for p in paths), trusting(made.ca))


@contextmanager
def tls_settings(carrier: Carrier) -> Iterator[dict[str, str] | None]:
    """The value of `Settings.tls` while a host starts; None if the carrier is not TLS."""
    if carrier is not Carrier.TLS:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        own = ServerCertificate(Path(directory), _issued().subject)
        for name, content in _issued().files:
            path = own.directory / name
            path.touch(0o600)
            path.write_bytes(content)
        yield own.settings()


def port_of(host: Host, carrier: Carrier) -> int | None:
    """The port at which a host expects connections of this kind."""
    return host.tls_port if carrier is Carrier.TLS else host.port


def trust(carrier: Carrier) -> ssl.SSLContext | None:
    """A client's TLS context."""
    return _issued().trust if carrier is Carrier.TLS else None


def wrap(carrier: Carrier) -> Wrap | None:
    """What replaces a connection's socket."""
    return WebSocket() if carrier is Carrier.WEBSOCKET else None
