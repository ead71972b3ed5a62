# SPDX-License-Identifier: GPL-2.0-only
"""Rules on what only the host shows: callbacks and their times, results of calls, the end of the process."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from dissectors.conversation.connection_states import State
from dissectors.conversation.conversation import ANSWERS, Connection, Conversation, Server
from dissectors.framing.events import Closed, HostEvent, Message, end_of_process
from dissectors.rules.rule_engine import Broken, Kept, Ruling, at_end, check, on
from dissectors.wire.constants import ChannelType, MainCap, MsgcMain, MsgMain, Side

CONNECT, END = "migrate_connect", "migrate_end"
CONNECT_DONE, END_DONE = "migrate_connect_complete", "migrate_end_complete"
TIMEOUT_MS = 10_000
#: A call that gives up the CPU and takes so long has slept. (One that a busy machine interrupts has not.)
SLEEPS_S = 0.1
#: An event explains the end of a process only within this time before it, seconds.
DYING_S = 2.0
#: On a real clock a timer may be late by scheduling, never early.
EARLY_MS, LATE_MS = 5, 1_500


@on(HostEvent)
def lives(view: Conversation, event: HostEvent) -> Iterator[Ruling]:
    """The process neither ends nor hangs, whatever a peer sends."""
    if event.name == "died" and _ends_with_its_client(view, event):
        yield Kept("ROBUST-001")
    elif event.name == "died":
        seen = end_of_process(*(event.args.get(name) for name in ("signal", "status", "message")))
        yield Broken(_cause_of_death(view, event), "the server process lives", seen)
    elif event.name == "hung":
        yield Broken(
            "ROBUST-002", "the server answers its host", f"no answer for {event.args.get('seconds')} s"
        )
    elif event.name == "settled":
        yield Kept("ROBUST-001")
        yield Kept("ROBUST-002")


def _ends_with_its_client(view: Conversation, event: HostEvent) -> bool:
    """Whether exit_on_disconnect was set, a client had left, and the process ended with status 0."""
    host = view.host_of(event.host)
    switches = [c.args.get("enable", 1) for c in host.calls if c.name == "call:set_exit_on_disconnect"]
    ended = event.args.get("signal") is None and event.args.get("status") == 0
    index = view.hosts.index(host)
    left = any(c.host == index and c.is_main and c.closed is not None for c in view.connections.values())
    return bool(switches and switches[-1]) and ended and left


def _cause_of_death(view: Conversation, event: HostEvent) -> str:
    """The requirement that names the cause of the process' end, where the conversation shows that cause."""
    index = view.hosts.index(view.host_of(event.host))
    for connection in view.connections.values():
        display = connection.host == index and connection.channel == ChannelType.SPICE_CHANNEL_DISPLAY
        closed = connection.closed  # a process that dies ends its connections too
        ended = closed and closed.by is not Side.SERVER and event.time - closed.time < DYING_S
        if display and connection.linked and ended and not connection.messages[Side.SERVER]:
            return "ROBUST-019"
    return "ROBUST-001"


class _Wait:
    """One call that a callback completes, the events that may cause the callback, and the callback."""

    def __init__(self, host: Server, call: HostEvent, until: float, done: str) -> None:
        self.host, self.call, self.until = host, call, until
        self.done = [c for c in host.calls if c.name == done and call.time <= c.time < until]

    def within(self, time: float) -> bool:
        return self.call.time <= time < self.until


def _calls(host: Server, name: str) -> list[HostEvent]:
    return [c for c in host.calls if c.name == f"call:{name}"]


def _waits(host: Server, name: str, done: str) -> list[_Wait]:
    calls = _calls(host, name)
    ends = [*(c.time for c in calls[1:]), float("inf")][: len(calls)]
    return [_Wait(host, call, end, done) for call, end in zip(calls, ends, strict=True)]


def _mains(view: Conversation, host: Server) -> list[Connection]:
    index = view.hosts.index(host)
    return [c for c in view.connections.values() if c.host == index and c.is_main and c.linked]


