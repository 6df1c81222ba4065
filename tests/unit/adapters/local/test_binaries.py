from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.local import binaries
from santiago_platform.adapters.local.binaries import FETCHED, NAMES, find, keep, missing
from santiago_platform.domain.errors import ErrorCode, PlatformError

Place = Callable[..., Path]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty PATH and an empty cache."""
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def on_path(machine: Path) -> Place:
    return lambda name, text="on PATH": _program(machine / "path" / name, text)


@pytest.fixture
def in_cache(machine: Path) -> Place:
    """A fetched package's file."""
    return lambda package, inside, text="fetched": _program(binaries.cache_directory() / package / inside, text)


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_program_on_path_comes_before_a_fetched_one(on_path: Place, in_cache: Place) -> None:
    fetched = in_cache("prometheus", "usr/bin/prometheus")
    assert (found := find("prometheus")) is not None
    assert (found.path, found.source) == (fetched, FETCHED)
    installed = on_path("prometheus")
    assert (found := find("prometheus")) is not None
    assert (found.path, found.source, found.libraries) == (installed, "PATH", None)


def test_a_distribution_may_name_a_program_otherwise(on_path: Place) -> None:
    path = on_path("prometheus-alertmanager")
    assert (found := find("alertmanager")) is not None
    assert found.path == path


def test_what_is_missing_is_named(on_path: Place) -> None:
    on_path("s6-log")
    assert missing() == [name for name in NAMES if name != "s6-log"]
    with pytest.raises(PlatformError) as caught:
        keep("promtool", Path("/nowhere"))
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    assert "promtool" in caught.value.message
    assert "doctor --fetch" in caught.value.hint


def test_a_machine_without_apt_is_told_what_to_install(on_path: Place) -> None:
    on_path("s6-log")
    with pytest.raises(PlatformError) as caught:
        binaries.fetch()
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert "no apt-get" in caught.value.message
    for name in NAMES:
        assert (name in caught.value.message) == (name != "s6-log")
    assert "on PATH" in caught.value.hint


def test_a_package_mirror_that_fails_is_reported_in_its_own_words(on_path: Place) -> None:
    for tool in ("apt-cache", "dpkg", "dpkg-query"):
        on_path(tool, "#!/bin/sh\n")
    on_path("apt-get", "#!/bin/sh\necho 'E: no mirror answers' >&2\nexit 100\n")
    with pytest.raises(PlatformError, match="no mirror answers") as caught:
        binaries.fetch()
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert list(binaries.cache_directory().glob("[!.]*")) == []


def test_nothing_is_fetched_where_nothing_is_missing(on_path: Place) -> None:
    for name in NAMES:
        on_path(name)
    binaries.fetch(report=lambda text: pytest.fail(text))


def test_a_kept_program_survives_its_source_and_its_cache(machine: Path, in_cache: Place) -> None:
    source = in_cache("prometheus", "usr/bin/prometheus")
    first = keep("prometheus", machine / "bin")
    assert keep("prometheus", machine / "bin") == first
    source.unlink()
    assert first.path.read_text() == "fetched"
    assert first.path.stat().st_mode & 0o111
    assert keep("prometheus", machine / "bin") == first


def test_a_new_version_is_kept_beside_the_old_one(machine: Path, on_path: Place) -> None:
    old = keep("s6-log", machine / "bin") if on_path("s6-log", "old") else None
    (machine / "path" / "s6-log").unlink()
    on_path("s6-log", "new")
    new = keep("s6-log", machine / "bin")
    assert old is not None
    assert (old.path.read_text(), new.path.read_text()) == ("old", "new")


def test_a_kept_program_has_its_libraries_and_they_survive_too(machine: Path, in_cache: Place) -> None:
    in_cache("s6", "usr/bin/s6-log")
    library = in_cache("s6", "usr/lib/x86_64-linux-gnu/libs6.so.2.11")
    library.with_name("libs6.so").symlink_to(library.name)
    first = keep("s6-log", machine / "bin")
    shutil.rmtree(binaries.cache_directory())
    assert first.libraries is not None
    assert sorted(p.name for p in first.libraries.iterdir()) == ["libs6.so", "libs6.so.2.11"]
    assert (first.libraries / "libs6.so").read_text() == "fetched"
    assert keep("s6-log", machine / "bin") == first


def test_what_a_fetched_program_opens_by_an_absolute_path_is_laid_where_it_runs(
    machine: Path, in_cache: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = binaries.Package("one", {"one": "usr/bin/one"}, compiled_in={"one": "usr/share/nowhere/one-data"})
    monkeypatch.setattr(binaries, "PACKAGES", (package,))
    absolute = b"/usr/share/nowhere/one-data"
    in_cache("one", "usr/bin/one").write_bytes(b"\0before" + absolute + b"\0" + absolute + b"/index.html\0after")
    in_cache("one", "usr/share/nowhere/one-data/index.html", "data")
    where = machine / "run"
    first = keep("one", machine / "bin", where)
    patched = first.path.read_bytes()
    assert len(patched) == len(b"\0before" + absolute + b"\0" + absolute + b"/index.html\0after")
    assert absolute not in patched
    _, relative, beneath, _ = patched.split(b"\0")
    relative = relative.removeprefix(b"before")
    assert (where / relative.decode() / "index.html").read_text() == "data"
    assert (where / beneath.decode()).read_text() == "data"
    shutil.rmtree(binaries.cache_directory())
    assert keep("one", machine / "bin", where) == first
    assert (where / beneath.decode()).read_text() == "data"


def test_a_program_on_path_is_left_as_it_is(machine: Path, on_path: Place) -> None:
    on_path("alertmanager")
    kept = keep("alertmanager", machine / "bin", machine / "run")
    assert not kept.path.name.endswith("relocated")
    assert not (machine / "run").exists()
