# SPDX-License-Identifier: GPL-2.0-only
"""Failed connection attempts are reported: the answer, the number of tries, the time that the client
waited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6TimeExceeded, IPv6
from scapy.packet import Packet as ScapyPacket

from dissectors.framing.events import AttemptFailure, ConnectFailed, Endpoint
from suites.selftest.dissectors.capture.capture_mutations import Packet, Story, save, story

CLIENT, SERVER, ROUTER = "192.0.2.50", "192.0.2.12", "192.0.2.1"
CLIENT6, SERVER6, ROUTER6 = "2001:db8::50", "2001:db8::12", "2001:db8::1"
START = 1_700_000_000.0


def ip(source: str, target: str) -> ScapyPacket:
    return (IPv6 if ":" in source else IP)(src=source, dst=target)


def syn(six: bool = False, port: int = 40_001, seq: int = 0xFFFFFFF0) -> ScapyPacket:
    ends = (CLIENT6, SERVER6) if six else (CLIENT, SERVER)
    return ip(*ends) / TCP(sport=port, dport=5900, flags="S", seq=seq, options=[("MSS", 1460)])


def answer(flags: str, *, port: int = 40_001, seq: int = 7, ack: int = 0xFFFFFFF1) -> ScapyPacket:
    return ip(SERVER, CLIENT) / TCP(sport=5900, dport=port, flags=flags, seq=seq, ack=ack)


def read(path: Path, timed: Iterable[tuple[float, ScapyPacket]]) -> Story:
    every = []
    for time, packet in timed:
        data = bytes(packet)
        every.append(Packet(START + time, data, len(data)))
    return story(save(path, every))


def failures(told: Story) -> Sequence[ConnectFailed]:
    return [item for item in told.items if isinstance(item, ConnectFailed)]


def test_no_answer(tmp_path: Path) -> None:
    result = read(tmp_path / "a", [(0, syn()), (1, syn()), (3, syn()), (9.5, syn(port=1))])
    failed, last = failures(result)
    assert failed.how is AttemptFailure.UNANSWERED
    assert (failed.client, failed.server) == (Endpoint(CLIENT, 40_001), Endpoint(SERVER, 5900))
    assert (failed.attempts, failed.frame, failed.first_frame) == (3, 3, 1)
    assert [time - START for time in (failed.first, failed.last, failed.time, failed.until)] == [0, 3, 3, 9.5]
    assert failed.why == "3 SYNs in 3.0 s, no answer in 9.5 s"
    assert (last.attempts, last.why) == (1, "one SYN, no answer in 0.0 s")
    assert not result.begins
    assert not result.ends


@pytest.mark.parametrize("flags", ["RA", "R"])
def test_a_reset_refuses(tmp_path: Path, flags: str) -> None:
    result = read(tmp_path / "a", [(0, syn()), (0.001, answer(flags, seq=0)), (0.002, answer(flags, seq=0))])
    (failed,) = failures(result)
    assert (failed.how, failed.frame, failed.attempts) == (AttemptFailure.REFUSED, 2, 1)
    assert result.ends == []


def test_a_reset_of_an_older_connection_refuses_nothing(tmp_path: Path) -> None:
    result = read(tmp_path / "a", [(0, syn()), (0.001, answer("RA", ack=5)), (0.002, answer("SA"))])
    assert failures(result) == []


ERRORS4 = {
    (3, 0): (AttemptFailure.UNREACHABLE, "network unreachable"),
    (3, 1): (AttemptFailure.UNREACHABLE, "host unreachable"),
    (3, 3): (AttemptFailure.UNREACHABLE, "port unreachable"),
    (3, 9): (AttemptFailure.PROHIBITED, "network administratively prohibited"),
    (3, 10): (AttemptFailure.PROHIBITED, "host administratively prohibited"),
    (3, 13): (AttemptFailure.PROHIBITED, "communication administratively prohibited"),
    (3, 99): (AttemptFailure.UNREACHABLE, "destination unreachable, code 99"),
    (11, 0): (AttemptFailure.UNREACHABLE, "time to live exceeded in transit"),
}
ERRORS6 = {
    0: (AttemptFailure.UNREACHABLE, "no route to destination"),
    1: (AttemptFailure.PROHIBITED, "communication administratively prohibited"),
    3: (AttemptFailure.UNREACHABLE, "address unreachable"),
    4: (AttemptFailure.UNREACHABLE, "port unreachable"),
    6: (AttemptFailure.PROHIBITED, "reject route to destination"),
}


@pytest.mark.parametrize("error", ERRORS4)
@pytest.mark.parametrize("quoted", [28, 44])
def test_icmp(tmp_path: Path, error: tuple[int, int], quoted: int) -> None:
    icmp = ip(ROUTER, CLIENT) / ICMP(type=error[0], code=error[1]) / bytes(syn())[:quoted]
    (failed,) = failures(read(tmp_path / "a", [(0, syn()), (0.5, icmp), (1, syn()), (1.5, icmp)]))
    how, words = ERRORS4[error]
    assert (failed.how, failed.why, failed.frame) == (how, f"ICMP: {words}, says {ROUTER}", 2)


@pytest.mark.parametrize("code", ERRORS6)
def test_icmp6(tmp_path: Path, code: int) -> None:
    icmp = ip(SERVER6, CLIENT6) / ICMPv6DestUnreach(code=code) / bytes(syn(six=True))
    (failed,) = failures(read(tmp_path / "a", [(0, syn(six=True)), (0.5, icmp)]))
    how, words = ERRORS6[code]
    assert (failed.how, failed.why) == (how, f"ICMP: {words}, says the host itself")
    assert failed.server == Endpoint(SERVER6, 5900)


def test_icmp6_time_exceeded(tmp_path: Path) -> None:
    icmp = ip(ROUTER6, CLIENT6) / ICMPv6TimeExceeded() / bytes(syn(six=True))
    (failed,) = failures(read(tmp_path / "a", [(0, syn(six=True)), (0.5, icmp)]))
    assert failed.why == f"ICMP: time to live exceeded in transit, says {ROUTER6}"


def test_icmp_that_is_no_failure(tmp_path: Path) -> None:
    """ICMP errors: one that requests a smaller packet, one about another connection, one about an open
    connection."""
    smaller = ip(ROUTER, CLIENT) / ICMP(type=3, code=4) / bytes(syn())
    other = ip(ROUTER, CLIENT) / ICMP(type=3, code=1) / bytes(syn(port=9))
    late = ip(ROUTER, CLIENT) / ICMP(type=3, code=1) / bytes(syn())
    result = read(
        tmp_path / "a", [(0, syn()), (0.1, smaller), (0.2, other), (0.3, answer("SA")), (0.4, late)]
    )
    assert failures(result) == []


def test_an_answer_after_all(tmp_path: Path) -> None:
    """A router refuses the first SYN, a later SYN gets through: the connection is reported like any other."""
    icmp = ip(ROUTER, CLIENT) / ICMP(type=3, code=1) / bytes(syn())
    ack = ip(CLIENT, SERVER) / TCP(sport=40_001, dport=5900, flags="PA", seq=0xFFFFFFF1, ack=8)
    packets = [(0, syn()), (0.5, icmp), (1, syn()), (1.1, answer("SA")), (1.2, ack / b"REDQ"), (1.3, ack)]
    result = read(tmp_path / "a", packets)
    assert len(failures(result)) == 1
    assert [begin.server.port for begin in result.begins] == [5900]


def test_the_same_port_again(tmp_path: Path) -> None:
    """Each attempt is reported by itself; the last one is answered."""
    packets = [(0, syn(seq=1)), (1, syn(seq=1)), (70, syn(seq=9)), (70.1, answer("SA", ack=10))]
    result = read(tmp_path / "a", packets)
    assert [(f.attempts, f.how) for f in failures(result)] == [(2, AttemptFailure.UNANSWERED)]


def test_two_taps_are_one_attempt(tmp_path: Path) -> None:
    packets = [(0, syn()), (0.00005, syn()), (1, syn()), (1.00005, syn())]
    (failed,) = failures(read(tmp_path / "a", packets))
    assert failed.attempts == 2
