# SPDX-License-Identifier: GPL-2.0-only
"""Which channels need TLS and which do not, and how each port treats another port's protocol (spice-server.h,
spice_server_set_channel_security; enums.h, SpiceLinkErr)."""

from __future__ import annotations

import ssl

import pytest

from dissectors.channels.inputs import SpiceMsgcInputsKeyDown
from dissectors.framing.events import DISCONNECTED
from dissectors.wire.constants import ChannelType, CommonCap, LinkErr, MsgBase, MsgcMain, MsgInputs, MsgMain
from fixtures.bench import Bench
from fixtures.bench.planting import (
    accepted,
    added,
    changed,
    lost,
    put,
    refused,
    reply,
    requirement,
    stuck_after,
)
from fixtures.peer.client_capabilities import EVERYTHING
from fixtures.peer.transport import trusting
from fixtures.system.hosts import Ability, Host

OK = LinkErr.SPICE_LINK_ERR_OK
SECURED, UNSECURED = LinkErr.SPICE_LINK_ERR_NEED_SECURED, LinkErr.SPICE_LINK_ERR_NEED_UNSECURED
#: SPICE_CHANNEL_SECURITY_* (spice-server.h).
NONE, SSL = 1, 2
CHANNELS = {
    "main": ChannelType.SPICE_CHANNEL_MAIN,
    "display": ChannelType.SPICE_CHANNEL_DISPLAY,
    "inputs": ChannelType.SPICE_CHANNEL_INPUTS,
    "cursor": ChannelType.SPICE_CHANNEL_CURSOR,
    "playback": ChannelType.SPICE_CHANNEL_PLAYBACK,
    "record": ChannelType.SPICE_CHANNEL_RECORD,
    "smartcard": ChannelType.SPICE_CHANNEL_SMARTCARD,
    "usbredir": ChannelType.SPICE_CHANNEL_USBREDIR,
}
INIT, NOTIFY = MsgMain.SPICE_MSG_MAIN_INIT, MsgBase.SPICE_MSG_NOTIFY
INPUTS = ChannelType.SPICE_CHANNEL_INPUTS
INPUTS_INIT = MsgInputs.SPICE_MSG_INPUTS_INIT
#: How the notice of a plain keyboard is given: a warning, highly visible, of the general kind.
NOTICE = {"severity": 1, "visibility": 2, "what": 0}
NOTIFY_BYTES = 24  # of NOTIFY before its text (spice.proto, BaseChannel, notify)
MACHINE = ("keyboard", "mouse", "display", "playback", "record", "smartcard", "usbredir")
#: The first bytes of another protocol: a TLS record with a ClientHello, a web browser's request, random
#: bytes.
FOREIGN = {
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "HTTP": b"POST / HTTP/1.1\r\nHost: here\r\n\r\n",
    "text": b"SSH-2.0-OpenSSH_9.2\r\n" + b"\0" * 32,
}

pytestmark = pytest.mark.needs(Ability.CALLS, Ability.DEVICES)


def answers(bench: Bench, host: Host, channel: str, tls: ssl.SSLContext | None) -> int | None:
    """The error in the reply to a link to this channel, over TLS or plain; None if the server closes
    instead."""
    connection = bench.connect(
        host, secure=tls is not None, tls=tls, channel=CHANNELS[channel], connection_id=77
    )
    connection.send_mess(**({"connection_id": 0} if channel == "main" else {}))
    bench.until(lambda: connection.link_stage or connection.ending, "the link reply", proves="LINK-048")
    error = int(connection.reply.error) if connection.link_stage else None
    connection.close()
    return error


def refuses(answer: int | None) -> bool:
    """Whether the server refused a link because of the channel's security."""
    return answer in (SECURED, UNSECURED)


