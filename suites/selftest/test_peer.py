# SPDX-License-Identifier: GPL-2.0-only
"""The client peer on one connection: links, headers, automatic answers, endings; the pump."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dissectors.constants import (
    ChannelType,
    CommonCap,
    InputsCap,
    LinkErr,
    MainCap,
    MsgBase,
    MsgcBase,
    MsgcMain,
    MsgMain,
    Side,
)
from dissectors.events import Ending, Endpoint, Message
from dissectors.fields import cap_words
from dissectors.header import encode
from dissectors.link import SpiceLinkReply
from fixtures.certificates import Authority
from fixtures.hosts import Settings
from fixtures.library import LibraryHost, LibraryLauncher
from fixtures.peer import Capabilities, Client, Connection, Deadline, LinkRefused, PeerFailure, Pump
from fixtures.peer.pump import Steps
from fixtures.peer.transport import trusting

MINI = CommonCap.SPICE_COMMON_CAP_MINI_HEADER
KEY = rsa.generate_private_key(65537, 1024).public_key()


class FakeServer:
    """A server that the test plays by hand, in the same thread."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(*self.listener.getsockname()[:2])
        self.peer: socket.socket | None = None

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        if self.peer:
            self.peer.close()

    @property
    def sock(self) -> socket.socket:
        """The connection, accepted when it is first used."""
        if self.peer is None:
            self.peer, _ = self.listener.accept()
            self.peer.settimeout(5)
            self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.peer

    def say(self, *types_and_bodies: tuple[int, bytes]) -> None:
        self.sock.sendall(b"".join(encode(kind, body, serial=None) for kind, body in types_and_bodies))

    def hear(self, size: int) -> bytes:
        heard = b""
        while len(heard) < size and (part := self.sock.recv(size - len(heard))):
            heard += part
        return heard

    def accept_link(self, connection: Connection, *caps: CommonCap) -> None:
        """Plays the link stage, with `caps` on the server's side."""
        connection.send_mess()
        header = self.hear(16)
        self.hear(struct.unpack("<I", header[12:])[0])
        key = KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.sock.sendall(bytes(SpiceLinkReply(pub_key=key, common_caps=cap_words(caps))))
        connection.expect_reply()
        connection.send_ticket()
        self.hear(128)
        self.sock.sendall(b"\0\0\0\0")
        connection.expect_result()


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def pump() -> Iterator[Pump]:
    with Pump() as pump:
        yield pump


@pytest.fixture(scope="module")
def launcher() -> Iterator[LibraryLauncher]:
    with LibraryLauncher() as launcher:
        yield launcher


@pytest.fixture
def host(launcher: LibraryLauncher, pump: Pump) -> Iterator[LibraryHost]:
    host = launcher.start("source")
    pump.add_host(host)
    yield host
    host.stop()


def at(host: LibraryHost) -> Endpoint:
    assert host.port
    return Endpoint(host.address, host.port)


# ---- the link stage


def test_link_in_steps(host: LibraryHost, pump: Pump) -> None:
    connection = Connection(pump, at(host))
    connection.send_mess()
    assert connection.expect_reply().error == LinkErr.SPICE_LINK_ERR_OK
    connection.send_mechanism()
    connection.send_ticket(b"anything")
    assert connection.expect_result().error == LinkErr.SPICE_LINK_ERR_OK
    assert connection.expect(MsgMain.SPICE_MSG_MAIN_INIT).packet.session_id != 0
    assert connection.host == "source"
    assert [part.kind for part in connection.link_stage] == ["reply", "result"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"magic": b"QDER"}, LinkErr.SPICE_LINK_ERR_INVALID_MAGIC),
        ({"major_version": 1}, LinkErr.SPICE_LINK_ERR_VERSION_MISMATCH),
        ({"size": 17}, LinkErr.SPICE_LINK_ERR_INVALID_DATA),
        ({"caps_offset": 5}, LinkErr.SPICE_LINK_ERR_INVALID_DATA),
        ({"num_common_caps": 1025}, LinkErr.SPICE_LINK_ERR_INVALID_DATA),
    ],
)
def test_any_link_message(host: LibraryHost, pump: Pump, changes: dict[str, object], error: LinkErr) -> None:
    connection = Connection(pump, at(host))
    connection.send_mess(**changes)
    assert connection.expect_reply().error == error
    assert connection.expect_end() in (Ending.CLOSED, Ending.RESET)
    assert connection.closed
    assert connection.closed.by is Side.SERVER


def test_refusals_name_stage_and_error(host: LibraryHost, pump: Pump) -> None:
    other = Connection(pump, at(host), channel=ChannelType.SPICE_CHANNEL_INPUTS, connection_id=0x1234)
    with pytest.raises(LinkRefused, match="result: SPICE_LINK_ERR_BAD_CONNECTION_ID"):
        other.link()
    absent = Connection(pump, at(host), channel=ChannelType.SPICE_CHANNEL_SMARTCARD)
    with pytest.raises(LinkRefused, match="reply: closed") as caught:
        absent.link()
    assert caught.value.ending is Ending.CLOSED


