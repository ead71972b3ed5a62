# SPDX-License-Identifier: GPL-2.0-only
"""Fetching from a small Debian archive that the tests make and sign themselves. No network."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fixtures.builds import fetch, mirror, root
from fixtures.builds.cache import MANIFEST, Cache
from fixtures.builds.mirror import Mirror, mirrors
from fixtures.builds.process import run
from fixtures.hosts import HarnessError, Unsupported, UsageError
from reports.cli_builds import builds

pytestmark = pytest.mark.skipif(
    not (shutil.which("apt-get") and shutil.which("gpg") and shutil.which("dpkg-deb")),
    reason="needs apt, dpkg and gpg",
)
_PACKAGES = {"libspice-server1": "1:0.16.9-1", "python3": "3.9-1"}


class Archive:
    """A Debian archive of one suite in a directory."""

    def __init__(self, directory: Path, secret: Path, suite: str = "tiny") -> None:
        self.directory, self.secret, self.suite = directory, secret, suite
        self.architecture = run(["dpkg", "--print-architecture"])[0].strip()
        self.pool = directory / "pool"
        self.pool.mkdir(parents=True)

    @property
    def address(self) -> str:
        return f"file:{self.directory}"

    def add(self, name: str, version: str) -> str:
        """Make a package with a file, a link and a set-user-id program; its paragraph of the index."""
        tree = self.pool / name
        (tree / "DEBIAN").mkdir(parents=True)
        libraries = tree / "usr/lib/some-linux-gnu"
        libraries.mkdir(parents=True)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: tiny\n"
        )
        (tree / "DEBIAN/control").write_text(control)
        (libraries / f"{name}.so").write_text(version)
        if name == "libspice-server1":
            (libraries / "libspice-server.so.1").symlink_to(f"{name}.so")
            (libraries / "ld-linux-some.so.2").touch()
        (tree / "usr/bin").mkdir()
        (tree / "usr/bin" / f"{name}-program").touch()
        (tree / "usr/bin" / f"{name}-program").chmod(0o4755)
        (tree / f"usr/share/doc/{name}").mkdir(parents=True)
        (tree / f"usr/share/doc/{name}/copyright").touch()
        file = self.pool / f"{name}.deb"
        run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", str(tree), str(file)])
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return f"{control}Filename: pool/{name}.deb\nSize: {file.stat().st_size}\nSHA256: {digest}\n"

    def publish(self, packages: dict[str, str]) -> None:
        """Write and sign the index."""
        dist = self.directory / "dists" / self.suite
        index = dist / "main" / f"binary-{self.architecture}" / "Packages"
        index.parent.mkdir(parents=True)
        paragraphs = "\n".join(self.add(name, version) for name, version in packages.items())
        index.write_text(paragraphs)
        digest = hashlib.sha256(index.read_bytes()).hexdigest()
        release = (
            f"Origin: Debian\nSuite: {self.suite}\nCodename: {self.suite}\nComponents: main\n"
            f"Architectures: {self.architecture} all\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
            f"SHA256:\n {digest} {index.stat().st_size} {index.relative_to(dist)}\n"
        )
        (dist / "Release").write_text(release)
        gpg(self.secret, "--clearsign", "--output", str(dist / "InRelease"), str(dist / "Release"))


def gpg(home: Path, *arguments: str) -> None:
    argv = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback"]
    subprocess.run([*argv, "--passphrase", "", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def keys() -> Iterator[tuple[Path, Path]]:
    """gpg's directory with a secret key, and the public key's file."""
    with tempfile.TemporaryDirectory(prefix="spice-keys-") as name:  # a short path: gpg's sockets lie in it
        home = Path(name)
        home.chmod(0o700)
        try:
            gpg(home, "--quick-generate-key", "tiny archive", "rsa2048", "sign", "never")
            gpg(home, "--output", str(home / "public.gpg"), "--export")
            yield home, home / "public.gpg"
        finally:
            subprocess.run(["gpgconf", "--homedir", name, "--kill", "all"], check=False, timeout=60)


@pytest.fixture
def archive(tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive with the packages of a library root, an empty cache, and nothing that would be run."""
    monkeypatch.setenv("SPICE_CONFORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(root, "_try", lambda made, qemu: None)
    made = Archive(tmp_path / "archive", keys[0])
    monkeypatch.setenv("SPICE_CONFORM_MIRROR", made.address)
    monkeypatch.setenv("SPICE_CONFORM_KEYRING", str(keys[1]))
    return made


def test_fetch(archive: Archive) -> None:
    archive.publish(_PACKAGES)
    seen: list[tuple[int, int, str]] = []
    build = fetch("debian:tiny", progress=lambda done, total, what: seen.append((done, total, what)))
    assert (build.version, build.packages) == ("0.16.9", _PACKAGES)
    path = build.path / "root"
    through_merged_usr = path / "lib/some-linux-gnu/python3.so"
    assert through_merged_usr.read_text() == "3.9-1"
    assert (path / "usr/bin/python3-program").stat().st_mode & 0o7777 == 0o755
    assert not (path / "usr/share/doc/python3").exists()
    assert {what.split()[0] for _, _, what in seen} == {"reading", "downloading", "unpacking", "trying"}
    assert all(0 <= done <= total for done, total, _ in seen)
    assert Cache().unfinished() == {}


def test_what_is_there_is_not_fetched_again_unless_asked(archive: Archive) -> None:
    archive.publish(_PACKAGES)
    made = (fetch("debian:tiny").path / MANIFEST).stat().st_ino
    shutil.rmtree(archive.directory)
    assert (fetch("debian:tiny").path / MANIFEST).stat().st_ino == made
    with pytest.raises(UsageError, match="no suite"):
        fetch("debian:tiny", again=True)
    assert Cache().has("debian-tiny")


def test_an_unknown_suite(archive: Archive) -> None:
    archive.publish(_PACKAGES)
    result = CliRunner().invoke(builds, ["fetch", "debian:large"])
    assert (result.exit_code, "there is no suite large" in result.stderr) == (2, True)
    assert Cache().unfinished() == {}


def test_a_package_that_is_gone(archive: Archive) -> None:
    archive.publish({"python3": "3.9-1"})
    with pytest.raises(Unsupported, match="libspice-server1"):
        fetch("debian:tiny")
    assert CliRunner().invoke(builds, ["fetch", "debian:tiny"]).exit_code == 3


def test_a_key_that_does_not_verify(archive: Archive, tmp_path: Path) -> None:
    archive.publish(_PACKAGES)
    (tmp_path / "other.gpg").write_bytes(b"")
    with pytest.raises(HarnessError, match=r"does not verify with .*other\.gpg"):
        fetch("debian:tiny", keyring=str(tmp_path / "other.gpg"))


def test_an_archive_that_is_not_signed(archive: Archive) -> None:
    archive.publish(_PACKAGES)
    (archive.directory / "dists/tiny/InRelease").unlink()
    with pytest.raises(HarnessError, match="does not verify"):
        fetch("debian:tiny")


def test_a_package_that_was_tampered_with(archive: Archive) -> None:
    archive.publish(_PACKAGES)
    file = archive.pool / "python3.deb"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(HarnessError, match="apt cannot fetch"):
        fetch("debian:tiny")
    assert Cache().names() == []


def test_no_archive_at_all(archive: Archive) -> None:
    with pytest.raises(HarnessError, match=r"apt cannot fetch tiny at http://127\.0\.0\.1:1"):
        fetch("debian:tiny", mirror="http://user:secret@127.0.0.1:1")


def test_a_password_is_not_shown() -> None:
    assert Mirror("http://user:secret@host/debian").shown == "http://host/debian"


@pytest.mark.parametrize("deb822", [True, False])
def test_the_mirror_is_the_one_of_the_machines_apt(
    deb822: bool, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both formats; security and foreign archives are left out, the entry's own keys are taken."""
    parts, key = tmp_path / "parts", keys[1]
    parts.mkdir()
    if deb822:
        (parts / "a.sources").write_text(
            "# a comment\n\nTypes: deb\nURIs: http://security.invalid/debian-security\nSuites: s-security\n"
            f"Components: main\n\nTypes: deb deb-src\nURIs: http://mirror.invalid/debian/\n"
            f"Suites: s s-updates\nComponents: main contrib\nSigned-By: {key}\n"
        )
    else:
        (tmp_path / "sources.list").write_text(
            "# a comment\ndeb http://security.invalid/debian-security s-security main\n"
            f"deb [signed-by={key} arch=amd64] http://mirror.invalid/debian/ s main contrib\n"
            "deb http://mirror.invalid/debian s-updates main\ndeb http://other.invalid s stable\n"
        )
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "{parts}";\n'
        f'Dir::State "{tmp_path}";\nDir::Cache "{tmp_path}";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.delenv("SPICE_CONFORM_MIRROR", raising=False)
    monkeypatch.delenv("SPICE_CONFORM_KEYRING", raising=False)
    monkeypatch.setattr(mirror, "release_of_machine", lambda: {"ID": "debian"})
    (found,) = mirrors()
    assert found.address == "http://mirror.invalid/debian"
    assert found.keyrings[0] == str(key)
    monkeypatch.setattr(mirror, "release_of_machine", lambda: {"ID": "other"})
    with pytest.raises(UsageError, match="--mirror and --keyring"):
        mirrors()


def test_without_apt_it_is_said_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"no apt-get here.*lib:PATH"):
        mirrors()


def test_the_manifest_tells_where_a_build_came_from(archive: Archive) -> None:
    archive.publish(_PACKAGES)
    manifest = json.loads((fetch("debian:tiny").path / MANIFEST).read_text())
    assert (manifest["suite"], manifest["mirror"]) == ("tiny", archive.address)
    assert manifest["size"] > 0
