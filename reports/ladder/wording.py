# SPDX-License-Identifier: GPL-2.0-only
"""Short words for events: labels, the relevant fields, which events are routine. Secrets are never shown."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from dissectors.framing.events import (
    ConnectionEvent,
    HostEvent,
    LinkBytes,
    Message,
    ProxyHeader,
    ProxyTunnel,
    TlsAlert,
    TlsCertificate,
    TlsHello,
    WrongProtocol,
)
from dissectors.wire.constants import Side, channel_name
from dissectors.wire.visible_text import visible, visible_host

#: Messages that every session has and that say little about it.
ROUTINE = frozenset({"PING", "PONG", "SET_ACK", "ACK_SYNC", "ACK", "NAME", "UUID", "MULTI_MEDIA_TIME"})

#: Message names that matter on every channel.
_NOTABLE = frozenset({"MIGRATE", "MIGRATE_DATA", "MIGRATE_FLUSH_MARK", "DISCONNECTING", "NOTIFY"})

#: Host events that a reader of a ladder does not need, unless a rule is broken there.
_BACKSTAGE = frozenset({"configured", "settled", "log", "timer_cancel", "timer_remove", "timer_fired"})
#: ms; shorter timers (pings, statistics) say nothing about a migration, longer ones watch for silent clients
_MIGRATION_TIMER = 10_000
DEATHS = frozenset({"died", "hung"})

SECRET_KINDS = frozenset({"ticket", "sasl"})  # packets of the link stage
_SECRETS = ("ticket", "passw", "secret", "key")

#: Message -> the fields that a reader looks for first.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "SPICE_MSG_MAIN_MIGRATE_BEGIN": ("host", "port", "sport", "cert_subject"),
    "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS": ("host", "port", "sport", "src_mig_version"),
    "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST": ("host", "port", "sport", "cert_subject"),
    "SPICE_MSG_MAIN_INIT": ("session_id",),
    "SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS": ("src_version",),
    "SPICE_MSG_MAIN_MOUSE_MODE": ("current_mode",),
    "SPICE_MSG_MIGRATE": ("flags",),
    "SPICE_MSG_DISCONNECTING": ("reason",),
    "SPICE_MSG_NOTIFY": ("message",),
}
_HEX = frozenset({"session_id"})
_SHORT = {"session_id": "session", "src_version": "version"}

_LINK_LABELS = {
    "mess": "SpiceLinkMess",
    "reply": "link reply",
    "mechanism": "mechanism",
    "ticket": "ticket",
    "result": "link result",
    "sasl": "SASL",
}


def short(message: Message) -> str:
    """A message's name without what its channel and its arrow already say: `MIGRATE_BEGIN`."""
    prefix = "SPICE_MSG_" if message.sender is Side.SERVER else "SPICE_MSGC_"
    return message.name.removeprefix(prefix).removeprefix(f"{channel_name(message.channel).upper()}_")


def is_routine(message: Message) -> bool:
    """Whether a message may share a row with many: on bulk channels all may, except those of their
    migration."""
    name = short(message)
    if name in ROUTINE:
        return True
    return message.channel != 1 and name not in _NOTABLE and not name.startswith("unknown")


def detail(message: Message) -> str:
    """The fields that a reader looks for first, as `name value`."""
    if message.name == "SPICE_MSG_MIGRATE_DATA" or message.name == "SPICE_MSGC_MIGRATE_DATA":
        return f"{message.size:,} bytes"
    names = _FIELDS.get(message.name, ())
    if not names:
        return ""
    packet = message.packet
    if "host" in names:
        return _destination(packet, names)
    return " ".join(_field(packet, name) for name in names if hasattr(packet, name))


def _destination(packet: Any, names: tuple[str, ...]) -> str:
    host = visible_host(_text(getattr(packet, "host", b""))) or "?"
    words = [f"{host}:{getattr(packet, 'port', '?')}"]
    if sport := getattr(packet, "sport", 0):
        words.append(f"tls {sport}")
    if subject := _text(getattr(packet, "cert_subject", b"")):
        words.append(f"“{subject}”")
    if "src_mig_version" in names:
        words.append(f"version {getattr(packet, 'src_mig_version', '?')}")
    return " ".join(words)