@on(HostEvent)
def connect_complete(view: Conversation, event: HostEvent) -> Iterator[Ruling]:
    """migrate_connect_complete comes once, and has a cause: each client's answer or end, or the timeout."""
    if event.name != CONNECT_DONE:
        return
    host = view.host_of(event.host)
    call = yield from _completed_call(host, CONNECT, event, cause="MIG-SRC-012", once="MIG-SRC-013")
    if call is None:
        return
    causes = list(_causes(view, host, call, event))
    if causes:
        yield Kept("MIG-SRC-012")
        yield from map(Kept, sorted(set(causes)))
        return
    yield from _at_timeout(
        host,
        call,
        event,
        ("TIME-001", f"completion after {TIMEOUT_MS} ms without an answer"),
        ("MIG-SRC-012", "completion only for a cause or at the timeout"),
    )


def _completed_call(
    host: Server, name: str, callback: HostEvent, *, cause: str, once: str
) -> Generator[Ruling, None, HostEvent | None]:
    """The call that a callback completes; None if there is none, or if an earlier callback has completed it.
    `cause`, `once`: the requirements that a callback without a call and a second callback break."""
    calls = _calls(host, name)
    if not calls:
        yield Broken(cause, "no callback without a call", callback.name)
        return None
    earlier = any(c.name == callback.name and c.time >= calls[-1].time for c in host.calls)
    yield check(once, not earlier, f"{callback.name} once for each {name}", "once more")
    return None if earlier else calls[-1]


def _at_timeout(
    host: Server, call: HostEvent, callback: HostEvent, in_time: tuple[str, str], not_early: tuple[str, str]
) -> Iterator[Ruling]:
    """Judges a callback that only the timeout of its call explains. `in_time`, `not_early`: requirement and
    what it expects."""
    waited = _waited(call, callback)
    if waited is None:
        return
    early, late = (0.0, 0.0) if host.settings.get("virtual_clock") else (EARLY_MS, LATE_MS)
    seen = f"after {waited:.0f} ms"
    yield check(in_time[0], TIMEOUT_MS - early <= waited <= TIMEOUT_MS + late, in_time[1], seen)
    yield check(not_early[0], waited >= TIMEOUT_MS - early, not_early[1], seen)


def _waited(call: HostEvent, event: HostEvent) -> float | None:
    if call.clock_ms is None or event.clock_ms is None:
        return None
    return event.clock_ms - call.clock_ms


def _causes(view: Conversation, host: Server, call: HostEvent, event: HostEvent) -> Iterator[str]:
    """The requirement of each cause that came before the callback."""
    waiting = 0
    index = view.hosts.index(host)
    if _leads_nowhere([call]):
        yield "MIG-SRC-052"
    for main in view.connections.values():
        if main.host != index or not main.is_main or main.opened is None:
            continue
        if not main.linked or (main.closed is not None and main.closed.time < call.time):
            continue
        able = MainCap.SPICE_MAIN_CAP_SEMI_SEAMLESS_MIGRATE in main.client_caps
        if host.settings.get("seamless"):
            able |= MainCap.SPICE_MAIN_CAP_SEAMLESS_MIGRATE in main.client_caps
        if main.closed is not None and main.closed.time <= event.time:
            yield "MIG-SRC-031"
        elif able and _answered(main, call):
            yield "MIG-SRC-029" if main.state is State.REFUSED else "MIG-SRC-028"
        elif able:
            waiting += 1
    if _newcomer(view, host, call, event):
        yield "MIG-SRC-026"
    if not waiting and not _has_returned(host, call):
        yield "MIG-SRC-030"
    if any(c.time >= call.time for c in _calls(host, END)):
        yield "MIG-SRC-032"


def _newcomer(view: Conversation, host: Server, call: HostEvent, event: HostEvent) -> bool:
    """Whether a new client came between the two: the server drops the awaited client for it."""
    index = view.hosts.index(host)
    mains = [c for c in view.connections.values() if c.host == index and c.is_main and not c.as_target]
    return any(c.opened is not None and call.time < c.opened.time <= event.time for c in mains)


def _answered(main: Connection, call: HostEvent) -> bool:
    migration = main.session.migration if main.session is not None else None
    return migration is not None and migration.answer is not None and migration.answer.time >= call.time


@on(Message, *ANSWERS)
def asynchronous(view: Conversation, event: Message) -> Iterator[Ruling]:
    """migrate_connect returns before the client answers: it does not block. (A host that its machine has not
    let run for a while returns late too: `blocked` judges a late return.)"""
    connection = view.connection(event)
    if (
        event.sender is not Side.CLIENT
        or not connection.is_main
        or event.type not in ANSWERS
        or connection.host < 0
    ):
        return
    host = view.hosts[connection.host]
    calls = _calls(host, CONNECT)
    if calls and host.settings.get("callbacks") and _has_returned(host, calls[-1]):
        yield Kept("MIG-SRC-001")


