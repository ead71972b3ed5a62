# SPDX-License-Identifier: GPL-2.0-only
"""SASL in place of tickets (protocol.h, SPICE_COMMON_CAP_AUTH_SASL; server/red-stream.cpp): the list of
mechanisms, the steps of an exchange, and who is refused. The users are in a file of libsasl2's own."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from dissectors.framing.events import Ending
from dissectors.wire.constants import TICKET_BYTES, ChannelType, CommonCap, LinkErr, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import Fault, changed, lost, put, requirement, result, stuck_after
from fixtures.peer import Connection, LinkRefused
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.sasl import (
    WITH_SASL,
    Say,
    begin,
    exchange,
    expect_step,
    login,
    name_mechanism,
    plain,
    send_data,
)
from fixtures.peer.transport import trusting
from fixtures.system.hosts import Ability, Host, Unsupported
from fixtures.system.sasl_files import write_sasl_files

OK = LinkErr.SPICE_LINK_ERR_OK
INIT = MsgMain.SPICE_MSG_MAIN_INIT
INPUTS, INPUTS_INIT = ChannelType.SPICE_CHANNEL_INPUTS, MsgInputs.SPICE_MSG_INPUTS_INIT
USER, PASSWORD = "alice", "correct horse"
CONFIGURED = ("LOGIN", "PLAIN")
LONGEST_NAME, LONGEST_STEP = 100, 1 << 20  # bytes (server/red-stream.cpp)
SAYS: dict[str, Callable[[str, str], list[Say]]] = {"PLAIN": plain, "LOGIN": login}

pytestmark = pytest.mark.needs(Ability.CALLS)


def started(bench: Bench, *mechanisms: str, secure: bool = True) -> tuple[Host, dict[str, Any]]:
    """A host with one user, and the options of a link to it. Raises Unsupported if the build has no SASL or a
    mechanism is not installed."""
    certificate = bench.certificate()
    source = bench.start(
        sasl=True,
        tls=certificate.settings() if secure else None,
        environment=write_sasl_files(bench.directory, mechanisms or CONFIGURED),
    )
    found = set(source.call("sasl_mechanisms"))
    if missing := set(mechanisms or CONFIGURED) - found:
        lacks = ", ".join(sorted(missing))
        raise Unsupported(f"libsasl2 of this build has no {lacks} (package libsasl2-modules)")
    source.call("sasl_user", user=USER, password=PASSWORD)
    tls: ssl.SSLContext | None = trusting(certificate.ca) if secure else None
    return source, {"secure": secure, "tls": tls, "capabilities": WITH_SASL}


def enters(bench: Bench, host: Host, mechanism: str, says: Sequence[Say], **link: Any) -> Connection:
    """A link after its whole exchange. Raises LinkRefused."""
    connection = bench.connect(host, **link)
    begin(connection)
    exchange(connection, mechanism, says)
    return connection


def refused(bench: Bench, connection: Connection, what: str) -> None:
    """Claims that the server ends a link and begins no session on it."""
    ending = connection.expect_end(deadline=3)
    bench.claim(ending is not Ending.TIMEOUT, f"{what}: the link's end", ending)
    accepted = [p for p in connection.link_stage if p.kind == "result" and not p.packet.error]
    bench.claim(not accepted and not connection.messages, f"{what}: no session", "one that has begun")


def listed(names: bytes, case: str = "") -> Fault:
    """Replaces the list of mechanisms."""
    size = len(names).to_bytes(4, "little")
    return changed(names.decode(), "sasl", size + names, nth=1, case=case)


@requirement(
    "SASL-001",
    fault=(
        put("reply", common_caps=[0b1111]),
        put("reply", common_caps=[0b1001]),
        changed("OK for the refusal", "reply", bytes(4), nth=2),
    ),
)
@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "plain"])
def test_tickets_are_replaced(bench: Bench, secure: bool) -> None:
    """The server offers AUTH_SASL and not AUTH_SPICE; it refuses a client that sends a ticket anyway."""
    source, link = started(bench, secure=secure)
    main = bench.connect(source, **link)
    main.send_mess()
    offered = int(main.expect_reply().common_caps[0])
    ways = offered >> CommonCap.SPICE_COMMON_CAP_AUTH_SPICE & 0b11
    bench.claim(ways == 0b10, "AUTH_SASL in place of AUTH_SPICE", f"capabilities {offered:b}")
    main.send_mechanism()
    main.send_raw(bytes(TICKET_BYTES))
    refused(bench, main, "a ticket")


@requirement("SASL-002", fault=(listed(b",PLAIN,"), listed(b",LOGIN,PLAIN,ANONYMOUS,")))
@pytest.mark.parametrize("mechanisms", [CONFIGURED, ("LOGIN",)], ids=["both", "one"])
def test_list_of_mechanisms(bench: Bench, mechanisms: tuple[str, ...]) -> None:
    """The list contains the configured mechanisms, even if more are installed."""
    source, link = started(bench, *mechanisms)
    names = begin(bench.connect(source, **link))
    bench.claim(sorted(names) == sorted(mechanisms), sorted(mechanisms), sorted(names))


@requirement("SASL-003", fault=listed(b",DIGEST-MD5,PLAIN,", case="with DIGEST-MD5"))
@pytest.mark.parametrize("more", [(), ("DIGEST-MD5",)], ids=["plain text alone", "with DIGEST-MD5"])
def test_list_without_tls(bench: Bench, more: tuple[str, ...]) -> None:
    """The server does not list PLAIN and LOGIN on a plain link; without another mechanism the link ends."""
    source, link = started(bench, *CONFIGURED, *more, secure=False)
    main = bench.connect(source, **link)
    names: list[str] = []
    outcome = "a list"
    try:
        names = begin(main)
    except LinkRefused as failure:
        outcome = "the link's end" if failure.error is None else str(failure)
    except AssertionError:
        outcome = "neither"
    bench.claim(outcome in ("a list", "the link's end"), "a list, or the link's end", outcome)
    shown = sorted(set(names) & set(CONFIGURED))
    bench.claim(not shown, "no mechanism in plain text", shown)


@requirement(
    "SASL-004",
    fault=(
        result(LinkErr.SPICE_LINK_ERR_PERMISSION_DENIED, nth=1, case="PLAIN"),
        lost("sasl", where=lambda p: p.raw == bytes(4) + b"\1" + bytes(4), case="LOGIN"),  # type: ignore[union-attr]
    ),
)
@pytest.mark.parametrize("mechanism", SAYS)
def test_right_user(bench: Bench, mechanism: str) -> None:
    """The right user gets in, on main and on inputs, which has an exchange of its own."""
    source, link = started(bench)
    with bench.owed():
        main = enters(bench, source, mechanism, SAYS[mechanism](USER, PASSWORD), **link)
        session_id = int(main.expect(INIT).packet.session_id)
        link |= {"channel": INPUTS, "connection_id": session_id}
        enters(bench, source, mechanism, SAYS[mechanism](USER, PASSWORD), **link).expect(INPUTS_INIT)


@requirement("SASL-004")
def test_steps_of_login(bench: Bench) -> None:
    """LOGIN requests the user, then the password, and is complete with the third step, not before."""
    source, link = started(bench)
    main = bench.connect(source, **link)
    begin(main)
    with bench.owed():
        steps = exchange(main, "LOGIN", login(USER, PASSWORD))
    asked = [(bool(step.data), step.complete) for step in steps]
    wanted = [(True, False), (True, False), (False, True)]
    bench.claim(asked == wanted, f"(asks, complete): {wanted}", asked)


WRONG = {
    "another password": (USER, PASSWORD + "!"),
    "a part of it": (USER, PASSWORD[:-1]),
    "no password": (USER, ""),
    "another user": ("bob", PASSWORD),
    "no user": ("", PASSWORD),
}


@requirement(
    "SASL-005",
    fault=stuck_after("sasl", nth=2, case="another password-PLAIN"),
)
@pytest.mark.parametrize("mechanism", SAYS)
@pytest.mark.parametrize("who", WRONG.values(), ids=WRONG.keys())
def test_wrong_user(bench: Bench, who: tuple[str, str], mechanism: str) -> None:
    """A wrong user or password, in each mechanism: the link ends, and the right one still gets in."""
    source, link = started(bench)
    main = bench.connect(source, **link)
    begin(main)
    with suppress(LinkRefused):
        exchange(main, mechanism, SAYS[mechanism](*who))
    refused(bench, main, "a wrong user")
    with bench.owed("SASL-004"):
        enters(bench, source, "PLAIN", plain(USER, PASSWORD), **link).expect(INIT)


@requirement("SASL-005")
@pytest.mark.parametrize(
    "data",
    [None, b"", b"\0", b"\0alice", b"\0\0\0", b"\xff" * 100],
    ids=["nothing", "empty", "one NUL", "no password", "three NULs", "100 bytes 0xff"],
)
def test_step_that_is_none(bench: Bench, data: bytes | None) -> None:
    """A message that is no PLAIN message lets no client in."""
    source, link = started(bench)
    main = bench.connect(source, **link)
    begin(main)
    name_mechanism(main, b"PLAIN")
    send_data(main, data)
    with suppress(LinkRefused):
        step = expect_step(main)  # PLAIN may request its message if the client sent none
        bench.claim(not step.complete, "no exchange that is complete", step)
        main.half_close()
    refused(bench, main, "an invalid step")


NAMES = {
    "not listed": (b"ANONYMOUS", None),
    "part of one": (b"PLAI", None),
    "more than one": (b"LOGIN,PLAIN", None),
    "comma": (b",", None),
    "empty": (b"", None),
    "too long": (b"P" * (LONGEST_NAME + 1), None),
    "longest": (b"P" * LONGEST_NAME, None),
    "all ones": (b"PLAIN", 0xFFFFFFFF),
    "with NUL": (b"PLAIN\0", None),
}


@requirement("SASL-006", fault=stuck_after("sasl", nth=1, case="not listed"))
@pytest.mark.parametrize(("name", "length"), NAMES.values(), ids=NAMES.keys())
def test_name_that_was_not_listed(bench: Bench, name: bytes, length: int | None) -> None:
    """A mechanism's name that is not in the list, or too long."""
    source, link = started(bench)
    main = bench.connect(source, **link)
    begin(main)
    name_mechanism(main, name, length)
    if name == b"PLAIN\0":  # the same to a server that reads up to the NUL: it goes on, no client is in
        main.half_close()
    refused(bench, main, "a mechanism that was not listed")
    bench.alive("after a mechanism that was not listed", source)


@requirement("SASL-006")
@pytest.mark.parametrize("length", [LONGEST_STEP + 1, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex)
@pytest.mark.parametrize("at", ["start", "second step"])
def test_step_that_is_too_long(bench: Bench, at: str, length: int) -> None:
    """A client announces more than a mebibyte for a step."""
    source, link = started(bench)
    main = bench.connect(source, **link)
    begin(main)
    name_mechanism(main, b"LOGIN")
    if at != "start":
        send_data(main, None)
        expect_step(main)
    send_data(main, b"x" * 100, length)
    refused(bench, main, "a step that is too long")
    bench.alive("after a step that is too long", source)


@requirement("SASL-007", fault=stuck_after("reply", nth=1))
def test_client_that_cannot_select(bench: Bench) -> None:
    """A client without PROTOCOL_AUTH_SELECTION sends its ticket at once: the server refuses it and ends the
    link."""
    source, link = started(bench)
    selection = CommonCap.SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION
    main = bench.connect(source, **(link | {"capabilities": EVERYTHING.without(selection)}))
    main.send_mess()
    main.expect_reply()
    main.send_raw(bytes(TICKET_BYTES))
    refused(bench, main, "a client that cannot select")
