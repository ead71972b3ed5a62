# SPDX-License-Identifier: GPL-2.0-only
"""The seal of a run: `manifest.json` holds the SHA-256 of every file that the run has written.

`evidence` lists what was recorded (events, packets, logs, findings), `reports` what was made of it, `beside`
names what was in the directory and is not the run's. The seal is the SHA-256 of the evidence's list;
certificate, page and terminal show it. The manifest can be signed:

    ssh-keygen -Y sign -f KEY -n spice-conformance RUN/manifest.json      (writes RUN/manifest.json.sig)
    spice-conform verify RUN --signers FILE      (FILE: see ssh-keygen(1), ALLOWED SIGNERS)
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtures.system.hosts import UsageError
from reports.run.run_directory import EVIDENCE, OUTPUTS, REPORTS

FILE = "manifest.json"
SIGNATURE = f"{FILE}.sig"
NAMESPACE = "spice-conformance"
FORMAT = 1
SIGNING_SECONDS = 20.0


@dataclass(frozen=True)
class Manifest:
    """Path relative to the run's directory -> SHA-256 (hex). `beside`: names of other files in that
    directory."""

    evidence: Mapping[str, str]
    reports: Mapping[str, str]
    beside: tuple[str, ...] = ()

    @property
    def seal(self) -> str:
        """SHA-256 (hex) of the evidence's list."""
        return hashlib.sha256(_canonical(self.evidence)).hexdigest()

    @property
    def text(self) -> bytes:
        """The text of the file."""
        content = {
            "format": FORMAT,
            "seal": self.seal,
            "evidence": self.evidence,
            "reports": self.reports,
        } | ({"beside": self.beside} if self.beside else {})
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def evidence_of(directory: Path) -> dict[str, str]:
    """The evidence of a run. Raises OSError."""
    return dict(_hashes(directory, EVIDENCE))


def write(directory: Path) -> Manifest:
    """Seals a directory whose evidence and reports are complete. Raises OSError."""
    names = {entry.name for entry in directory.iterdir() if not entry.name.startswith(".")}
    beside = tuple(sorted(names.difference(OUTPUTS)))
    made = Manifest(evidence_of(directory), dict(_hashes(directory, REPORTS)), beside)
    (directory / SIGNATURE).unlink(missing_ok=True)  # of an earlier manifest
    (directory / FILE).write_bytes(made.text)
    return made


def read(directory: Path) -> Manifest:
    """Reads the manifest of a directory. Raises UsageError with one line."""
    path = directory / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        made = Manifest(dict(data["evidence"]), dict(data["reports"]), tuple(data.get("beside", ())))
        if data["seal"] != made.seal:
            raise UsageError(f"{path}: the seal does not fit the files that the manifest lists")
    except OSError as error:
        why = "a run from before runs were sealed, or one that was killed; write its reports with"
        raise UsageError(f"{path}: {error.strerror}: {why} `spice-conform report {directory}`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a manifest: {error}") from None
    return made


def broken(directory: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each file that differs from the seal."""
    if (directory / FILE).read_bytes() != manifest.text:
        yield f"{FILE}: was changed after the run was sealed"
    sealed = {**manifest.evidence, **manifest.reports}
    names = {entry.name for entry in directory.iterdir()}
    found = dict(_hashes(directory, sorted(names.difference((FILE, SIGNATURE, *manifest.beside)))))
    for path in sorted(sealed.keys() | found.keys()):
        if path not in found:
            yield f"{path}: is missing"
        elif path not in sealed:
            yield f"{path}: was not there when the run was sealed"
        elif sealed[path] != found[path]:
            yield f"{path}: was changed after the run was sealed"


def signed_by(directory: Path, signers: Path) -> str:
    """The signer of the manifest, if a file of allowed signers lists it. Raises UsageError if there is
    none."""
    tool = shutil.which("ssh-keygen")
    if tool is None:
        raise UsageError("ssh-keygen is not here; install OpenSSH's client to check signatures")
    manifest, signature = directory / FILE, directory / SIGNATURE
    if not signature.exists():
        raise UsageError(f"{signature} does not exist: the run is not signed")
    finding = [tool, "-Y", "find-principals", "-s", str(signature), "-f", str(signers)]
    who = _run(finding, b"").splitlines()
    if not who:
        raise UsageError(f"{signature}: not signed by anybody in {signers}")
    checking = [tool, "-Y", "verify", "-f", str(signers), "-I", who[0], "-n", NAMESPACE, "-s", str(signature)]
    if not _run(checking, manifest.read_bytes()):
        raise UsageError(f"{signature}: not the signature of this {FILE}")
    return who[0]


def _run(command: list[str], data: bytes) -> str:
    """The output of a tool; empty if it fails."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=SIGNING_SECONDS, check=False)
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def _canonical(hashes: Mapping[str, str]) -> bytes:
    return json.dumps(hashes, sort_keys=True, separators=(",", ":")).encode()


def _hashes(directory: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        top = directory / name
        files = sorted(p for p in top.rglob("*") if p.is_file()) if top.is_dir() else [top] * top.is_file()
        for path in files:
            with path.open("rb") as file:
                yield path.relative_to(directory).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()
