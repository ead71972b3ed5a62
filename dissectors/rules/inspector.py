# SPDX-License-Identifier: GPL-2.0-only
"""Reads a capture into events and events into a story: the inspector without its views.

The framer only counts bulk messages that no rule asks about (`Oracle.quiet`), which saves time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dissectors.capture import CaptureError, Wait
from dissectors.capture.reader import EventReader, Quieter
from dissectors.capture.record import Progress
from dissectors.framing.events import Event, Gap
from dissectors.framing.framer import NO_QUIET
from dissectors.rules.doubts import Doubts
from dissectors.rules.judgement import Finding, Judgement
from dissectors.rules.oracle import Oracle

#: The most gaps that the story lists.
MOST_GAPS = 10_000


class Inspection:
    """Reads captures through the oracle; `as_dict` is the story so far, at any moment.

    `everything`: build an event for each message, also for those that no rule asks about.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        keylog: Path | None = None,
        follow: Wait | None = None,
        progress: Progress | None = None,
        everything: bool = False,
    ) -> None:
        self.paths = tuple(paths)
        self.oracle = Oracle()
        quiet: Quieter = (lambda *_: NO_QUIET) if everything else self.oracle.quiet
        self.source = EventReader(paths, keylog=keylog, follow=follow, progress=progress, quiet=quiet)
        self.gaps: list[Gap] = []
        self._doubts = Doubts(self.oracle.conversation, self.source)
        self.error: CaptureError | None = None
        self._over = False
        self._last_weighed: list[tuple[Finding, str | None]] | None = None

    def run(self) -> Iterator[tuple[Event, list[Finding]]]:
        """Yields each event with its new findings. `error` keeps what could not be read."""
        try:
            for event in self.source:
                if isinstance(event, Gap) and len(self.gaps) < MOST_GAPS:
                    self.gaps.append(event)
                self._doubts.observe(event)
                yield event, self.oracle.observe(event)
        except CaptureError as error:
            self.error = error
        self.oracle.close()
        self._over, self._last_weighed = True, None

    @property
    def findings(self) -> list[Finding]:
        """The findings that the capture proves."""
        return [finding for finding, why in self._weighed() if why is None]

    @property
    def doubtful(self) -> list[tuple[Finding, str]]:
        """(finding, reason) for each finding that may have another cause than a breach."""
        return [(finding, why) for finding, why in self._weighed() if why is not None]

    def _weighed(self) -> list[tuple[Finding, str | None]]:
        """(finding, doubt or None) for each of the oracle's findings; computed once after the last event."""
        if not self._over or self._last_weighed is None:
            self._last_weighed = self._doubts.weigh(self.oracle.judgement.findings)
        return self._last_weighed

    def finish(self) -> Judgement:
        """Reads the rest of the capture."""
        for _ in self.run():
            pass
        return self.oracle.judgement

    @property
    def nothing_judged(self) -> bool:
        """No SPICE session with readable messages was seen: "no finding" then proves nothing."""
        sessions = self.oracle.conversation.sessions
        return not any(sum(c.messages.values()) for session in sessions for c in session.connections())

    def as_dict(self) -> dict[str, Any]:
        """The story with the keys that scripts rely on (`dissectors.rules.capture_story`)."""
        from dissectors.rules.capture_story import story

        return story(self)
