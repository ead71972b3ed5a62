# SPDX-License-Identifier: GPL-2.0-only
"""Rules of the link stage: how the server answers each link message."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from dissectors.conversation.conversation import Connection, Conversation, link_error
from dissectors.conversation.parties import Server
from dissectors.framing.events import Closed, Ending, Event, Garbage, LinkBytes
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end, check, on
from dissectors.wire.constants import (
    LINK_HEADER_BYTES,
    SPICE_MAGIC,
    SPICE_TICKET_PUBKEY_BYTES,
    SPICE_VERSION_MAJOR,
    SPICE_VERSION_MINOR,
    ChannelType,
    CommonCap,
    LinkErr,
    MainCap,
    Side,
)

#: SPICE_CHANNEL_SECURITY_* (spice-server.h), and the requirement behind each link error about security.
_PLAIN, _TLS = 1, 2
_SECURITY: dict[LinkErr | int, str] = {
    LinkErr.SPICE_LINK_ERR_NEED_SECURED: "LINK-018",
    LinkErr.SPICE_LINK_ERR_NEED_UNSECURED: "LINK-047",
}
LATEST = 100  # the most earlier connections that a key is compared with
#: A server closes a refused link at once; this time (s) leaves room for a slow line and a busy machine.
REFUSED_S = 5.0
OK = LinkErr.SPICE_LINK_ERR_OK
FIXED_MESS = 18
MAX_SIZE = 4096
MAX_CAPS = 1024

#: DER of a SubjectPublicKeyInfo for RSA with a 1024 bit modulus: the bytes before the modulus, and after it.
KEY_PREFIX = bytes.fromhex("30819f300d06092a864886f70d010101050003818d0030818902818100")
KEY_SUFFIX = bytes.fromhex("0203010001")  # the exponent 65537


def mess_fault(raw: bytes) -> tuple[str, frozenset[LinkErr]] | None:
    """The requirement about the first fault in a link message's bytes, and the errors that may answer it.

    None: the link message has no fault.
    """
    magic, major, _, size = struct.unpack_from("<4sIII", raw)
    if magic != SPICE_MAGIC:
        return "LINK-004", frozenset({LinkErr.SPICE_LINK_ERR_INVALID_MAGIC})
    if major != SPICE_VERSION_MAJOR:
        return "LINK-005", frozenset({LinkErr.SPICE_LINK_ERR_VERSION_MISMATCH})
    if size < FIXED_MESS or size > MAX_SIZE:
        return "LINK-007", frozenset({LinkErr.SPICE_LINK_ERR_INVALID_DATA})
    if len(raw) < LINK_HEADER_BYTES + FIXED_MESS:
        return None
    common, channel, offset = struct.unpack_from("<III", raw, LINK_HEADER_BYTES + 6)
    too_many = common > MAX_CAPS or channel > MAX_CAPS
    outside = offset < FIXED_MESS or offset + 4 * (common + channel) > size
    if too_many or (common + channel and outside):  # without capability words their offset does not matter
        return "LINK-008", frozenset({LinkErr.SPICE_LINK_ERR_INVALID_DATA})
    return None


@on(LinkBytes)
def reply(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """The link reply is well-formed and answers the link message correctly."""
    connection = view.connection(event)
    if event.kind != "reply" or connection.mess is None:
        return
    if connection.reply is not None:
        yield from _second_reply(view, connection)
        return
    packet = event.packet
    yield from _shape(event, packet)
    if len(event.raw) < LINK_HEADER_BYTES + 4:
        return
    error = link_error(event)
    fault = mess_fault(connection.mess.raw)
    if fault is not None:
        requirement, errors = fault
        yield check(requirement, error in errors, " or ".join(e.name for e in errors), _name(error))
    elif error == OK:
        yield from _accepted(view, connection, event, packet)
    else:
        yield from _refused(view, connection, error)


def _second_reply(view: Conversation, connection: Connection) -> Iterator[Ruling]:
    """Released servers refuse an unknown mechanism with a second link reply. SASL has refusals of its own."""
    mechanism, offered = _mechanism(connection), _offered(view, connection)
    if mechanism is not None and mechanism not in offered:
        yield Broken("LINK-014", "a link result (4 bytes) that refuses", "a second link reply")
        yield Kept("LINK-013")
    elif CommonCap.SPICE_COMMON_CAP_AUTH_SASL not in offered:
        yield Broken("LINK-015", "a link result (4 bytes)", "a second link reply")


def _shape(event: LinkBytes, packet: Any) -> Iterator[Ruling]:
    yield check("LINK-001", packet.magic == SPICE_MAGIC, SPICE_MAGIC, packet.magic)
    version = (packet.major_version, packet.minor_version)
    yield check(
        "LINK-002",
        version == (SPICE_VERSION_MAJOR, SPICE_VERSION_MINOR),
        "version 2.2",
        "version {}.{}".format(*version),
    )
    if problems := packet.problems():
        yield Broken("LINK-003", "a whole SpiceLinkReply with its capabilities inside", "; ".join(problems))
    else:
        yield Kept("LINK-003")


def _accepted(view: Conversation, connection: Connection, event: LinkBytes, packet: Any) -> Iterator[Ruling]:
    if connection.mess is not None and connection.mess.packet.minor_version != SPICE_VERSION_MINOR:
        yield Kept("LINK-006")
    common, caps = frozenset(_bits(packet.common_caps)), frozenset(_bits(packet.channel_caps))
    due = {
        CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION,
        CommonCap.SPICE_COMMON_CAP_AUTH_SPICE,
        CommonCap.SPICE_COMMON_CAP_MINI_HEADER,
    }
    settings = view.hosts[connection.host].settings if connection.host >= 0 else {}
    sasl = CommonCap.SPICE_COMMON_CAP_AUTH_SASL in common
    if settings.get("sasl") or (sasl and not settings):
        due.discard(CommonCap.SPICE_COMMON_CAP_AUTH_SPICE)
    if not sasl or CommonCap.SPICE_COMMON_CAP_AUTH_SPICE in common:  # else there is no ticket to encrypt
        yield from _public_key(view, connection, event, fresh=bool(settings.get("fresh_keys", True)))
    missing = sorted(cap.name for cap in due if cap not in common)
    yield check(
        "LINK-011", not missing, "AUTH_SELECTION, AUTH_SPICE and MINI_HEADER", f"without {', '.join(missing)}"
    )
    if settings and not settings.get("sasl"):
        yield check("LINK-050", not sasl, "no AUTH_SASL, which is not configured", "AUTH_SASL offered")
    if connection.is_main:
        yield from _main_caps(caps, settings)


def _public_key(
    view: Conversation, connection: Connection, event: LinkBytes, *, fresh: bool
) -> Iterator[Ruling]:
    """The reply holds an RSA key of 1024 bits, new for each link (`fresh`: unless its host has one ready)."""
    key = bytes(event.packet.pub_key)
    fine = key.startswith(KEY_PREFIX) and key.endswith(KEY_SUFFIX) and len(key) == SPICE_TICKET_PUBKEY_BYTES
    modulus = key[len(KEY_PREFIX) : -len(KEY_SUFFIX)]
    fine = fine and modulus[0] >= 0x80 and modulus[-1] % 2 == 1  # 1024 bits, and a product of odd primes
    seen = f"{key[: len(KEY_PREFIX)].hex()}, a modulus {modulus[:4].hex()}..., {key[-5:].hex()}"
    yield check("LINK-009", fine, "an RSA public key of 1024 bits (DER, 162 bytes)", seen)
    latest = islice(reversed(view.connections.values()), LATEST)
    others = [c for c in latest if c.reply and c is not connection and c.host == connection.host]
    if others and fresh:
        again = any(_key(c.reply) == _key(event) for c in others[:8] if c.reply and link_error(c.reply) == OK)
        yield check("LINK-010", not again, "a fresh key for each link", "the key of another link")


def _key(reply: LinkBytes) -> bytes:
    """The public key in a link reply."""
    begin = LINK_HEADER_BYTES + 4
    return reply.raw[begin : begin + SPICE_TICKET_PUBKEY_BYTES]


def _main_caps(caps: frozenset[int], settings: Mapping[str, object]) -> Iterator[Ruling]:
    semi = MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE in caps
    yield check("LINK-012", semi, "SEMI_SEAMLESS_MIGRATE offered", "not offered")
    seamless = MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE in caps
    yield check("LINK-022", seamless, "SEAMLESS_MIGRATE offered, whether it is used or not", "not offered")
    later = (MainCap.SPICE_MAIN_CAP_NAME_AND_UUID, MainCap.SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS)
    missing = sorted(cap.name for cap in later if cap not in caps)
    if len(missing) == len(later) and not settings:
        return  # a server before 0.15 offers neither, and what does not offer them does not tell its version
    yield check(
        "LINK-031", not missing, "NAME_AND_UUID and AGENT_CONNECTED_TOKENS", f"without {', '.join(missing)}"
    )


def _refused(view: Conversation, connection: Connection, error: LinkErr | int) -> Iterator[Ruling]:
    settings = view.hosts[connection.host].settings if connection.host >= 0 else {}
    due = _security_answer(view, connection)
    minor = connection.mess.packet.minor_version if connection.mess is not None else SPICE_VERSION_MINOR
    if minor != SPICE_VERSION_MINOR and error == LinkErr.SPICE_LINK_ERR_VERSION_MISMATCH and not settings:
        yield Broken("LINK-006", f"SPICE_LINK_ERR_OK: minor version {minor}", _name(error))
    if error in _SECURITY and (error == due or not settings):
        yield Kept(_SECURITY[error])
    elif error == LinkErr.SPICE_LINK_ERR_CHANNEL_NOT_AVAILABLE and not connection.is_main:
        yield Kept("CONNID-011")
    elif settings:
        yield Broken("LINK-019", "SPICE_LINK_ERR_OK for a link message without fault", _name(error))


def _security_answer(view: Conversation, connection: Connection) -> LinkErr | None:
    """The link error due to the channel's security setting: NEED_SECURED, NEED_UNSECURED, or None."""
    if connection.host < 0 or connection.opened is None:
        return None
    allowed = _allowed(view.hosts[connection.host], connection.channel)
    if connection.opened.tls:
        return None if allowed & _TLS else LinkErr.SPICE_LINK_ERR_NEED_UNSECURED
    return None if allowed & _PLAIN else LinkErr.SPICE_LINK_ERR_NEED_SECURED