@on(HostEvent)
def blocked(view: Conversation, event: HostEvent) -> Iterator[Ruling]:
    """migrate_connect does not sleep, and has returned when the callback for the client's answer comes: both
    come from one thread, in this order."""
    host = view.host_of(event.host) if event.name in (CONNECT_DONE, f"return:{CONNECT}") else None
    calls = _calls(host, CONNECT) if host is not None else []
    if host is None or not calls or not host.settings.get("callbacks"):
        return
    if event.name == CONNECT_DONE:
        mains = [c for c in view.connections.values() if c.is_main and c.host == view.hosts.index(host)]
        answered = any(_answered(main, calls[-1]) for main in mains)
        if answered and not _has_returned(host, calls[-1]):
            yield Broken(
                "MIG-SRC-001", "migrate_connect returns before the client answers", "it waits", event
            )
    elif event.args.get("waits") and event.time - calls[-1].time >= SLEEPS_S:
        lasted = f"it sleeps; {1e3 * (event.time - calls[-1].time):.0f} ms"
        yield Broken("MIG-SRC-001", "migrate_connect returns without waiting", lasted, event)


def _has_returned(host: Server, call: HostEvent) -> bool:
    return any(c.name == f"return:{CONNECT}" and c.time >= call.time for c in host.calls)


@on(Message, MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS)
def client_timer(view: Conversation, event: Message) -> Iterator[Ruling]:
    """The server sends BEGIN only after migrate_connect, to a client that was connected at the call."""
    begins = (MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN, MsgMain.SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS)
    connection = view.connection(event)
    if event.sender is Side.SERVER and connection.is_main and event.type in begins and connection.host >= 0:
        if _calls(view.hosts[connection.host], CONNECT):
            yield Kept("MIG-SRC-020")


@on(HostEvent)
def end_complete(view: Conversation, event: HostEvent) -> Iterator[Ruling]:
    """migrate_end_complete comes once all clients left, or at the timeout; never after migrate_end(0)."""
    if event.name != END_DONE:
        return
    host = view.host_of(event.host)
    call = yield from _completed_call(host, END, event, cause="MIG-SRC-033", once="MIG-SRC-034")
    if call is None:
        return
    here = [m for m in _mains(view, host) if m.closed is None or m.closed.time > call.time]
    left = [m for m in here if m.closed is not None and m.closed.time <= event.time]
    if not here:
        yield Kept("MIG-SRC-033")
        return
    if not call.args.get("completed"):
        yield Broken("MIG-SRC-035", "no migrate_end_complete after a failed migration", event.name)
        return
    if left or _newcomer(view, host, call, event) or not _has_announcement(host):
        yield Kept("MIG-SRC-033")
        return
    yield from _at_timeout(
        host,
        call,
        event,
        ("TIME-002", f"completion after {TIMEOUT_MS} ms though the client stays"),
        ("MIG-SRC-033", "completion when the client has left, or at the timeout"),
    )


@on(HostEvent)
def results(view: Conversation, event: HostEvent) -> Iterator[Ruling]:
    """migrate_connect and migrate_end return 0; without a port or an announcement -1."""
    if event.name not in (f"return:{CONNECT}", f"return:{END}") or "result" not in event.args:
        return
    host = view.host_of(event.host)
    result = event.args["result"]
    if event.name == f"return:{CONNECT}":
        if _leads_nowhere(_calls(host, CONNECT)):
            yield check("MIG-SRC-052", result == -1, "migrate_connect without a port returns -1", result)
        else:
            yield check("MIG-SRC-036", result == 0, "migrate_connect returns 0", result)
        return
    calls = _calls(host, END)
    announced = _has_announcement(host)
    stays = any(m.closed is None for m in _mains(view, host))
    if calls and calls[-1].args.get("completed") and not announced and stays:
        yield check("MIG-SRC-027", result == -1, "migrate_end(1) without migrate_connect returns -1", result)
    elif announced:
        yield check("MIG-SRC-051", result == 0, "migrate_end returns 0", result)


