# SPDX-License-Identifier: GPL-2.0-only
"""The relay between two scripted peers: every action, both headers, both directions, how things end."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from dissectors.constants import ChannelType, CommonCap, MsgBase, MsgcBase, MsgcMain, MsgMain, Side
from dissectors.events import Closed, Ending, Endpoint, Event, LinkBytes, Message, Opened
from dissectors.framing import FULL, MINI, Framer
from dissectors.link import SpiceLinkMess, SpiceLinkReply
from fixtures.hosts import HarnessError
from fixtures.relay import (
    Alter,
    Delay,
    Drop,
    Duplicate,
    End,
    HoldUntil,
    Insert,
    Lose,
    Match,
    Relay,
    Replace,
    Rule,
    Set,
    Swap,
    Throttle,
)
from fixtures.relay.rules import Item, Piece, Scene

_PATIENCE = 5.0  # seconds; only a failing test waits as long
_MINI_CAPS = [1 << CommonCap.SPICE_COMMON_CAP_AUTH_SPICE | 1 << CommonCap.SPICE_COMMON_CAP_MINI_HEADER]
_FULL_CAPS = [1 << CommonCap.SPICE_COMMON_CAP_AUTH_SPICE]
_TICKET = bytes(128)
_OK = bytes(4)


class Peer:
    """One end, and everything that reached it, framed."""

    def __init__(self, sock: socket.socket, framer: Framer, sender: Side) -> None:
        sock.settimeout(_PATIENCE)
        self.socket, self.framer, self.sender = sock, framer, sender
        self.got: list[LinkBytes | Message] = []
        self.serial = 0

    def send(self, raw: bytes) -> None:
        self.framer.feed(self.sender, raw, 0.0)
        self.socket.sendall(raw)

    def say(self, message_type: int, body: bytes = b"") -> None:
        self.serial += 1
        if self.framer.mini:
            self.send(MINI.pack(message_type, len(body)) + body)
        else:
            self.send(FULL.pack(self.serial, message_type, len(body), 0) + body)

    def until(self, count: int) -> list[LinkBytes | Message]:
        """The packets that came, at least so many."""
        while len(self.got) < count:
            data = self.socket.recv(65536)
            assert data, f"the connection ended after {self.got}"
            other = Side.SERVER if self.sender is Side.CLIENT else Side.CLIENT
            self.got += [e for e in self.framer.feed(other, data, 0.0) if isinstance(e, LinkBytes | Message)]
        return self.got

    def messages(self, count: int) -> list[tuple[int, bytes]]:
        """(type, body) of the first so many messages."""
        while len(found := [m for m in self.got if isinstance(m, Message)]) < count:
            self.until(len(self.got) + 1)
        return [(m.type, m.body) for m in found]

    def serials(self) -> list[int | None]:
        return [m.serial for m in self.got if isinstance(m, Message)]


class Bench:
    """A relay with one front, and connections through it whose two ends the test holds."""

    def __init__(self, relay: Relay, label: str = "source") -> None:
        self.relay = relay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(_PATIENCE)
        self.endpoint = Endpoint(*self.listener.getsockname())
        self.front = relay.front(label, self.endpoint)
        self.sockets: list[socket.socket] = [self.listener]

    def connect(self) -> tuple[Peer, Peer]:
        assert self.front.port
        client = socket.create_connection((self.front.address, self.front.port), _PATIENCE)
        server, _ = self.listener.accept()
        self.sockets += [client, server]
        return Peer(client, Framer(1), Side.CLIENT), Peer(server, Framer(1), Side.SERVER)

    def link(self, channel: int = ChannelType.SPICE_CHANNEL_MAIN, *, mini: bool = True) -> tuple[Peer, Peer]:
        client, server = self.connect()
        caps = _MINI_CAPS if mini else _FULL_CAPS
        client.send(bytes(SpiceLinkMess(connection_id=0x89ABCDEF, channel_type=channel, common_caps=caps)))
        server.until(1)
        server.send(bytes(SpiceLinkReply(common_caps=caps)))
        client.until(1)
        client.send(_TICKET)
        server.until(2)
        server.send(_OK)
        client.until(2)
        return client, server

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@contextmanager
def bench(*rules: Rule) -> Iterator[Bench]:
    with Relay(rules) as relay:
        place = Bench(relay)
        try:
            yield place
        finally:
            place.close()


def events_until(relay: Relay, enough: Callable[[list[Event]], bool]) -> list[Event]:
    """What the relay saw, until it is enough."""
    seen: list[Event] = []
    end = monotonic() + _PATIENCE
    while not enough(seen):
        assert select.select([relay], [], [], max(0, end - monotonic()))[0], f"only {seen}"
        seen += relay.read_events()
    return seen


PING, PONG = MsgBase.SPICE_MSG_PING, MsgcBase.SPICE_MSGC_PONG
NOTIFY, SET_ACK = MsgBase.SPICE_MSG_NOTIFY, MsgBase.SPICE_MSG_SET_ACK
END = MsgMain.SPICE_MSG_MAIN_MIGRATE_END
THREE: list[tuple[int, bytes]] = [(PING, b"one"), (NOTIFY, b"two!"), (SET_ACK, b"three")]


def _as_migrate_end(piece: Piece) -> Piece:
    assert isinstance(piece, Message)
    return replace(piece, type=int(END))


CASES: list[tuple[str, Sequence[Rule], list[tuple[int, bytes]]]] = [
    ("nothing", [], THREE),
    ("drop", [Rule(Match("SPICE_MSG_NOTIFY"), Drop())], [THREE[0], THREE[2]]),
    ("duplicate", [Rule(Match("SPICE_MSG_PING"), Duplicate(2))], [THREE[0]] * 3 + THREE[1:]),
    ("swap", [Rule(Match("SPICE_MSG_PING"), Swap())], [THREE[1], THREE[0], THREE[2]]),
    ("delay", [Rule(Match("SPICE_MSG_PING"), Delay(5))], THREE),
    ("overtake", [Rule(Match("SPICE_MSG_PING"), Delay(20, overtaken=True))], [*THREE[1:], THREE[0]]),
    ("lose", [Rule(Match("SPICE_MSG_*"), Lose(1.0, again_ms=2))], THREE),
    ("throttle", [Rule(Match("*"), Throttle(100_000))], THREE),
    ("replace", [Rule(Match("SPICE_MSG_NOTIFY"), Replace(b"else"))], [THREE[0], (NOTIFY, b"else"), THREE[2]]),
    (
        "replace with another size",
        [Rule(Match("SPICE_MSG_NOTIFY"), Replace(lambda old: old + b"longer"))],
        [THREE[0], (NOTIFY, b"two!longer"), THREE[2]],
    ),
    (
        "another type",
        [Rule(Match("SPICE_MSG_NOTIFY"), Alter(_as_migrate_end))],
        [THREE[0], (END, b"two!"), THREE[2]],
    ),
    (
        "insert before",
        [Rule(Match("SPICE_MSG_SET_ACK"), Insert((END, b""), before=True))],
        [*THREE[:2], (END, b""), THREE[2]],
    ),
    ("insert after", [Rule(Match("SPICE_MSG_SET_ACK"), Insert((END, b"")))], [*THREE, (END, b"")]),
    ("the second only", [Rule(Match("SPICE_MSG_*", nth=2), Drop())], [THREE[0], THREE[2]]),
    ("another host", [Rule(Match("SPICE_MSG_*", host="target"), Drop())], THREE),
    ("another channel", [Rule(Match("SPICE_MSG_*", channel=2), Drop())], THREE),
    (
        "where",
        [Rule(Match("*", where=lambda p: isinstance(p, Message) and p.body == b"one"), Drop())],
        THREE[1:],
    ),
    (
        "two rules on one message",
        [Rule(Match("SPICE_MSG_PING"), Replace(b"uno")), Rule(Match("SPICE_MSG_PING"), Duplicate())],
        [(PING, b"uno")] * 2 + THREE[1:],
    ),
]


@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
@pytest.mark.parametrize(("name", "rules", "arriving"), CASES, ids=[case[0] for case in CASES])
def test_what_arrives(
    name: str, rules: Sequence[Rule], arriving: list[tuple[int, bytes]], mini: bool
) -> None:
    with bench(*rules) as place:
        client, server = place.link(mini=mini)
        for message_type, body in THREE:
            server.say(message_type, body)
        assert client.messages(len(arriving)) == arriving
        client.say(PONG, b"back")
        assert server.messages(1) == [(PONG, b"back")]
        if not mini and name not in ("swap", "overtake"):
            assert client.serials() == list(range(1, len(arriving) + 1))


def test_what_is_observed_is_what_the_client_saw() -> None:
    with bench(Rule(Match("SPICE_MSG_PING"), Replace(b"other"))) as place:
        client, server = place.link()
        server.say(PING, b"one")
        client.messages(1)
        seen = events_until(place.relay, lambda es: any(isinstance(e, Message) for e in es))
        assert isinstance(seen[0], Opened)
        assert seen[0].server.port == place.front.port
        assert [e.kind for e in seen if isinstance(e, LinkBytes)] == ["mess", "reply", "ticket", "result"]
        assert isinstance(seen[-1], Message)
        assert seen[-1].body == b"other"


def test_a_rewritten_connection_id_is_hidden_from_the_server_only() -> None:
    with bench(Rule(Match("mess"), Set(connection_id=7))) as place:
        _, server = place.link()
        assert server.got[0].packet.connection_id == 7
        seen = events_until(place.relay, lambda es: any(isinstance(e, LinkBytes) for e in es))
        mess = next(e for e in seen if isinstance(e, LinkBytes))
        assert mess.packet.connection_id == 0x89ABCDEF


def test_a_capability_taken_from_the_reply_makes_one_side_speak_full_headers() -> None:
    with bench(Rule(Match("reply"), Set(common_caps=_FULL_CAPS))) as place:
        client, server = place.link()
        assert (client.framer.mini, server.framer.mini) == (False, True)
        server.say(PING, b"one")
        server.say(NOTIFY, b"two")
        assert client.messages(2) == [(PING, b"one"), (NOTIFY, b"two")]
        assert client.serials() == [1, 2]
        client.say(PONG, b"one")
        assert server.messages(1) == [(PONG, b"one")]


def test_a_link_result_of_another_value() -> None:
    with bench(Rule(Match("result"), Replace(_OK)), Rule(Match("result"), Insert((PING, b"early")))) as place:
        client, server = place.connect()
        client.send(bytes(SpiceLinkMess(common_caps=_MINI_CAPS)))
        server.until(1)
        server.send(bytes(SpiceLinkReply(common_caps=_MINI_CAPS)))
        client.until(1)
        client.send(_TICKET)
        server.until(2)
        server.send(struct.pack("<I", 8))
        assert client.messages(1) == [(PING, b"early")]
        assert client.got[1].packet.error == 0


def test_a_message_waits_for_another_on_another_connection() -> None:
    until = Match("SPICE_MSGC_MAIN_MIGRATE_END", host="target")
    with Relay([Rule(Match("SPICE_MSGC_MAIN_MIGRATE_CONNECTED"), HoldUntil(until))]) as relay:
        source, target = Bench(relay), Bench(relay, "target")
        near, far = source.link()
        near.say(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED)
        near.say(PONG, b"behind")
        other, other_far = target.link()
        other.say(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END)
        assert other_far.messages(1) == [(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_END, b"")]
        assert far.messages(2) == [(MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECTED, b""), (PONG, b"behind")]
        source.close()
        target.close()


def test_a_message_waits_for_a_word_of_the_test_and_others_overtake_it() -> None:
    with bench(Rule(Match("SPICE_MSG_PING"), HoldUntil("go", overtaken=True))) as place:
        client, server = place.link()
        for message_type, body in THREE:
            server.say(message_type, body)
        assert client.messages(2) == THREE[1:]
        place.relay.release("go")
        assert client.messages(3) == [*THREE[1:], THREE[0]]


def test_a_follower_rewrites_the_destination() -> None:
    with Relay() as relay:
        source, target = Bench(relay), Bench(relay, "target")
        client, server = source.link()
        host = b"localhost\0"
        begin = struct.pack("<HHIIII", target.endpoint.port, 65535, len(host), 20, 0, 0) + host
        server.say(MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, begin)
        ((_, body),) = client.messages(1)
        port, secure, size, offset = struct.unpack_from("<HHII", body)
        assert (port, secure) == (target.front.port, 65535)
        assert body[offset : offset + size] == b"127.0.0.1\0"
        source.close()
        target.close()


def test_an_unknown_destination_is_left_alone() -> None:
    with bench() as place:
        client, server = place.link()
        begin = struct.pack("<HHIIII", 1, 65535, 4, 20, 0, 0) + b"far\0"
        for body in (begin, begin[:10], struct.pack("<HHII", 1, 2, 99, 99)):
            server.say(MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST, body)
        switch = MsgMain.SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST
        assert client.messages(3) == [
            (switch, begin),
            (switch, begin[:10]),
            (switch, struct.pack("<HHII", 1, 2, 99, 99)),
        ]


def test_bytes_that_are_no_spice_pass_unchanged() -> None:
    with bench(Rule(Match("*"), Delay(0))) as place:
        client, server = place.connect()
        client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert server.socket.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
        server.socket.sendall(b"x" * 40)
        assert client.socket.recv(100) == b"x" * 40
        client.socket.sendall(b"more")
        assert server.socket.recv(100) == b"more"


def test_half_a_packet_passes_before_the_end() -> None:
    with bench(Rule(Match("*"), Delay(0))) as place:
        client, server = place.connect()
        client.socket.sendall(b"REDQ\2\0")
        client.socket.shutdown(socket.SHUT_WR)
        assert server.socket.recv(100) == b"REDQ\2\0"
        assert server.socket.recv(100) == b""
        server.socket.sendall(b"the other half is still open")
        assert client.socket.recv(100) == b"the other half is still open"


@pytest.mark.parametrize("by", list(Side))
def test_a_reset_passes_on_as_a_reset(by: Side) -> None:
    with bench() as place:
        ends = dict(zip(Side, place.link(), strict=True))
        gone = ends.pop(by).socket
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        (left,) = ends.values()
        with pytest.raises(ConnectionResetError):
            left.socket.recv(1)
        seen = events_until(place.relay, lambda es: any(isinstance(e, Closed) for e in es))
        closed = next(e for e in seen if isinstance(e, Closed))
        assert (closed.how, closed.by) == (Ending.RESET, by)


@pytest.mark.parametrize("by", list(Side))
def test_an_orderly_end_passes_on_as_one(by: Side) -> None:
    with bench() as place:
        ends = dict(zip(Side, place.link(), strict=True))
        ends.pop(by).socket.close()
        (left,) = ends.values()
        assert left.socket.recv(1) == b""
        left.socket.close()
        seen = events_until(place.relay, lambda es: any(isinstance(e, Closed) for e in es))
        closed = [e for e in seen if isinstance(e, Closed)]
        assert [(c.how, c.by) for c in closed] == [(Ending.CLOSED, by)]


@pytest.mark.parametrize("how", [Ending.CLOSED, Ending.RESET])
def test_a_planted_end(how: Ending) -> None:
    with bench(Rule(Match("SPICE_MSG_NOTIFY"), End(how))) as place:
        client, server = place.link()
        for message_type, body in THREE:
            with suppress(OSError):
                server.say(message_type, body)
        if how is Ending.CLOSED:
            assert client.messages(2) == THREE[:2]
            assert client.socket.recv(1) == b""
            assert server.socket.recv(1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                client.until(99)


def test_a_cut_cable_is_silent_both_ways() -> None:
    with bench(Rule(Match("SPICE_MSG_NOTIFY"), End(Ending.TIMEOUT, before=True))) as place:
        client, server = place.link()
        for message_type, body in THREE:
            server.say(message_type, body)
        assert client.messages(1) == THREE[:1]
        client.say(PONG, b"lost")
        for peer in (client, server):
            peer.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                peer.socket.recv(1)


def test_a_server_that_is_not_there_shows_as_a_reset() -> None:
    with socket.socket() as taken, Relay() as relay:
        taken.bind(("127.0.0.1", 0))  # and does not listen: nobody else can meanwhile
        front = relay.front("source", Endpoint(*taken.getsockname()))
        with (
            pytest.raises(ConnectionResetError),  # by now, or while connecting
            socket.create_connection((front.address, front.port or 0), _PATIENCE) as client,
        ):
            client.recv(1)


def test_a_rule_that_raises_is_the_harness_trouble() -> None:
    with bench(Rule(Match("SPICE_MSG_PING"), Replace(lambda _: bytes(-1)))) as place:
        _, server = place.link()
        server.say(PING)
        with pytest.raises(HarnessError, match="a relay rule failed: ValueError"):
            events_until(place.relay, lambda _: False)


def test_megabytes_pass_a_reader_that_is_slow_to_start() -> None:
    with bench(Rule(Match("SPICE_MSG_PING"), Delay(0))) as place:
        client, server = place.link()
        server.socket.setblocking(False)
        rest = memoryview(MINI.pack(NOTIFY, 1 << 24) + bytes(1 << 24))
        while rest:
            try:
                rest = rest[server.socket.send(rest) :]
            except BlockingIOError:
                client.socket.settimeout(0.05)
                with suppress(TimeoutError):
                    client.got += [
                        e
                        for e in client.framer.feed(Side.SERVER, client.socket.recv(1 << 20), 0.0)
                        if isinstance(e, Message)
                    ]
        client.socket.settimeout(_PATIENCE)
        ((_, body),) = client.messages(1)
        assert len(body) == 1 << 24


def test_chance_comes_from_the_seed() -> None:
    def delays(seed: int) -> list[float]:
        scene = Scene("source", 1, Side.SERVER, 0.0)
        return [Delay(0, jitter_ms=20, seed=seed).act(Item(), scene)[0].due for _ in range(8)]

    assert delays(1) == delays(1) != delays(2)
    assert all(0 <= delay <= 0.02 for delay in delays(1))


def test_the_relay_gives_everything_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with bench(Rule(Match("*"), Delay(0))) as place:
            place.link()
            place.link()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "relay"]


def test_the_relay_adds_less_than_a_millisecond() -> None:
    with bench(Rule(Match("SPICE_MSG_PING"), Delay(0))) as place:
        client, server = place.link()
        took = []
        for n in range(50):
            begun = monotonic()
            server.say(NOTIFY, b"x")
            client.messages(n + 1)
            took.append(monotonic() - begun)
        assert min(took) < 0.001
