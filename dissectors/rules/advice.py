# SPDX-License-Identifier: GPL-2.0-only
"""What to look at next: a sentence for each reason why a client did not arrive, and for findings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dissectors.conversation.failed_links import Reason

NEXT: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.DENIED: (
            "Look at the ticket: the target has none, another one, or it had expired when the "
            "client came (set_password and expire_password on the target, before the migration)."
        ),
        Reason.BAD_ID: (
            "Look whether that session is still open on this host, and whether its main channel "
            "goes to the same machine (a load balancer, an address that has moved)."
        ),
        Reason.LINK: "Look at the server's log at this time: it says why it refused the link.",
        Reason.REFUSED: (
            "Look whether the target's server listens on this address and port, and whether the "
            "announcement (client_migrate_info) names the port that it listens on."
        ),
        Reason.PROHIBITED: "Look at the firewall that answered, and open the way to this port.",
        Reason.UNREACHABLE: (
            "Look at the client's routes to this address: it must reach the target itself, not "
            "only the source."
        ),
        Reason.UNANSWERED: (
            "Look at the firewall and the routes between the client and this address; the client "
            "must reach the target itself, not only the source."
        ),
        Reason.SILENT: (
            "Look whether the target's process is stopped or hangs: its system accepts connections, but "
            "the process does not read from them."
        ),
        Reason.WORDLESS: "Look at the server's log at this time, and at what else may listen there.",
        Reason.ALERT: (
            "Compare the certificate that the target presents, its issuer and its dates with the "
            "announced subject and with the CA that the client trusts."
        ),
        Reason.PROTOCOL: (
            "Look whether port and TLS port are exchanged in the announcement or in the client's "
            "settings, and what listens on this port."
        ),
        Reason.PROXY: (
            "Look at the proxy's log and rules: it must let this client through to the target, "
            "with a ticket that is valid for it."
        ),
        Reason.DROPPED: "Look at the logs of the end that closed it, at this time.",
        Reason.HIDDEN: "Give the TLS secrets (--keylog, written by the client with SSLKEYLOGFILE).",
        Reason.CLIENT: "Look at the client's log, and capture on the client's machine.",
        Reason.ABSENT: (
            "Capture on the client's machine or before the target too (several files can be given)."
        ),
        Reason.CUT: "Capture for a longer time: the capture ends before the migration does.",
        Reason.HOLE: "Capture again: tcpdump -s 0 and a larger buffer (-B) lose fewer packets.",
        Reason.HALF: "Capture both directions (a mirror port or a tunnel may show one only).",
    }
)

#: Chapter of the catalogue -> what to look at when the server broke one of its requirements.
_PARTS: Mapping[str, str] = MappingProxyType(
    {
        "source": "Look at the source's server and its log at this time.",
        "target": "Look at the target's server and its log at this time.",
    }
)


def next_of_finding(area: str, duty: str) -> str:
    """The advice for a finding on a requirement of this chapter."""
    if duty == "client":
        return "Look at the client: its version, and its log at this time."
    return _PARTS.get(area, "Look at the server: its version, and its log at this time.")
