# SPDX-License-Identifier: GPL-2.0-only
"""TLS alerts by name (RFC 8446, 6, and IANA's registry of TLS alerts)."""

from __future__ import annotations

from dissectors.capture.capture_items import Chunk
from dissectors.capture.tls_head import ALERT, HEADER, is_record
from dissectors.framing.events import TlsAlert
from dissectors.wire.constants import Side

CLOSE_NOTIFY, FATAL = 0, 2
ALERT_BYTES = 2

ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    52: "too_many_cids_requested",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "ech_required",
}


def alert_event(
    body: bytes, *, connection: int, sender: Side, time: float, frame: int, finished: bool
) -> TlsAlert | None:
    """The event of an alert that can be read; None for close_notify and for what is no alert."""
    if len(body) != ALERT_BYTES or body[1] == CLOSE_NOTIFY or body[0] not in (1, FATAL):
        return None
    return TlsAlert(
        time=time,
        frame=frame,
        connection=connection,
        sender=sender,
        name=ALERTS.get(body[1], f"alert {body[1]}"),
        number=body[1],
        fatal=body[0] == FATAL,
        finished=finished,
    )


def encrypted_alert(*, connection: int, sender: Side, time: float, frame: int, finished: bool) -> TlsAlert:
    """The event of an alert that is there and cannot be read."""
    return TlsAlert(
        time=time,
        frame=frame,
        connection=connection,
        sender=sender,
        name=None,
        number=None,
        fatal=True,
        finished=finished,
    )


def alert_in_clear(data: bytes, chunk: Chunk, *, finished: bool) -> TlsAlert | None:
    """The alert that `data`, the beginning of a chunk, is."""
    if not is_record(data) or data[0] != ALERT or len(data) < HEADER + ALERT_BYTES:
        return None
    frame, time = chunk.at(HEADER + ALERT_BYTES - 1)
    body = data[HEADER : HEADER + int.from_bytes(data[3:5])]
    return alert_event(
        body, connection=chunk.connection, sender=chunk.sender, time=time, frame=frame, finished=finished
    )
