# SPDX-License-Identifier: GPL-2.0-only
"""The session's authority and what it issues."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from fixtures.certificates import Authority, ServerCertificate, subject_text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def _handshake(server: ServerCertificate, trusted: Path) -> None:
    """A whole TLS handshake in memory; raises what the client finds wrong."""
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(server.certificate, server.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = ssl.create_default_context(cafile=str(trusted)).wrap_bio(
        to_client, to_server, server_hostname="127.0.0.1"
    )
    far = listening.wrap_bio(to_server, to_client, server_side=True)
    for end in (near, far, near, far):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_a_client_that_trusts_the_authority_accepts_the_server(authority: Authority) -> None:
    _handshake(authority.server(), authority.server().ca)


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    expired = authority.server(expired=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _handshake(expired, expired.ca)
    loaded = x509.load_pem_x509_certificate(expired.certificate.read_bytes())
    assert loaded.not_valid_before_utc < loaded.not_valid_after_utc < datetime.now(UTC)


def test_another_authority_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        _handshake(Authority(tmp_path).server(), authority.server().ca)


def test_subjects_differ_by_name_and_are_written_in_the_certificates_order(authority: Authority) -> None:
    assert authority.server().subject == "O=SPICE conformance,OU=server,CN=127.0.0.1"
    assert authority.server("target").subject == "O=SPICE conformance,OU=target,CN=127.0.0.1"


def test_a_comma_and_a_backslash_are_escaped() -> None:
    name = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "IL"), x509.NameAttribute(NameOID.COMMON_NAME, "a,b\\c")]
    )
    assert subject_text(name) == r"C=IL,CN=a\,b\\c"


def test_a_certificate_is_made_once_and_its_key_is_private(authority: Authority) -> None:
    server = authority.server()
    assert authority.server() is server
    assert server.key.stat().st_mode & 0o077 == 0
    assert server.settings().keys() == {"ca", "cert", "key"}
