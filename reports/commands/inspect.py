# SPDX-License-Identifier: GPL-2.0-only
"""`spice-conform inspect`: what happened in captures, and which rule was broken at which packet.

Exit status: 0 judged and nothing found, 1 findings, 2 a capture is not readable (its readable part is shown),
3 nothing could be judged."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dissectors.capture import CaptureError
from dissectors.framing.events import Event, Gap, Garbage, HostEvent, Message, Quiet
from dissectors.rules.inspector import Inspection
from dissectors.rules.judgement import Finding
from dissectors.wire.visible_text import visible_lines
from fixtures.system.hosts import UsageError
from reports.inspection.agent_view import AgentTalk
from reports.ladder import wording
from reports.run.exit_status import Exit

if TYPE_CHECKING:  # modules that only some views need are loaded by those views
    from rich.console import Console

    from dissectors.channels.agent import VDAgentMessage
    from reports.ladder.lanes import Ladder

WIDTH = 100
IDLE = 0.1  # seconds between two looks at a followed file
KEPT = 3000  # events kept for the ladder; beyond that only the important ones
LARGE_BODY = 4096  # bytes of a routine message that are kept


Show = Callable[[int, int | None], None]  # bytes read, bytes in all


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """The options of the command. `start` and `stop`: seconds since the first event."""

    captures: Sequence[Path]
    keylog: Path | None = None
    as_json: bool = False
    html: Path | None = None
    write: Path | None = None
    messages: bool = False
    channel: Sequence[str] = ()
    types: Sequence[str] = ()
    start: float | None = None
    stop: float | None = None
    follow: bool = False
    unjudged: bool = False
    show_secrets: bool = False


def main(**asked: object) -> int:
    """Reads the captures and prints the story; returns the exit status. UsageError: one line."""
    wanted = InspectOptions(**asked)  # type: ignore[arg-type]
    _check(wanted)
    with _stop_asked() as stopped, _progress(wanted) as progress:
        try:
            inspection = Inspection(
                _each_once(wanted.captures),
                keylog=wanted.keylog,
                follow=(lambda: _idle(stopped)) if wanted.follow else None,
                progress=progress,
                everything=wanted.messages,
            )
        except CaptureError as error:
            return _unreadable(error)
        story = _read(inspection, wanted)
    return _show(inspection, story, wanted)


def _each_once(captures: Sequence[Path]) -> list[Path]:
    """The captures without a file that is named again: it holds nothing new."""
    return [path for n, path in enumerate(captures) if not any(_same(path, one) for one in captures[:n])]


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # standard input, a file in an archive, or none
        return path == other


def _check(wanted: InspectOptions) -> None:
    """Raises UsageError if the options contradict each other."""
    for out in filter(None, (wanted.html, wanted.write)):
        if not out.absolute().parent.is_dir():
            raise UsageError(f"{out}: no such directory")
    if wanted.write is None:
        return
    if any(str(path) == "-" for path in wanted.captures) or wanted.follow:
        raise UsageError("--write reads the captures twice: it takes files, no pipe, and not --follow")
    if any(
        path.exists() and wanted.write.exists() and path.samefile(wanted.write) for path in wanted.captures
    ):
        raise UsageError(f"{wanted.write}: this is one of the captures")


def _console() -> Console:
    """Standard output: with colour and its own width if it is a terminal."""
    from rich.console import Console

    columns = os.environ.get("COLUMNS", "")
    width = None if sys.stdout.isatty() or columns.isdigit() else WIDTH
    return Console(highlight=False, emoji=False, markup=False, width=width)


def _show(inspection: Inspection, story: InspectedStory, wanted: InspectOptions) -> int:
    if wanted.as_json:
        document = inspection.as_dict() | {"error": str(inspection.error) if inspection.error else None}
        print(json.dumps(document, indent=1, ensure_ascii=False, default=str))
    elif not wanted.messages and (inspection.source.reader.packets or not inspection.error):
        from reports.inspection.story_text import print_story

        print_story(_console(), inspection.as_dict(), story.ladders(limit=80), unjudged=wanted.unjudged)
    if wanted.html:
        from reports.inspection.capture_page import page

        text = page(inspection.as_dict(), story, show_secrets=wanted.show_secrets)
        try:
            wanted.html.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {wanted.html}: {error.strerror}") from None
    if wanted.write:
        from reports.inspection.capture_export import export

        try:
            export(inspection, wanted.write, wanted.keylog)
        except OSError as error:
            raise UsageError(f"cannot write {wanted.write}: {error.strerror}") from None
    if inspection.error:
        return _unreadable(inspection.error)
    if inspection.findings:
        return Exit.FINDINGS
    return Exit.NOTHING_JUDGED if inspection.nothing_judged else Exit.CLEAN


def _read(inspection: Inspection, wanted: InspectOptions) -> InspectedStory:
    """Reads everything, and shows the live views meanwhile."""
    story = InspectedStory(inspection)
    show = _live(wanted) if (wanted.messages or wanted.follow) and not wanted.as_json else None
    kept = wanted.html or not (wanted.as_json or wanted.messages)
    for event, findings in inspection.run():
        if kept:
            story.take(event, findings)
        if show:
            show(event, findings)
    return story


def _live(wanted: InspectOptions) -> Callable[[Event, Sequence[Finding]], None]:
    """Prints events as they come."""
    from reports.inspection.message_lines import Filter, Lines

    chosen = Filter(wanted.channel, wanted.types, wanted.start, wanted.stop)
    return Lines(_console(), chosen, everything=wanted.messages).show


class InspectedStory:
    """The events that a ladder needs of a capture, in bounded memory."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self.events: list[Event] = []
        self.agent: dict[int, list[VDAgentMessage]] = {}  # by index in `events`
        self._talk = AgentTalk()

    def take(self, event: Event, findings: Sequence[Finding]) -> None:
        """Keeps an event that a reader may want to see."""
        message = self._talk.completed(event)
        routine = _routine(event)
        full = len(self.events) >= KEPT
        if not findings and full and (routine or len(self.events) >= 2 * KEPT):
            return
        if routine and isinstance(event, Message) and len(event.body) > LARGE_BODY:
            event = replace(event, body=b"", whole=False)
        if message:
            self.agent[len(self.events)] = message
        self.events.append(event)

    @property
    def findings(self) -> list[Finding]:
        """Every finding."""
        return self._inspection.findings

    def ladders(self, limit: int) -> list[tuple[str, Ladder]]:
        """(title, ladder) of the kept events, in at most about `limit` rows each."""
        from reports.inspection.story_ladders import ladders

        return ladders(self._inspection.oracle.conversation, self.events, self.findings, limit)


def _routine(event: Event) -> bool:
    match event:
        case Message():
            return wording.is_routine(event)
        case HostEvent():
            return wording.is_backstage(event)
        case Quiet() | Gap() | Garbage():
            return True
    return False


@contextmanager
def _stop_asked() -> Iterator[list[bool]]:
    """A list that holds True once somebody has asked the command to stop following (Ctrl-C, SIGTERM)."""
    stopped = [False]

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped[0]:  # second request: stop at once
            raise KeyboardInterrupt
        stopped[0] = True

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _idle(stopped: list[bool]) -> bool:
    time.sleep(IDLE)
    return not stopped[0]


@contextmanager
def _progress(wanted: InspectOptions) -> Iterator[Show | None]:
    """A bar on standard error while a file is read; none if standard error is no terminal."""
    if wanted.follow or wanted.messages or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _unreadable(error: CaptureError) -> int:
    print(f"spice-conform: {visible_lines(str(error))}", file=sys.stderr)
    return Exit.UNREADABLE