def _allowed(host: Server, channel: int | None) -> int:
    """The links that a channel accepts (`_PLAIN`, `_TLS`): by its host's settings, then by later calls."""
    try:
        name = ChannelType(channel).name.removeprefix("SPICE_CHANNEL_").lower() if channel is not None else ""
    except ValueError:
        name = ""
    listed = host.settings.get("secure_channels")
    secure = listed if isinstance(listed, list | tuple) else ()
    own = _TLS if name in secure else None
    others = _TLS if "all" in secure else _PLAIN | _TLS
    for call in host.calls:
        if call.name == "call:set_channel_security":
            security = int(call.args["security"])
            if call.args.get("channel") is None:
                others = security
            elif call.args["channel"] == name:
                own = security
    return others if own is None else own


@on(LinkBytes)
def secured(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """The server opens a TLS-only channel only over TLS, and a plain-only channel only without TLS."""
    connection = view.connection(event)
    if event.kind != "reply" or connection.mess is None or connection.reply is not None:
        return
    due = _security_answer(view, connection)
    if due is not None and mess_fault(connection.mess.raw) is None:
        error = link_error(event)
        yield check(_SECURITY[due], error == due, due.name, _name(error))


@on(LinkBytes)
def result(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """The link result is a known link error code, and the server refuses an unknown mechanism."""
    connection = view.connection(event)
    if event.kind != "result":
        return
    error = link_error(event)
    yield check("LINK-015", isinstance(error, LinkErr), "a value of SpiceLinkErr", _name(error))
    mechanism = _mechanism(connection)
    if connection.reply is None or mechanism is None:
        return  # what the server offers is not known
    if mechanism not in _offered(view, connection):
        refused = error != OK
        yield check("LINK-013", refused, "a mechanism that is not configured is refused", _name(error))
        if refused:
            yield Kept("LINK-014")


@on(LinkBytes)
def sasl_uninvited(view: Conversation, event: LinkBytes) -> Iterator[Ruling]:
    """A server that offers no SASL does not begin it."""
    connection = view.connection(event)
    if event.kind == "sasl" and event.sender is Side.SERVER and connection.reply is not None:
        offered = CommonCap.SPICE_COMMON_CAP_AUTH_SASL in connection.server_common
        yield check("LINK-013", offered, "a mechanism that is not configured is refused", "a SASL exchange")


def _mechanism(connection: Connection) -> int | None:
    return None if connection.mechanism is None else int(connection.mechanism.packet.auth_mechanism)


def _offered(view: Conversation, connection: Connection) -> frozenset[int]:
    settings = view.hosts[connection.host].settings if connection.host >= 0 else {}
    known = {CommonCap.SPICE_COMMON_CAP_AUTH_SPICE, CommonCap.SPICE_COMMON_CAP_AUTH_SASL}
    if settings and not settings.get("sasl"):
        known.discard(CommonCap.SPICE_COMMON_CAP_AUTH_SASL)
    return connection.server_common & frozenset(map(int, known))


@on(Closed)
def closing(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """After a link error the server closes the connection, and it answers every faulty link message."""
    connection = view.connection(event)
    refusal = _refusal(connection)
    by_server = event.by is not Side.CLIENT and event.how in (Ending.CLOSED, Ending.RESET)
    if event.how is Ending.DIED:
        return  # another requirement covers it
    if refusal is not None and event.by is not Side.CLIENT:
        yield check("LINK-016", by_server, "the server closes a link that it has refused", f"{event.how}")
    elif refusal is not None and event.time - refusal.time > REFUSED_S:
        yield _left_open(refusal, event.time)
    if connection.mess is None or connection.reply is not None:
        return
    fault = mess_fault(connection.mess.raw)
    if fault is None or _at_tls_port(view, connection):
        return
    requirement, errors = fault
    if requirement == "LINK-005" and by_server and connection.mess.packet.major_version == 0:
        yield Kept(requirement)  # as every release: a wrong magic gets no reply
    elif event.by is not Side.CLIENT and len(connection.mess.raw) >= LINK_HEADER_BYTES:
        wanted = " or ".join(e.name for e in errors)
        yield Broken(
            requirement, f"a link reply with {wanted}", f"no reply; the connection ended: {event.how}"
        )


def _at_tls_port(view: Conversation, connection: Connection) -> bool:
    """Whether the client sent plain bytes to the TLS port: no SPICE answer is due there."""
    if connection.host < 0 or connection.opened is None or connection.opened.tls:
        return False
    return view.hosts[connection.host].settings.get("tls_port") == connection.opened.server.port


def _refusal(connection: Connection) -> LinkBytes | None:
    """The reply or result that refused the link."""
    said = [e for e in (connection.reply, connection.result) if e is not None and link_error(e) != OK]
    return said[0] if said else None


def _left_open(refusal: LinkBytes, until: float) -> Broken:
    seconds = until - refusal.time
    return Broken(
        "LINK-016", "the server closes a link that it has refused", f"open for {seconds:.0f} s", refusal
    )


@at_end
def left_open(view: Conversation) -> Iterator[Ruling]:
    """At the end: the server has closed each link that it refused."""
    for connection in view.connections.values():
        refusal = _refusal(connection) if connection.closed is None else None
        if refusal is not None and view.now - refusal.time > REFUSED_S:
            yield _left_open(refusal, view.now)


@on(Garbage)
def refused_goes_on(view: Conversation, event: Garbage) -> Iterator[Ruling]:
    """The server sends nothing more on a link that it refused."""
    connection = view.connection(event)
    said = connection.result or connection.reply
    if event.sender is Side.SERVER and said is not None and connection.certain and link_error(said) != OK:
        yield Broken("LINK-017", "no message on a refused link", f"{len(event.raw)} bytes more")


@at_end
def no_session_without_link(view: Conversation) -> Iterator[Ruling]:
    """No SPICE message follows on a refused link, and no link result after a reply that refused it."""
    for connection in view.connections.values():
        refusal, result = connection.refusal, connection.result
        if refusal is None or connection.reply is None or not connection.certain:
            continue
        last = connection.last[Side.SERVER]
        more = last or (result if result is not refusal else None)
        if more is not None:
            name = last.name if last is not None else "a link result"
            yield Broken("LINK-017", "no message on a refused link", name, more)
        elif result is not None:
            yield Kept("LINK-017")


def _bits(words: Any) -> Iterator[int]:
    for index, word in enumerate(words or []):
        for bit in range(32):
            if word >> bit & 1:
                yield 32 * index + bit


def _name(error: LinkErr | int) -> str:
    return error.name if isinstance(error, LinkErr) else str(error)


def error_name(event: Event) -> str:
    """The name of a reply's or result's error."""
    return _name(link_error(event)) if isinstance(event, LinkBytes) else str(event)