@requirement("LINK-018", fault=reply(UNSECURED, where=refused, channel=3, case="inputs"))
@requirement("LINK-047", fault=reply(SECURED, where=refused, case="inputs"))
@requirement("LINK-048", fault=(reply(UNSECURED, where=accepted, case="inputs"),))
@pytest.mark.parametrize("channel", CHANNELS)
def test_security_of_each_channel(bench: Bench, channel: str) -> None:
    """A channel that needs TLS, one that needs plain links and one that accepts both, each linked both ways;
    the setting of one does not change the others."""
    certificate = bench.certificate()
    tls = trusting(certificate.ca)
    spare = () if channel == "smartcard" else ("smartcard",)
    source = bench.start(devices=MACHINE, spare=spare, tls=certificate.settings())
    other = "inputs" if channel != "inputs" else "main"

    def said(of: str = channel) -> tuple[int | None, int | None]:
        return answers(bench, source, of, None), answers(bench, source, of, tls)

    source.call("set_channel_security", channel=channel, security=SSL)
    plain, over_tls = said()
    bench.claim(plain == SECURED, SECURED.name, plain, proves="LINK-018")
    bench.claim(not refuses(over_tls), "TLS is taken", over_tls, proves="LINK-048")
    source.call("set_channel_security", channel=channel, security=NONE)
    plain, over_tls = said()
    bench.claim(over_tls == UNSECURED, UNSECURED.name, over_tls, proves="LINK-047")
    bench.claim(not refuses(plain), "a plain link is taken", plain, proves="LINK-048")
    beside = said(other)
    bench.claim(beside == (OK, OK), f"{other} takes both", beside, proves="LINK-048")
    source.call("set_channel_security", channel=channel, security=NONE | SSL)
    both = said()
    bench.claim(not any(map(refuses, both)), "both are taken", both, proves="LINK-048")


def all_but_inputs(bench: Bench, default: int) -> dict[str, tuple[int | None, int | None]]:
    """Each channel's answers to a plain link and to one over TLS; inputs accepts both, and `default` is the
    setting of all other channels."""
    certificate = bench.certificate()
    tls = trusting(certificate.ca)
    source = bench.start(devices=MACHINE, spare=("smartcard",), tls=certificate.settings())
    source.call("set_channel_security", channel="inputs", security=NONE | SSL)
    source.call("set_channel_security", channel=None, security=default)
    said = {of: (answers(bench, source, of, None), answers(bench, source, of, tls)) for of in CHANNELS}
    inputs = said.pop("inputs")
    bench.claim(not any(map(refuses, inputs)), "inputs takes both", inputs, proves="LINK-048")
    return said


@requirement("LINK-018", "LINK-048")
def test_all_channels_but_one_need_tls(bench: Bench) -> None:
    """A setting for all channels holds for each channel that has no setting of its own."""
    for channel, (plain, over_tls) in all_but_inputs(bench, SSL).items():
        bench.claim(plain == SECURED, f"{SECURED.name} on {channel}", plain, proves="LINK-018")
        bench.claim(not refuses(over_tls), f"TLS is taken on {channel}", over_tls, proves="LINK-048")


@requirement("LINK-047", "LINK-048")
def test_all_channels_but_one_are_to_be_plain(bench: Bench) -> None:
    """A setting for all channels that allows plain links alone holds for each channel without a setting of
    its own."""
    for channel, (plain, over_tls) in all_but_inputs(bench, NONE).items():
        bench.claim(over_tls == UNSECURED, f"{UNSECURED.name} on {channel}", over_tls, proves="LINK-047")
        bench.claim(not refuses(plain), f"a plain link is taken on {channel}", plain, proves="LINK-048")


@requirement("ROBUST-063", fault=stuck_after("reply", where=refused, case="TLS-False"))
@pytest.mark.parametrize(
    ("protocol", "secure"),
    [("TLS", False), ("HTTP", False), ("text", False), ("SPICE", True), ("HTTP", True), ("text", True)],
)
def test_protocol_of_another_port(bench: Bench, protocol: str, secure: bool) -> None:
    """A client speaks TLS at the plain port, SPICE at the TLS port, or another protocol at either: the
    connection ends without a session, and the next client is served."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings())
    stranger = bench.connect(source, secure=secure)
    if protocol == "SPICE":
        stranger.send_mess()
    else:
        stranger.send_raw(FOREIGN[protocol])
    ending = stranger.expect_end(deadline=2)
    bench.claim(ending in DISCONNECTED, "the connection's end", ending)
    bench.claim(not stranger.messages, "no session", len(stranger.messages))
    with bench.owed():
        bench.link(source).expect(INIT)


@requirement("ROBUST-064", fault=stuck_after("reply"))
@pytest.mark.parametrize("sent", [0, 1, 5, 60], ids=lambda count: f"{count} bytes")
def test_stalled_tls_handshake(bench: Bench, sent: int) -> None:
    """Connections to the TLS port that send nothing, or only the beginning of a ClientHello, do not keep
    other clients out."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings())
    stalled = [bench.connect(source, secure=True) for _ in range(3)]
    for connection in stalled:
        connection.send_raw(FOREIGN["TLS"][:sent])
    bench.settle()
    with bench.owed():
        bench.link(source).expect(INIT)
        bench.client(source, channels=(), tls=trusting(certificate.ca))
    for connection in stalled:
        connection.close()


