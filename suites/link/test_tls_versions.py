# SPDX-License-Identifier: GPL-2.0-only
"""Which versions of TLS the server accepts, and that no client starts a second handshake (RFC 8996, RFC 9325;
server/reds.cpp, reds_init_ssl)."""

from __future__ import annotations

import ssl
import warnings

import pytest

from dissectors.framing.events import Endpoint
from dissectors.wire.constants import LinkErr, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import accepted, lax_tls, requirement, result
from fixtures.peer import PeerFailure
from fixtures.peer.renegotiation import renegotiates
from fixtures.system.certificates import ServerCertificate
from fixtures.system.hosts import Unsupported

INIT = MsgMain.SPICE_MSG_MAIN_INIT
DENIED = LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED


def only(version: ssl.TLSVersion, certificate: ServerCertificate) -> ssl.SSLContext:
    """A client's context that offers one version of TLS, trusts the certificate's authority, and accepts weak
    settings that other clients refuse."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate.ca)
    _allow(context, version)
    return context


def _allow(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")


def can_speak(version: ssl.TLSVersion, certificate: ServerCertificate) -> bool:
    """Whether the client's own OpenSSL supports this version, tried against a server that accepts it."""
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _allow(lax, version)
    lax.load_cert_chain(certificate.certificate, certificate.key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = only(version, certificate).wrap_bio(back, there)
    server = lax.wrap_bio(there, back, server_side=True)
    for end in (client, server, client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return False
    return client.version() is not None


def is_refused(bench: Bench, version: ssl.TLSVersion) -> None:
    """Claims that a client which offers this version alone does not complete the handshake."""
    certificate = bench.certificate()
    if not can_speak(version, certificate):
        raise Unsupported(f"the OpenSSL of this machine cannot speak {version.name}")
    source = bench.start(tls=certificate.settings())
    taken = True
    try:
        bench.connect(source, secure=True, tls=only(version, certificate))
    except PeerFailure:
        taken = False
    bench.claim(not taken, f"{version.name} is refused", f"{version.name} is taken")


@requirement("LINK-056", fault=lax_tls())
def test_tls_1_0(bench: Bench) -> None:
    """The server refuses TLS 1.0."""
    is_refused(bench, ssl.TLSVersion.TLSv1)


@requirement("LINK-057", fault=lax_tls())
def test_tls_1_1(bench: Bench) -> None:
    """The server refuses TLS 1.1."""
    is_refused(bench, ssl.TLSVersion.TLSv1_1)


@requirement("LINK-059", fault=result(DENIED, where=accepted))
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
def test_versions_of_today(bench: Bench, version: ssl.TLSVersion) -> None:
    """A client that offers this version alone opens main."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings())
    with bench.owed():
        bench.link(source, secure=True, tls=only(version, certificate)).expect(INIT)


@requirement("LINK-058", fault=lax_tls())
def test_client_that_negotiates_anew(bench: Bench) -> None:
    """The client requests a second handshake: it gets none, and the next client is served."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings())
    again = renegotiates(Endpoint(source.address, source.tls_port or 0))
    bench.claim(again is False, "no second handshake", {True: "one", None: "no answer"}.get(again, "none"))
    with bench.owed():
        bench.link(source, secure=True, tls=only(ssl.TLSVersion.TLSv1_2, certificate)).expect(INIT)
