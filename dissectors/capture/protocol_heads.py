# SPDX-License-Identifier: GPL-2.0-only
"""What the first bytes of a connection tell: which protocol an end speaks."""

from __future__ import annotations

from dissectors.capture.tls_head import is_record

REDQ = b"REDQ"
PROXY1, PROXY2 = b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"
HTTP_METHODS = (
    b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT ",
    b"PROPFIND ", b"PRI * HTTP/2",
)  # fmt: skip

#: How what an end says begins, and what that is called.
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
    """The protocol whose beginning `head` is; None: none that is known here."""
    if is_record(head):
        return "TLS"
    return next((name for beginning, name in BEGINNINGS if head.startswith(beginning)), None)


def may_become(head: bytes, beginnings: tuple[bytes, ...]) -> bool:
    """More bytes may make it one of these."""
    return any(len(head) < len(beginning) and beginning.startswith(head) for beginning in beginnings)


def shown(data: bytes) -> str:
    """Bytes from outside as printable text: everything but printable ASCII as \\x1b and the like."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in data)