def one_longer(body: bytes) -> bytes:
    """A notice whose length includes the NUL after its text."""
    length = int.from_bytes(body[NOTIFY_BYTES - 4 : NOTIFY_BYTES], "little") + 1
    return body[: NOTIFY_BYTES - 4] + length.to_bytes(4, "little") + body[NOTIFY_BYTES:] + b"\0"


@requirement(
    "MAIN-049",
    fault=(
        lost(NOTIFY, case="plain"),
        added(INIT, NOTIFY, b"\0" * 8 + b"\0\0\0\0" * 3 + b"\1\0\0\0x\0", case="TLS"),
        put(NOTIFY, severity=0, case="plain"),
        put(NOTIFY, visibility=1, case="plain"),
        changed("another kind", NOTIFY, lambda b: b[:16] + b"\1" + b[17:], case="plain"),
    ),
)
@requirement("CHAN-002", fault=changed("a length more", NOTIFY, one_longer, case="plain"))
@pytest.mark.parametrize("how", ["plain", "TLS"])
def test_notice_of_a_plain_keyboard(bench: Bench, how: str) -> None:
    """The server warns the client once if its keyboard is not encrypted, and only then."""
    certificate = bench.certificate()
    source = bench.start(tls=certificate.settings())
    client = bench.client(source, tls=trusting(certificate.ca) if how == "TLS" else None)
    bench.settle()
    said = [m.packet for m in client.main.got(NOTIFY)]
    warned = [(*(int(getattr(p, n)) for n in NOTICE), bytes(p.message).strip(b"\0")) for p in said]
    wanted = [(*NOTICE.values(), b"keyboard channel is insecure")] if how == "plain" else []
    bench.claim(warned == wanted, wanted, warned, proves="MAIN-049")
    for notice in client.main.got(NOTIFY):
        length, text = int(notice.packet.message_len), notice.body[NOTIFY_BYTES:]
        fine = text == text[:length] + b"\0" and b"\0" not in text[:length]
        bench.claim(fine, f"a text of {len(text) - 1} bytes and a NUL after it", length, proves="CHAN-002")


@requirement(
    "LINK-049", fault=put("reply", common_caps=[0b0011], channel=INPUTS, case="mini main-mini inputs")
)
@pytest.mark.parametrize("inputs_mini", [False, True], ids=["full inputs", "mini inputs"])
@pytest.mark.parametrize("main_mini", [False, True], ids=["full main", "mini main"])
def test_header_of_each_channel(bench: Bench, main_mini: bool, inputs_mini: bool) -> None:
    """Each channel uses the header that its own link agreed on, whatever main uses, in both directions."""
    source = bench.start()
    capable = {True: EVERYTHING, False: EVERYTHING.without(CommonCap.SPICE_COMMON_CAP_MINI_HEADER)}
    main = bench.link(source, capabilities=capable[main_mini])
    init = bench.expect(main, INIT, proves="MAIN-001")
    inputs = bench.link(
        source,
        channel=INPUTS,
        connection_id=int(init.packet.session_id),
        capabilities=capable[inputs_mini],
    )
    first = bench.expect(inputs, INPUTS_INIT)
    seen = (init.serial is None, first.serial is None)
    bench.claim(seen == (main_mini, inputs_mini), f"mini headers: {(main_mini, inputs_mini)}", seen)
    inputs.send(SpiceMsgcInputsKeyDown(code=0x1E))
    bench.wait(source, "keyboard_scan")
    main.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    bench.expect(main, MsgMain.SPICE_MSG_MAIN_CHANNELS_LIST)
