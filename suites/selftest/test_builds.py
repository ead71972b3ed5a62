# SPDX-License-Identifier: GPL-2.0-only
"""SPECs, what they resolve to, and `spice-conform builds`. No network."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fixtures.builds import Build, Kind, parse, resolve, store
from fixtures.builds import build as build_module
from fixtures.builds.build import upstream
from fixtures.builds.cache import MANIFEST, Cache
from fixtures.builds.root import PrivateRoot
from fixtures.hosts import HarnessError, UsageError
from reports.cli_builds import builds


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache for each test."""
    monkeypatch.setenv("SPICE_CONFORM_CACHE", str(tmp_path / "cache"))
    return Cache()


def fill(cache: Cache, spec: str, **manifest: object) -> Path:
    """Put a build with the files of a private root into the cache."""
    name = parse(spec).entry
    with cache.stage(name) as stage:
        libraries = stage.new / "root/usr/lib/some-linux-gnu"
        (libraries / "private").mkdir(parents=True)
        for file in ("libspice-server.so.1", "ld-linux-some.so.2", "private/libhelper.so.3"):
            (libraries / file).write_bytes(b"x")
        whole = {"version": "0.15.2", "packages": {}, "size": 5, **manifest}
        (stage.new / MANIFEST).write_text(json.dumps(whole))
        cache.install(stage)
    return cache.path(name)


@pytest.mark.parametrize(
    ("text", "kind", "value", "qemu", "cached"),
    [
        ("system", Kind.SYSTEM, "", False, False),
        ("lib:/a b/c:d.so", Kind.LIBRARY, "/a b/c:d.so", False, False),
        ("qemu:qemu-system-x86_64", Kind.QEMU, "qemu-system-x86_64", True, False),
        ("debian:trixie", Kind.DEBIAN, "trixie", False, True),
        ("debian:sid/qemu", Kind.DEBIAN, "sid", True, True),
        ("source:asan", Kind.SOURCE, "asan", False, True),
        ("source:asan/qemu", Kind.SOURCE, "asan", True, True),
        ("./lab:1/site.toml", Kind.REMOTE, "./lab:1/site.toml", False, False),
    ],
)
def test_spec(text: str, kind: Kind, value: str, qemu: bool, cached: bool) -> None:
    spec = parse(text)
    assert (spec.kind, spec.value, spec.qemu, spec.cached) == (kind, value, qemu, cached)


@pytest.mark.parametrize(
    "text",
    [
        *("", "System", "lib:", "qemu:", "debian", "debian:", "debian:../x", "debian:trixie/"),
        *("debian:trixie/kvm", "source:", "source:fast", "source:asan/x", "/usr/lib/libspice-server.so.1"),
    ],
)
def test_bad_spec_is_one_line_that_lists_the_forms(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert "debian:SUITE[/qemu]" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_source_build_is_one_for_both_ways_and_a_suite_two() -> None:
    assert parse("source:plain").entry == parse("source:plain/qemu").entry
    assert parse("debian:trixie").entry != parse("debian:trixie/qemu").entry


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1:7.2+dfsg-7+deb12u18", "7.2+dfsg"), ("0.14.3-2.1", "0.14.3"), ("0.15.2-1+b1", "0.15.2"), ("3", "3")],
)
def test_upstream_version(version: str, expected: str) -> None:
    assert upstream(version) == expected


def test_a_library_by_path_runs_in_our_own_interpreter(tmp_path: Path) -> None:
    library = tmp_path / "libspice-server.so.1"
    shutil.copy(Path("/proc/self/exe").resolve(), library)
    runtime = resolve(f"lib:{library}").runtime()
    assert (runtime.argv, runtime.environment, runtime.library) == ((sys.executable,), {}, str(library))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no file at"),
        (b"", "not a shared library"),
        (b"#!/bin/sh\n", "not a shared library"),
        (b"\x7fELF\x01\x01" + bytes(30), "not a shared library for this machine"),
    ],
)
def test_what_is_no_library(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "lib.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=complaint):
        resolve(f"lib:{path}")


def test_what_is_no_qemu(tmp_path: Path) -> None:
    (tmp_path / "qemu").write_text("not executable")
    with pytest.raises(UsageError, match="not a program"):
        resolve(f"qemu:{tmp_path / 'qemu'}")


def test_a_remote_deployment_is_no_build() -> None:
    with pytest.raises(UsageError, match="remote deployment"):
        resolve("site.toml")


def test_without_an_installed_library_the_release_of_the_machine_is_fetched(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, "debian:trixie")
    monkeypatch.setattr(store, "installed_library", lambda: None)
    monkeypatch.setattr(store, "release_of_machine", lambda: {"ID": "debian", "VERSION_CODENAME": "trixie"})
    said: list[str] = []
    build = resolve("system", say=said.append)
    assert (build.spec, build.path) == ("system", cache.path("debian-trixie"))
    assert "not installed" in said[0]
    assert "debian:trixie" in said[0]


def test_without_debian_it_is_said_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "installed_library", lambda: None)
    monkeypatch.setattr(store, "release_of_machine", lambda: {"ID": "other", "PRETTY_NAME": "Other 1"})
    with pytest.raises(UsageError, match=r"not installed on Other 1: .*lib:PATH"):
        resolve("system")
    with pytest.raises(UsageError, match="Other 1 is not Debian"):
        resolve("source:plain")