def _has_announcement(host: Server) -> bool:
    """Whether the latest migrate_end follows a migrate_connect that no earlier migrate_end has used up."""
    ends = _calls(host, END)
    announced = [c for c in _calls(host, CONNECT) if not ends or c.time < ends[-1].time]
    return bool(announced) and not any(c.time > announced[-1].time for c in ends[:-1])


def _leads_nowhere(calls: list[HostEvent]) -> bool:
    """The latest migrate_connect names neither port."""
    return bool(calls) and all(calls[-1].args.get(port) in (None, -1) for port in ("port", "tls_port"))


@at_end
def callbacks_owed(view: Conversation) -> Iterator[Ruling]:
    """At the end: each callback whose cause has come was called before the host settled."""
    for host in view.hosts:
        settled = [c.time for c in host.calls if c.name == "settled"]
        if host.died is not None or not settled:
            continue
        for wait in _waits(host, CONNECT, CONNECT_DONE) if host.settings.get("callbacks") else ():
            if not wait.done:
                yield from _connect_owed(view, wait, settled[-1])
        for wait in _waits(host, END, END_DONE) if host.settings.get("end_callback") else ():
            if not wait.call.args.get("completed"):
                if not wait.done and wait.call.time < settled[-1]:
                    yield Kept("MIG-SRC-035")
            elif not wait.done:
                yield from _end_owed(view, wait, settled[-1])


def _connect_owed(view: Conversation, wait: _Wait, settled: float) -> Iterator[Ruling]:
    host = wait.host
    if any(wait.within(c.time) for c in _calls(host, END)):
        return  # migrate_end came during the wait: its own callback is judged instead
    for main in _mains(view, host):
        migration = main.session.migration if main.session is not None else None
        answer = migration.answer if migration is not None else None
        if answer is not None and wait.within(answer.time) and answer.time < settled and main.certain:
            refused = answer.type == MsgcMain.SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR
            which, what = ("MIG-SRC-029", "CONNECT_ERROR") if refused else ("MIG-SRC-028", "CONNECTED")
            yield Broken(which, f"migrate_connect_complete after {what}", "none", answer)
        elif main.closed is not None and wait.within(main.closed.time) and main.closed.time < settled:
            if main.result is not None and main.result.time < wait.call.time:
                yield Broken(
                    "MIG-SRC-031", "migrate_connect_complete after the client left", "none", main.closed
                )
    passed = [c for c in host.calls if c.clock_ms is not None and wait.within(c.time)]
    if passed and wait.call.clock_ms is not None:
        waited = max(c.clock_ms for c in passed if c.clock_ms is not None) - wait.call.clock_ms
        if waited > TIMEOUT_MS + LATE_MS:
            yield Broken(
                "TIME-001",
                f"migrate_connect_complete after {TIMEOUT_MS} ms",
                f"none after {waited:.0f} ms",
                passed[-1],
            )
    if not _mains(view, host):
        yield Broken("MIG-SRC-030", "migrate_connect_complete at once: no client", "none", wait.call)


def _end_owed(view: Conversation, wait: _Wait, settled: float) -> Iterator[Ruling]:
    mains = [m for m in _mains(view, wait.host) if m.closed is None or m.closed.time > wait.call.time]
    if mains and all(m.closed is not None and m.closed.time < settled for m in mains):
        yield Broken("MIG-SRC-033", "migrate_end_complete once the client has left", "none", mains[-1].closed)
    if not mains and wait.call.time < settled:
        yield Broken("MIG-SRC-033", "migrate_end_complete at once: no client", "none", wait.call)
    last = max((c.clock_ms for c in wait.host.calls if c.clock_ms is not None), default=0.0)
    if mains and wait.call.clock_ms is not None and last - wait.call.clock_ms > TIMEOUT_MS + LATE_MS:
        yield Broken(
            "TIME-002",
            f"migrate_end_complete after {TIMEOUT_MS} ms",
            f"none after {last - wait.call.clock_ms:.0f} ms",
            wait.call,
        )


@on(Closed)
def dropped(view: Conversation, event: Closed) -> Iterator[Ruling]:
    """The server drops a client that ignores MIGRATE_END, at the timeout."""
    connection = view.connection(event)
    if not connection.is_main or event.by is Side.CLIENT or connection.host < 0:
        return
    if connection.state in (State.ENDED, State.SWITCHED) and _calls(view.hosts[connection.host], END):
        yield Kept("MIG-SRC-037")
