from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.layer import extract, pack, remove_tree
from santiago_platform.domain.errors import ErrorCode, PlatformError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "dist" / "sub").mkdir(parents=True)
    (folder / "dist" / "run").write_text("#!/bin/sh\n")
    (folder / "dist" / "run").chmod(0o700)
    (folder / "dist" / "sub" / "data").write_text("data")
    (folder / "dist" / "link").symlink_to("sub/data")
    (folder / "other").write_text("other")
    return folder


def packed(source: Path, *outputs: str) -> bytes:
    tar = io.BytesIO()
    pack(source, outputs or (".",), tar, mtime=1_700_000_000)
    return tar.getvalue()


def names(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return tar.getnames()


def refused(source: Path, *outputs: str) -> str:
    with pytest.raises(PlatformError) as caught:
        packed(source, *outputs)
    assert caught.value.code is ErrorCode.FAILED_PRECONDITION
    return caught.value.message


def unpacked(content: bytes, tmp_path: Path, *, read_only: bool = True) -> Path:
    target = tmp_path / "unpacked"
    target.mkdir()
    extract(io.BytesIO(content), target, prefix="app", read_only=read_only)
    return target


def hostile(*members: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            content = b"evil" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_a_layer_is_sorted_and_says_nothing_of_who_built_it_and_when(source: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(source))) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 1_700_000_000)}
    assert {m.name: m.mode for m in members if m.isfile()} == {
        "app/dist/run": 0o755, "app/dist/sub/data": 0o644, "app/other": 0o644,
    }  # fmt: skip


def test_the_same_files_are_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first = packed(source)
    os.utime(source / "other", (1, 1))
    (source / "other").chmod(0o600)
    moved = source.rename(tmp_path / "moved")
    assert packed(moved) == first


def test_outputs_choose_by_path_and_by_pattern(source: Path) -> None:
    assert names(packed(source, "other")) == ["app", "app/other"]
    assert names(packed(source, "dist/s*")) == ["app", "app/dist", "app/dist/sub", "app/dist/sub/data"]


def test_what_is_extracted_is_what_was_packed_and_read_only(source: Path, tmp_path: Path) -> None:
    target = unpacked(packed(source), tmp_path)
    assert (target / "dist" / "link").read_text() == "data"
    modes = {p.relative_to(target).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in [target, *target.rglob("*")]}
    assert {modes["."], modes["dist"], modes["dist/run"]} == {0o555}
    assert {modes["other"], modes["dist/sub/data"]} == {0o444}
    assert (target / "other").stat().st_mtime == 1_700_000_000
    remove_tree(target)
    assert not target.exists()


def test_an_output_that_is_not_there_is_refused(source: Path) -> None:
    assert "'build/*'" in refused(source, "build/*")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "sub/../../../secret", ".."])
def test_a_link_out_of_the_tree_is_refused(source: Path, target: str) -> None:
    (source / "dist" / "bad").symlink_to(target)
    if target == "..":
        os.unlink(source / "dist" / "bad")
        (source / "bad").symlink_to("..")
    assert "out of the release" in refused(source)


def test_a_link_out_of_the_tree_by_way_of_another_is_refused(source: Path) -> None:
    (source / "a").symlink_to("dist/sub")
    (source / "b").symlink_to("a/../../../secret")
    assert "out of the release" in refused(source)


def test_files_behind_a_link_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("secret")
    (source / "out").symlink_to(tmp_path / "secrets")
    assert "behind a link" in refused(source, "out/*")
    assert "out of the release" in refused(source, "out")


def test_a_pipe_is_refused(source: Path) -> None:
    os.mkfifo(source / "pipe")
    assert "'pipe'" in refused(source)


def test_a_name_that_is_not_utf_8_is_refused(source: Path) -> None:
    Path(os.fsdecode(os.fsencode(source) + b"/\xff")).write_text("x")
    assert "UTF-8" in refused(source)


def test_a_release_without_files_is_refused(source: Path) -> None:
    (source / "empty").mkdir()
    assert "no files" in refused(source, "empty")


@pytest.mark.parametrize(
    "members",
    [
        [("app/../../evil", tarfile.REGTYPE, "")],
        [("/app/evil", tarfile.REGTYPE, "")],
        [("app/x", tarfile.SYMTYPE, "/tmp"), ("app/x/evil", tarfile.REGTYPE, "")],
        [("app/x", tarfile.SYMTYPE, "..")],
        [("app/x", tarfile.SYMTYPE, "/etc")],
        [("app/x", tarfile.LNKTYPE, "/etc/passwd")],
        [("app/x", tarfile.CHRTYPE, "")],
        [("app/x", tarfile.FIFOTYPE, "")],
        [("app/x", tarfile.REGTYPE, ""), ("app/x", tarfile.REGTYPE, "")],
        [("app/x", tarfile.REGTYPE, ""), ("app/x/y", tarfile.REGTYPE, "")],
        [("app", tarfile.REGTYPE, "")],
    ],
)
def test_a_hostile_layer_is_refused_and_writes_nothing_outside(
    tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    with pytest.raises(PlatformError) as caught:
        unpacked(hostile(*members), tmp_path)
    assert caught.value.code is ErrorCode.DATA_CORRUPT
    assert not [path for path in tmp_path.rglob("evil") if tmp_path / "unpacked" not in path.parents]
