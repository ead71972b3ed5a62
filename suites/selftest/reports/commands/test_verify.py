# SPDX-License-Identifier: GPL-2.0-only
"""`verify`: an untouched run of each kind holds; every change is reported."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.system.hosts import UsageError
from reports.commands import fuzz, replay
from reports.commands.verify import verify
from reports.run import seal
from reports.run.exit_status import Exit
from reports.views.publish import publish
from suites.selftest.reports.real_run import real_run

#: Tests that pass, differ, deviate (a death, a claim of the test's own) and are not judged.
SELECTED = (
    "suites/link/test_authentication.py",
    "suites/robust/test_survival.py::test_unsolicited_flush_mark",
    "suites/migration/test_seamless.py::test_after_a_cancelled_attempt",
    "suites/migration/test_live.py::test_target_that_dies",
)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over some tests of the installed library."""
    return real_run(tmp_path_factory.mktemp("sealed") / "run", *SELECTED)


@pytest.fixture
def run(sealed: Path, tmp_path: Path) -> Path:
    """A copy of the run to change."""
    return Path(shutil.copytree(sealed, tmp_path / "run"))


def test_an_untouched_run_holds(run: Path) -> None:
    text, holds = verify(run)
    assert holds, text
    manifest = seal.read(run)
    assert manifest.seal in text
    assert manifest.seal == json.loads((run / "certificate.json").read_text())["seal"]
    assert manifest.seal in (run / "index.html").read_text()


@settings(deadline=None)
@given(data=st.data())
def test_one_flipped_byte_is_reported(sealed: Path, data: st.DataObject) -> None:
    """A change anywhere in any file is reported in one line; in the manifest too."""
    manifest = seal.read(sealed)
    name = data.draw(st.sampled_from([seal.FILE, *manifest.evidence, *manifest.reports]))
    path = sealed / name
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= data.draw(st.integers(1, 255))
    path.unlink()  # Allure's attachments are second names of the same file
    path.write_bytes(flipped)
    try:
        text, holds = verify(sealed)
    except UsageError as error:  # the manifest is none any more, or its seal is another one
        text, holds = str(error), False
    finally:
        path.unlink()
        path.write_bytes(whole)
    assert (holds, name in text, len(text.splitlines()) <= 2) == (False, True, True), text


@pytest.mark.parametrize(
    "name", ["tests/more.pcapng.gz", "findings/more", "more.txt", ".more", "allure/more"]
)
def test_an_added_file_is_reported(run: Path, name: str) -> None:
    """A run holds in any place; the seal lists files that a user keeps beside it."""
    (run / "notes.txt").write_text("mine")
    seal.write(run)
    assert verify(run)[1]
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("more")
    text, holds = verify(run)
    assert (holds, text.splitlines()[1:]) == (False, [f"{name}: was not there when the run was sealed"])


@pytest.mark.parametrize("name", ["junit.xml", "certificate.html", "index.html", "summary.md"])
@pytest.mark.parametrize("content", [None, b"\xff"], ids=["gone", "no text"])
def test_an_unreadable_report_is_reported(run: Path, name: str, content: bytes | None) -> None:
    """The same after a new seal."""
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    seal.write(run)
    text, holds = verify(run)
    assert (holds, name in text) == (False, True), text


@pytest.mark.parametrize("again", [False, True], ids=["sealed-once", "sealed-again"])
@pytest.mark.parametrize("kind", ["pcapng.gz", "log"])
def test_a_removed_file_is_reported(run: Path, kind: str, again: bool) -> None:
    """A change in each kind of evidence is reported; also if every report and the seal are written again."""
    gone = min((run / "tests").glob(f"*.{kind}"))
    gone.unlink()
    if again:
        publish(run)
    text, holds = verify(run)
    assert (holds, gone.name in text) == (False, True), text


def _events(run: Path, change: Callable[[list[dict[str, object]]], object]) -> None:
    path = run / "events.ndjson"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    change(events)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def _passed(events: list[dict[str, object]]) -> None:
    for event in events:
        if event.get("verdict") in ("DEVIATES", "FAIL"):
            event |= {"verdict": "PASS", "findings": [], "reason": ""}


def _build(events: list[dict[str, object]]) -> None:
    for event in events:
        for identity in event.get("identities", {}).values():  # type: ignore[attr-defined]
            identity["sha256"] = "ab" * 32


def _removed(events: list[dict[str, object]]) -> None:
    events.remove(next(e for e in events if e.get("verdict") == "DEVIATES"))