def test_ticket(launcher: LibraryLauncher, pump: Pump) -> None:
    host = launcher.start("source", Settings(ticket="s3cret"))
    pump.add_host(host)
    Connection(pump, at(host), password="s3cret").link()
    with pytest.raises(LinkRefused, match="result: SPICE_LINK_ERR_PERMISSION_DENIED"):
        Connection(pump, at(host), password="wrong").link()
    bare = Connection(pump, at(host))
    bare.send_mess()
    bare.expect_reply()
    bare.send_mechanism()
    bare.send_raw(b"\xa5" * 128)
    bare.expect_end()
    host.stop()


def test_tls(launcher: LibraryLauncher, pump: Pump, tmp_path: Path) -> None:
    certificate = Authority(tmp_path).server()
    host = launcher.start("source", Settings(tls=certificate.settings()))
    pump.add_host(host)
    client = Client(pump, host, tls=trusting(certificate.ca))
    client.open()
    assert all(connection.opened.tls for connection in client.current)
    assert client.main.host == "source"
    stranger = Authority(tmp_path / "other").server()
    with pytest.raises(PeerFailure, match=r"TLS.*CERTIFICATE_VERIFY_FAILED"):
        Client(pump, host, tls=trusting(stranger.ca)).open()
    host.stop()


def test_no_server(pump: Pump) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can listen there meanwhile
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(PeerFailure, match=r"no connection to 127\.0\.0\.1"):
            Connection(pump, Endpoint(*taken.getsockname()[:2]))


def test_server_that_is_gone_at_once() -> None:
    """A reset right after the accept: the socket is connected to nobody any more."""
    made: list[socket.socket] = []

    def dial(address: tuple[str, int], timeout: float) -> socket.socket:
        made.append(socket.socket())
        return made[0]

    with (
        Pump(dial=dial) as pump,
        pytest.raises(PeerFailure, match=r"no connection to 127\.0\.0\.1.*Errno 107"),
    ):
        Connection(pump, Endpoint("127.0.0.1", 1))
    assert made[0].fileno() < 0


def test_capabilities() -> None:
    fewer = Capabilities().without(MINI, MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE)
    assert fewer.fields(ChannelType.SPICE_CHANNEL_MAIN) == {"common_caps": [0b0011], "channel_caps": [0b1110]}
    # the same number in another enumeration is another capability
    kept = fewer.channel[ChannelType.SPICE_CHANNEL_INPUTS]
    assert kept == {InputsCap.SPICE_INPUTS_CAP_KEY_SCANCODE}
    assert fewer.fields(ChannelType.SPICE_CHANNEL_CURSOR)["channel_caps"] == []


# ---- messages


@pytest.mark.parametrize("mini", [True, False])
def test_headers(host: LibraryHost, pump: Pump, mini: bool) -> None:
    caps = Capabilities() if mini else Capabilities().without(MINI)
    client = Client(pump, host, capabilities=caps)
    client.open()
    assert client.main.framer_mini is mini
    serials = [message.serial for message in client.main.sent]
    assert serials == ([None] * len(serials) if mini else list(range(1, len(serials) + 1)))
    assert client.current.channel(ChannelType.SPICE_CHANNEL_INPUTS)


def test_forced_header(fake: FakeServer, pump: Pump) -> None:
    connection = Connection(pump, fake.endpoint, mini=False)
    fake.accept_link(connection, MINI)
    assert connection.framer_mini
    connection.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)
    assert fake.hear(18) == struct.pack("<QHII", 1, 104, 0, 0)


def test_automatic_answers(fake: FakeServer, pump: Pump) -> None:
    connection = Connection(pump, fake.endpoint)
    fake.accept_link(connection, MINI)
    set_ack = struct.pack("<II", 7, 3)
    ping = struct.pack("<IQ", 9, 1 << 40)
    fake.say((MsgBase.SPICE_MSG_SET_ACK, set_ack), *[(MsgBase.SPICE_MSG_PING, ping + b"padding")] * 6)
    pump.until(lambda: len(connection.messages) == 7)
    sync, pong, ack = (
        MsgcBase.SPICE_MSGC_ACK_SYNC,
        MsgcBase.SPICE_MSGC_PONG,
        MsgcBase.SPICE_MSGC_ACK,
    )
    assert [m.type for m in connection.sent] == [sync, pong, pong, ack, pong, pong, pong, ack, pong]
    assert connection.sent[0].body == set_ack[:4]
    assert connection.sent[1].body == ping
    connection.answers.none()
    fake.say((MsgBase.SPICE_MSG_PING, ping), (MsgBase.SPICE_MSG_SET_ACK, set_ack))
    connection.expect(MsgBase.SPICE_MSG_SET_ACK)  # the first one
    connection.expect(MsgBase.SPICE_MSG_SET_ACK)
    assert len(connection.sent) == 9


