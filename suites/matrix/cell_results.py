# SPDX-License-Identifier: GPL-2.0-only
"""Collects the outcomes of a place's cells: for the bench, for the reports, for the picture of the matrix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dissectors.rules.judgement import FAILING, Judgement
from fixtures.bench import Bench, failure_text
from fixtures.bench.kept_evidence import file_name
from suites.matrix.cell_player import PlayedCell
from suites.matrix.cells import Cell


class CellResults:
    """`test`: the test's id. `out`: the run's directory, for the packets of a cell with findings.
    `properties`: the test's user properties, which store the outcomes."""

    planted: str | None = None  # the requirement that a planted fault is to break

    def __init__(self, test: str, bench: Bench, out: str | None, properties: list[tuple[str, Any]]) -> None:
        self._test, self._bench, self._out, self._properties = test, bench, out, properties
        self._driven: dict[str, str] = {}
        self._left_out: dict[str, str] = {}
        self._about: Cell | None = None
        self._cases: list[dict[str, Any]] = []
        self._failed: list[str] = []
        self.kept: Counter[str] = Counter()
        self.proved = False  # whether the planted fault was found

    def leave_out(self, cell: Cell) -> None:
        """Records a cell that is not played."""
        self._about = cell
        self._left_out[str(cell.act)] = cell.left_out or ""

    def take(self, played: PlayedCell) -> None:
        """Records a cell that was played; closes its scene."""
        try:
            self._about = played.cell
            self._driven[str(played.cell.act)] = str(played.outcome)
            self.kept.update(played.judgement.kept)
            if played.judgement.findings:
                self._case(played)
        finally:
            played.scene.close()

    def close(self) -> None:
        """Gives the bench the collected findings, and names the cells whose findings count."""
        broken = {f["requirement"] for case in self._cases for f in case["judgement"]["findings"]}
        kept = Judgement(kept=Counter({r: n for r, n in self.kept.items() if r not in broken}))
        self._bench.take(kept, kept.kept)
        self._properties.extend(self.properties())
        self._bench.cells_broken = "\n".join(self._failed)

    def _case(self, played: PlayedCell) -> None:
        findings, host = played.judgement.findings, played.scene.host
        broken = {f.requirement for f in findings}
        if self.planted in broken:
            self.proved = True
            self._bench.take(played.judgement, broken)
        self._cases.append(
            {
                "cell": str(played.cell.act),
                "title": f"{played.cell.name}: {played.outcome}",
                "server": self._bench.spec,
                "identities": {host.label: asdict(host.identity)},
                "requirements": sorted({f.requirement for f in findings}),
                "judgement": {
                    "findings": [f.as_dict() for f in findings],
                    "kept": dict(played.judgement.kept),
                },
                "artefacts": self._packets(played),
                "moves": list(played.moves),
            }
        )
        if any(f.level in FAILING for f in findings):
            self._failed.append(f"{played.cell.name}:\n{failure_text(findings)}")

    def _packets(self, played: PlayedCell) -> dict[str, str]:
        if not self._out:
            return {}
        directory = Path(self._out) / "tests"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{file_name(f'{self._test}/{played.cell.act}')}.pcapng.gz"
        played.scene.pump.tape.write_pcapng(path)
        return {"pcapng": os.fspath(path)}

    def properties(self) -> Iterator[tuple[str, Any]]:
        """The user properties of the test (`reports.run.plugin` reads them)."""
        yield from (("spice-cell", case) for case in self._cases)
        if self._about is not None:
            place = self._about.place
            yield (
                "spice-matrix",
                {
                    "channel": int(place.channel),
                    "place": place.name,
                    "state": place.state.value,
                    "driven": self._driven,
                    "left_out": self._left_out,
                },
            )