def test_nothing_of_the_machine_is_in_the_way_a_private_root_runs(cache: Cache) -> None:
    path = fill(cache, "debian:trixie")
    runtime = resolve("debian:trixie").runtime()
    libraries = path / "root/usr/lib/some-linux-gnu"
    assert runtime.argv[0] == str(libraries / "ld-linux-some.so.2")
    assert runtime.library == str(libraries / "libspice-server.so.1")
    assert str(libraries / "private") in runtime.argv[runtime.argv.index("--library-path") + 1].split(":")
    paths = [value for value in runtime.environment.values() if value.startswith("/")]
    assert all(value.startswith(str(path)) for value in paths)
    argv, environment = PrivateRoot(path / "root").program()
    assert str(path / "root/usr/share/seabios") in argv
    assert environment["QEMU_MODULE_DIR"] == str(libraries / "qemu")


def test_a_library_build_has_no_qemu_and_a_qemu_build_no_library(cache: Cache) -> None:
    fill(cache, "debian:trixie")
    fill(cache, "debian:trixie/qemu", packages={"qemu-system-x86": "1:10.0.13+ds-0+deb13u1"})
    with pytest.raises(UsageError, match="is a library"):
        resolve("debian:trixie").qemu_command()
    qemu = resolve("debian:trixie/qemu")
    assert qemu.qemu_version == "10.0.13"
    with pytest.raises(UsageError, match="is a QEMU"):
        qemu.runtime()


def test_instrumented_builds_bring_what_their_code_needs(cache: Cache) -> None:
    common = {"library": "lib/libspice-server.so.1", "packages": {"spice": "0.15.1-1"}, "built_in": "/a/b/c"}
    asan = fill(cache, "source:asan", variant="asan", preload="/x/libasan.so.8", **common)
    coverage = fill(cache, "source:coverage", variant="coverage", preload="", **common)
    assert resolve("source:asan").runtime().environment["LD_PRELOAD"] == "/x/libasan.so.8"
    assert resolve("source:asan").runtime().library == str(asan / "lib/libspice-server.so.1")
    counts = resolve("source:coverage").runtime().environment
    assert counts == {"GCOV_PREFIX": str(coverage), "GCOV_PREFIX_STRIP": "3"}


def test_a_damaged_build_is_one_line(cache: Cache) -> None:
    (fill(cache, "debian:trixie") / MANIFEST).write_text("{")
    with pytest.raises(HarnessError, match="damaged"):
        resolve("debian:trixie")


def run_cli(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(builds, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_list_and_delete(cache: Cache) -> None:
    fill(cache, "debian:sid/qemu", packages={"qemu-system-x86": "1:11.1-1"}, size=123)
    with cache.stage("debian-trixie") as stage:
        (stage.keep / "half.deb").write_bytes(b"x" * 9000)
    status, out, _ = run_cli("list", "--json")
    rows = {row["spec"]: row for row in json.loads(out)["builds"]}
    assert status == 0
    assert rows["debian:sid/qemu"]["state"] == "ready"
    assert (rows["debian:sid/qemu"]["qemu"], rows["debian:sid/qemu"]["bytes"]) == ("11.1", 123)
    assert rows["debian:trixie"]["state"] == "unfinished"
    assert rows["debian:forky"]["state"] == "to fetch"
    assert run_cli("list")[0] == 0
    assert run_cli("delete", "--all")[0] == 0
    assert (cache.names(), cache.unfinished()) == ([], {})
    assert "is not here" in run_cli("delete", "debian:sid/qemu")[1]


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("fetch", "nonsense"), 2, "names no server"),
        (("fetch", "system"), 2, "is not fetched"),
        (("fetch",), 2, "Missing argument"),
        (("delete",), 2, "--all"),
        (("delete", "system"), 2, "not in the cache"),
        (("fetch", "--keyring", "/nowhere", "debian:trixie"), 2, "no keyring at /nowhere"),
    ],
)
def test_what_goes_wrong_is_a_line_and_a_status(
    arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    code, _, err = run_cli(*arguments)
    assert code == status
    assert complaint in err


def test_a_cache_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPICE_CONFORM_CACHE", str(tmp_path / "file"))
    code, _, err = run_cli("list")
    assert (code, err.count("\n")) == (3, 1)
    monkeypatch.setenv("SPICE_CONFORM_CACHE", str(tmp_path / "a:b"))
    assert run_cli("list")[0] == 2


def test_the_installed_library_is_told_by_its_package() -> None:
    installed = build_module.installed_library()
    if installed is None:
        pytest.skip("libspice-server is not installed")
    build = resolve("system")
    assert isinstance(build, Build)
    assert Path(build.runtime().library).is_file()