def test_what_arrived_before_a_message_is_on_the_tape_before_it(fake: FakeServer, pump: Pump) -> None:
    connection = Connection(pump, fake.endpoint)
    other = Connection(pump, fake.endpoint)
    fake.accept_link(connection, MINI)
    fake.say((MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL, b""))
    other.send_raw(b"REDQ")  # on another connection, and the pump has not turned
    message = next(e for e in pump.tape.events() if isinstance(e, Message))
    assert message.type == MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL
    assert message.time < pump.tape.chunks[-1].time


def test_a_server_that_does_not_read(fake: FakeServer, pump: Pump) -> None:
    connection = Connection(pump, fake.endpoint)
    fake.accept_link(connection, MINI)
    body = b"x" * (16 << 20)
    connection.send(MsgcMain.SPICE_MSGC_MAIN_AGENT_DATA, body)
    assert connection.unsent
    assert not connection.sent
    fake.sock.setblocking(False)
    heard = 0
    while heard < len(body) + 6:
        with suppress(BlockingIOError):
            heard += len(fake.sock.recv(1 << 20))
        pump.turn()
    assert connection.sent[0].body == body
    assert sum(len(c.data) for c in pump.tape.chunks if c.data[:1] == b"x") <= len(body)


# ---- endings


@pytest.mark.parametrize("how", [Ending.CLOSED, Ending.RESET])
def test_the_server_ends_it(fake: FakeServer, pump: Pump, how: Ending) -> None:
    connection = Connection(pump, fake.endpoint)
    fake.accept_link(connection, MINI)
    if how is Ending.RESET:
        fake.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    fake.sock.close()
    assert connection.expect_end() is how
    with pytest.raises(PeerFailure, match="ended before SPICE_MSG_MAIN_INIT"):
        connection.expect(MsgMain.SPICE_MSG_MAIN_INIT)
    connection.send(MsgcMain.SPICE_MSGC_MAIN_ATTACH_CHANNELS)  # does nothing
    assert not connection.sent


def test_the_client_ends_it(fake: FakeServer, pump: Pump) -> None:
    connection = Connection(pump, fake.endpoint)
    fake.accept_link(connection, MINI)
    assert connection.expect_end(0.01) is Ending.TIMEOUT
    assert connection.ending is None
    connection.half_close()
    assert fake.hear(1) == b""
    fake.say((MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL, b""))
    assert connection.expect(MsgMain.SPICE_MSG_MAIN_MIGRATE_CANCEL)
    connection.close()
    assert connection.ending is Ending.CLOSED


def test_the_client_resets_it(fake: FakeServer, pump: Pump) -> None:
    connection = Connection(pump, fake.endpoint)
    fake.accept_link(connection, MINI)
    connection.reset()
    connection.close()
    assert connection.closed
    assert (connection.closed.how, connection.closed.by) == (Ending.RESET, Side.CLIENT)
    with pytest.raises(ConnectionResetError):
        fake.sock.recv(1)


def test_the_process_dies(host: LibraryHost, pump: Pump) -> None:
    client = Client(pump, host)
    client.open()
    os.kill(host.pid, signal.SIGKILL)
    pump.until(lambda: all(connection.ending for connection in client.current))
    pump.until(lambda: pump.tape.death("source"), what="news of the death")
    assert {connection.ending for connection in client.current} == {Ending.DIED}


# ---- the pump


def test_deadline_says_what_was_waited_for_and_what_was_seen(host: LibraryHost, pump: Pump) -> None:
    client = Client(pump, host, channels=())
    client.open()
    with pytest.raises(Deadline, match=r"waited 0.02 s for a miracle; last seen: .*#1 "):
        pump.until(lambda: False, 0.02, what="a miracle")
    with pytest.raises(Deadline, match=r"for SPICE_MSG_MAIN_MIGRATE_END from <main of source: open>"):
        client.main.expect(MsgMain.SPICE_MSG_MAIN_MIGRATE_END, deadline=0.02)


def test_duties_of_the_pump(pump: Pump) -> None:
    seen: list[str] = []

    def steps() -> Steps[None]:
        late = pump.alarm(0.01)
        yield late
        seen.append("late")
        yield lambda: "go on" in seen
        raise PeerFailure("told so")

    task = pump.spawn(steps(), "a duty")
    pump.until(lambda: seen)
    seen.append("go on")
    pump.turn()
    assert task.done
    assert str(task.error) == "told so"
    with pytest.raises(PeerFailure, match="told so"):
        pump.run(steps(), 1.0, "a duty")