def _removed_and_left(events: list[dict[str, object]]) -> None:
    events.remove(next(e for e in events if str(e.get("nodeid")).startswith("fuzz::ROBUST")))


def _removed_and_counted(events: list[dict[str, object]]) -> None:
    _removed(events)
    found = next(e for e in events if e["event"] == "CasesFound")
    found["total"] -= 1  # type: ignore[operator]


@pytest.mark.parametrize("change", [_passed, _build, _removed, _removed_and_counted])
@pytest.mark.parametrize("again", [False, True], ids=["sealed-once", "sealed-again"])
def test_edited_events_are_reported(
    run: Path, change: Callable[[list[dict[str, object]]], object], again: bool
) -> None:
    """A changed verdict is found even if every report and the seal are written again: the packets contradict
    it."""
    _events(run, change)
    if again:
        publish(run)
    text, holds = verify(run)
    assert not holds, text


@pytest.mark.parametrize(
    "name", ["certificate.json", "certificate.html", "index.html", "junit.xml", "summary.md"]
)
def test_an_edited_report_is_reported(run: Path, name: str) -> None:
    """The same after a new seal."""
    path = run / name
    text = path.read_text()
    assert "DEVIATES" in text or name == "certificate.html"
    path.write_text(text.replace("DEVIATES", "PASS").replace("4", "5"))
    seal.write(run)
    text, holds = verify(run)
    assert not holds
    assert name in text


def test_a_replay_and_a_campaign_hold(tmp_path: Path) -> None:
    assert fuzz.main(out=tmp_path / "fuzz", seed=1, examples=12) in (Exit.CONFORMANT, Exit.NOT_CONFORMANT)
    assert verify(tmp_path / "fuzz") == (verify(tmp_path / "fuzz")[0], True)
    for finding in (tmp_path / "fuzz" / "findings").iterdir():
        replay.main(finding, server="system", out=tmp_path / "replay")
        text, holds = verify(tmp_path / "replay")
        assert holds, text


@pytest.mark.parametrize("change", [_passed, _removed_and_left])
def test_an_edited_campaign_is_reported(
    change: Callable[[list[dict[str, object]]], object], tmp_path: Path
) -> None:
    """A failure that was turned into a pass, or taken out; also after new reports and a new seal."""
    run = tmp_path / "fuzz"
    fuzz.main(out=run, seed=1, examples=12)
    assert list((run / "findings").iterdir())
    _events(run, change)
    publish(run)
    text, holds = verify(run)
    assert not holds, text


def test_a_signature(run: Path, tmp_path: Path) -> None:
    """ssh-keygen makes and checks the signature; `verify` refuses a changed manifest, or another's key."""
    tool = shutil.which("ssh-keygen")
    if tool is None:
        pytest.skip("no ssh-keygen")
    key, signers = tmp_path / "key", tmp_path / "signers"
    subprocess.run([tool, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with pytest.raises(UsageError, match="not signed"):
        verify(run, key)
    signers.write_text(f"lab@example.org {key.with_suffix('.pub').read_text()}")
    subprocess.run([tool, "-q", "-Y", "sign", "-f", key, "-n", seal.NAMESPACE, run / seal.FILE], check=True)
    text, holds = verify(run, signers)
    assert holds
    assert "signed by lab@example.org" in text
    (run / seal.FILE).write_text((run / seal.FILE).read_text() + "\n")
    with pytest.raises(UsageError, match="not the signature"):
        verify(run, signers)


def test_a_run_of_an_earlier_suite_holds(run: Path) -> None:
    """Its certificate has fewer keys; an edited one is told all the same."""

    def older(events: list[dict[str, object]]) -> None:
        events[0]["suite"] = "0.0.1"

    _events(run, older)
    publish(run)
    path = run / "certificate.json"
    document = json.loads(path.read_text())
    for entry in document["deviations"]:
        del entry["ends"]
    path.write_text(json.dumps(document))
    seal.write(run)
    text, holds = verify(run)
    assert holds, text
    document["deviations"][0]["reason"] = "another"
    path.write_text(json.dumps(document))
    seal.write(run)
    assert not verify(run)[1]


def test_an_old_run_is_one_line(run: Path) -> None:
    (run / seal.FILE).unlink()
    with pytest.raises(UsageError, match="spice-conform report"):
        verify(run)
    _events(run, lambda events: events[0].pop("format"))
    with pytest.raises(UsageError, match="a run of format 1"):
        verify(run)