def _field(packet: Any, name: str) -> str:
    value = getattr(packet, name)
    if isinstance(value, bytes):
        value = _text(value)
    elif name in _HEX and isinstance(value, int):
        value = f"{value:#010x}"
    elif isinstance(value, IntEnum):
        value = value.name
    return f"{_SHORT.get(name, name)} {value if str(value) else 'none'}"


def _text(value: Any) -> str:
    """A text from the wire with control characters made visible."""
    return visible(
        value.rstrip(b"\0").decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    )


def around(event: ConnectionEvent) -> tuple[str, str, bool]:
    """(label, detail, is it routine) of an event around SPICE: TLS, proxies, other protocols."""
    match event:
        case TlsHello():
            return "TLS ClientHello", visible(event.server_name or ""), True
        case TlsCertificate():
            return "TLS certificate", f"“{visible(event.subject)}”", False
        case TlsAlert():
            name = event.name or "encrypted"
            return f"TLS alert {name}", "fatal" if event.fatal else "warning", False
        case ProxyTunnel():
            words = f"{visible_host(event.target or '?')}: {visible(event.answer or 'no answer')}"
            return event.protocol, words, False
        case ProxyHeader():
            return f"PROXY protocol {event.version}", f"from {event.source or 'unknown'}", False
        case WrongProtocol():
            speaks = f"client {event.client_speaks or 'silent'}, server {event.server_speaks or 'silent'}"
            return "wrong protocol", speaks, False
    return type(event).__name__, "", True


def link(event: LinkBytes) -> tuple[str, str, bool]:
    """(label, detail, is it routine) of a packet of the link stage."""
    label = _LINK_LABELS[event.kind]
    packet = event.packet
    if event.kind == "mess":
        return label, f"id {getattr(packet, 'connection_id', 0):#x}", False
    if event.kind in ("reply", "result"):
        return label, *_link_error(packet, event.kind)
    return label, "", True


def _link_error(packet: Any, kind: str) -> tuple[str, bool]:
    error = getattr(packet, "error", None)
    if error is None:
        return "cut short", False
    name = packet.sprintf("%error%") if hasattr(packet, "sprintf") else str(error)
    return name.removeprefix("SPICE_LINK_ERR_"), kind == "reply" and error == 0


def channel_of_link(event: LinkBytes) -> str:
    """The channel that a link message requests: `main`, `display 1`."""
    packet = event.packet
    number = getattr(packet, "channel_id", 0)
    return channel_name(getattr(packet, "channel_type", 0)) + (f" {number}" if number else "")


def is_backstage(event: HostEvent) -> bool:
    """Whether a host event is irrelevant to a reader: bookkeeping, unrelated timers."""
    if event.name == "timer_start":
        return event.args.get("ms") != _MIGRATION_TIMER
    if event.name.startswith("return:"):
        result = event.args.get("result")
        return not event.args.get("error") and not (isinstance(result, int) and result < 0)
    return event.name in _BACKSTAGE or event.name.startswith("channel_")


def host(event: HostEvent) -> tuple[str, str]:
    """(label, detail) of a host's event."""
    kind, _, function = event.name.rpartition(":")
    if kind == "call":
        return f"{function}()", _arguments(event.args)
    if kind == "return":
        return f"{function}() returned", _arguments(event.args)
    if event.name == "timer_start":
        return "timer", f"{event.args.get('ms', 0):,} ms"
    if event.name in DEATHS:
        return f"process {event.name}", _arguments(event.args)
    return event.name, _arguments(event.args)


def _arguments(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_argument(name, value)}" for name, value in args.items() if value is not None)


def _argument(name: str, value: Any) -> str:
    if any(word in name.lower() for word in _SECRETS):
        return "(hidden)"
    text = visible(str(value))
    return text if len(text) <= 80 else f"{text[:79]}…"
