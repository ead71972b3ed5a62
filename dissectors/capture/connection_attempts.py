# SPDX-License-Identifier: GPL-2.0-only
"""Failed connection attempts: refused by RST, rejected by ICMP, or not answered.

ICMP codes: RFC 792, RFC 1812 and RFC 4443, as IANA lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from dissectors.capture.capture_items import Begin
from dissectors.framing.events import AttemptFailure, ConnectFailed

#: A SYN that follows another one within so many seconds is the same packet, captured twice.
AGAIN = 0.1

UNREACHABLE4 = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    5: "source route failed",
    6: "network unknown",
    7: "host unknown",
    8: "source host isolated",
    9: "network administratively prohibited",
    10: "host administratively prohibited",
    11: "network unreachable for this type of service",
    12: "host unreachable for this type of service",
    13: "communication administratively prohibited",
    14: "host precedence violation",
    15: "precedence cutoff in effect",
}
UNREACHABLE6 = {
    0: "no route to destination",
    1: "communication administratively prohibited",
    2: "beyond scope of the source address",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed ingress/egress policy",
    6: "reject route to destination",
    7: "error in source routing header",
}
TTL_EXCEEDED = {0: "time to live exceeded in transit", 1: "fragment reassembly time exceeded"}
PROHIBITED = {(4, 9), (4, 10), (4, 13), (6, 1), (6, 5), (6, 6)}
FRAGMENTATION_NEEDED = (3, 4)  # no failure: a smaller packet will do


@dataclass(slots=True)
class Attempt:
    """The SYNs of one connection: how many, when the first and the last one came, and in which frames."""

    count: int
    first: float
    first_frame: int
    last: float
    last_frame: int
    reported: bool = False  # its failure

    def again(self, time: float, frame: int) -> None:
        """Adds a SYN, unless it is the last one captured a second time."""
        if time - self.last > AGAIN:
            self.count += 1
            self.last, self.last_frame = time, frame

    def failed(
        self, begin: Begin, how: AttemptFailure, why: str, time: float, frame: int | None
    ) -> ConnectFailed:
        """The event; `time` (s) and `frame` of the packet that proves the failure."""
        return ConnectFailed(
            time=time,
            frame=frame,
            connection=begin.connection,
            client=begin.client,
            server=begin.server,
            how=how,
            why=why,
            attempts=self.count,
            first=self.first,
            last=self.last,
            until=time,
            first_frame=self.first_frame,
        )

    def refused(self, begin: Begin, time: float, frame: int) -> ConnectFailed:
        """The other end answered with RST."""
        why = "the answer is a reset (RST): nothing listens there, or a firewall refuses"
        return self.failed(begin, AttemptFailure.REFUSED, why, time, frame)

    def turned_away(self, begin: Begin, error: bytes, time: float, frame: int) -> ConnectFailed | None:
        """An ICMP error about the SYN. `error`: type, code, and the sender's address."""
        how, words = _icmp_words(error)
        if not words:
            return None
        speaker = str(ip_address(error[2:]))
        source = "the host itself" if speaker == begin.server.host else speaker
        return self.failed(begin, how, f"ICMP: {words}, says {source}", time, frame)

    def unanswered(self, begin: Begin, until: float) -> ConnectFailed:
        """Nothing answered to the end of the capture, or until the port was used again."""
        noun = "one SYN" if self.count == 1 else f"{self.count} SYNs in {self.last - self.first:.1f} s"
        why = f"{noun}, no answer in {max(until - self.first, 0.0):.1f} s"
        event = self.failed(begin, AttemptFailure.UNANSWERED, why, self.last, self.last_frame)
        object.__setattr__(event, "until", max(until, self.last))
        return event


def _icmp_words(error: bytes) -> tuple[AttemptFailure, str]:
    """The meaning of an ICMP error; an empty text where it is no failure."""
    kind, code = error[0], error[1]
    six = len(error) == 18
    if not six and (kind, code) == FRAGMENTATION_NEEDED:
        return AttemptFailure.UNREACHABLE, ""
    if kind == (3 if six else 11):
        return AttemptFailure.UNREACHABLE, TTL_EXCEEDED.get(code, f"time exceeded, code {code}")
    how = AttemptFailure.PROHIBITED if (6 if six else 4, code) in PROHIBITED else AttemptFailure.UNREACHABLE
    words = (UNREACHABLE6 if six else UNREACHABLE4).get(code, f"destination unreachable, code {code}")
    return how, words
