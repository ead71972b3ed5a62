# SPDX-License-Identifier: GPL-2.0-only
"""Recognises the protocol that an end speaks by the first bytes of a connection."""

from __future__ import annotations

from dissectors.capture.tls_head import is_record

REDQ = b"REDQ"
PROXY1, PROXY2 = b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"
HTTP_METHODS = (
    b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT ",
    b"PROPFIND ", b"PRI * HTTP/2",
)  # fmt: skip

#: The first bytes of an end, and the name of its protocol.
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (REDQ, "SPICE"),
    (b"RFB ", "VNC"),
    (b"SSH-", "SSH"),
    (b"HTTP/", "HTTP"),
    *((method, "HTTP") for method in HTTP_METHODS),
    (b"\x03\0\0", "RDP"),
    (b"* OK", "IMAP"),
    (b"+OK", "POP3"),
    (b"220", "SMTP or FTP"),
    (b"AMQP", "AMQP"),
    (b'{"QMP"', "QMP"),
    (b"NBDMAGIC", "NBD"),
    (b"l\0\x0b\0", "X11"),
    (b"B\0\0\x0b", "X11"),
)


def protocol_name(head: bytes) -> str | None:
    """The protocol that begins with `head`; None: no known one."""
    if is_record(head):
        return "TLS"
    return next((name for beginning, name in BEGINNINGS if head.startswith(beginning)), None)


def may_become(head: bytes, beginnings: tuple[bytes, ...]) -> bool:
    """Whether more bytes could make it one of these protocols."""
    return any(len(head) < len(beginning) and beginning.startswith(head) for beginning in beginnings)


def shown(data: bytes) -> str:
    """Bytes from outside as printable text: everything but printable ASCII as \\x1b and the like."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in data)
