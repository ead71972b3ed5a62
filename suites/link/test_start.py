# SPDX-License-Identifier: GPL-2.0-only
"""How a server starts: at a UNIX path that an earlier one has left, with a key that has a password, with the
ciphers that its administrator has chosen; what it must not start with; and how it ends (spice-server.h,
spice_server_init, spice_server_set_tls and spice_server_destroy)."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import ChannelType, LinkErr, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import accepted, other_result, requirement, result, stuck_after
from fixtures.peer import PeerFailure
from fixtures.system.hosts import Ability, HarnessError
from suites.link.test_tls_versions import only
from suites.steps import unix_path

INIT = MsgMain.SPICE_MSG_MAIN_INIT
DENIED = LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED
CHOSEN, ANOTHER = "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"
PASSWORD = "of the key"
#: A path in no directory, and short: the server cuts one of over 107 bytes, and listens elsewhere.
NOWHERE = "/proc/no-such-directory/s"

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.DEVICES)


@requirement("LINK-062", fault=result(DENIED, where=accepted))
def test_path_of_an_earlier_server(bench: Bench) -> None:
    """The path of the UNIX socket is that of a server which has ended, and has left its socket there."""
    path = unix_path(bench)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with bench.owed():
        bench.link(bench.start(listen=path)).expect(INIT)


def wrong_settings(bench: Bench) -> dict[str, dict[str, Any]]:
    """Settings with which no server may start, by their fault."""
    certificate = bench.certificate()
    right = certificate.settings()
    missing, strange = bench.directory / "missing" / "s", bench.directory / "strange-key.pem"
    key = rsa.generate_private_key(65_537, 1_024)  # quickly made; of the certificate's kind
    strange.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {
        "no certificate": {"tls": right | {"cert": str(missing)}},
        "no key": {"tls": right | {"key": str(missing)}},
        "no authority": {"tls": right | {"ca": str(missing)}},
        "another's key": {"tls": right | {"key": str(strange)}},
        "unknown ciphers": {"tls": right | {"ciphers": "NOBODY-HAS-IT"}},
        "no directory": {"listen": NOWHERE},
    }


@requirement("LINK-063", fault=other_result("init"))
def test_server_that_must_not_start(bench: Bench) -> None:
    """A file that TLS needs is missing or does not fit, or there is no place for the socket: the hypervisor
    learns it from spice_server_init."""
    for what, settings in wrong_settings(bench).items():
        seen = "a server that runs"
        try:
            bench.start(**settings)
        except HarnessError as error:
            seen = str(error)
        bench.claim("spice_server_init failed" in seen, f"{what}: spice_server_init returns an error", seen)


@requirement("LINK-064", fault=result(DENIED, where=accepted))
@requirement("LINK-065", fault=result(DENIED, where=accepted))
def test_locked_key_and_chosen_ciphers(bench: Bench) -> None:
    """The server's key has a password, and the administrator has chosen one cipher for TLS 1.2: a client that
    has it opens main, one that has another does not."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.locked(PASSWORD) | {"ciphers": CHOSEN})
    taken = []
    for cipher in (CHOSEN, ANOTHER):
        context = only(ssl.TLSVersion.TLSv1_2, certificate)
        context.set_ciphers(cipher)
        with suppress(PeerFailure):
            bench.link(source, secure=True, tls=context).expect(INIT)
            taken.append(cipher)
    bench.claim(CHOSEN in taken, "a session over TLS", taken, proves="LINK-064")
    bench.claim(taken == [CHOSEN], f"{CHOSEN} alone", taken, proves="LINK-065")


@requirement("LINK-067", fault=stuck_after(MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST))
def test_server_that_ends(bench: Bench) -> None:
    """The hypervisor destroys the server while a client is connected: the client's connections end, and the
    server's ports are closed."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings())
    client = bench.client(source, channels=(ChannelType.SPICE_CHANNEL_INPUTS,))
    bench.settle()
    source.call("destroy")
    endings = [channel.expect_end(deadline=2) for channel in client.current]
    bench.claim(set(endings) <= DISCONNECTED, "the end of each connection", endings)
    open_ports = []
    for secure in (False, True):
        with suppress(PeerFailure):
            bench.connect(source, secure=secure)
            open_ports.append("TLS" if secure else "plain")
    bench.claim(not open_ports, "no open port", open_ports)
