# SPDX-License-Identifier: GPL-2.0-only
"""The server name and ALPN protocols of a ClientHello, and the readable fields of a certificate."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cryptography import x509
from cryptography.x509.oid import NameOID

from dissectors.capture.protocol_heads import shown
from dissectors.framing.events import TlsCertificate

SERVER_NAME, ALPN = 0, 16  # extensions
LONGEST_SHOWN = 300

SHORT_NAMES = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
}


def extensions(body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """(type, data) of the extensions whose length field is at `position`, if there are any."""
    position += 2
    while position + 4 <= len(body):
        kind, size = struct.unpack_from("!HH", body, position)
        yield kind, body[position + 4 : position + 4 + size]
        position += 4 + size


def hello_wishes(body: bytes) -> tuple[str | None, tuple[str, ...]]:
    """The server name and the ALPN protocols of a ClientHello (RFC 6066, 3; RFC 7301, 3.1)."""
    position = 34
    position += 1 + body[position]
    position += 2 + int.from_bytes(body[position : position + 2])
    position += 1 + body[position]
    found = dict(extensions(body, position))
    name = found.get(SERVER_NAME, b"")[5:]
    protocols: list[str] = []
    rest = found.get(ALPN, b"")[2:]
    while rest and len(protocols) < 16:
        protocols.append(shown(rest[1 : 1 + rest[0]]))
        rest = rest[1 + rest[0] :]
    return shown(name[:LONGEST_SHOWN]) if name else None, tuple(protocols)


def first_certificate(body: bytes, *, tls13: bool) -> bytes:
    """The server's own certificate (DER) in a Certificate message; empty where there is none."""
    position = 1 + body[0] if tls13 else 0
    position += 3
    size = int.from_bytes(body[position : position + 3])
    return body[position + 3 : position + 3 + size]


def certificate_event(der: bytes, *, connection: int, time: float, frame: int) -> TlsCertificate | None:
    """The event; None where the certificate cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return TlsCertificate(
            time=time,
            frame=frame,
            connection=connection,
            subject=_name(certificate.subject),
            issuer=_name(certificate.issuer),
            names=_alternatives(certificate),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )
    except (ValueError, TypeError, OverflowError, x509.InvalidVersion):
        return None


def _name(name: x509.Name) -> str:
    """A name as SPICE writes it: entries separated by commas, in the certificate's order."""
    parts = []
    for entry in name:
        short = SHORT_NAMES.get(entry.oid, entry.oid.dotted_string)
        value = entry.value if isinstance(entry.value, str) else entry.value.hex()
        parts.append(f"{short}={_text(value)}")
    return ",".join(parts)[:LONGEST_SHOWN]


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace(",", "\\,")
    return "".join(char if char.isprintable() else shown(char.encode()) for char in escaped)


def _alternatives(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses of subjectAltName."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    found = [*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)]
    return tuple(_text(str(name))[:LONGEST_SHOWN] for name in found[:16])
