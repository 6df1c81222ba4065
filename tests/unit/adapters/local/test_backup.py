"""Backup and restore of a workspace that is not running; the running one is in tests/e2e/test_life.py."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from santiago_platform.adapters.artifacts.artifacts import LocalArtifacts
from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.backup import MANIFEST, back_up
from santiago_platform.adapters.local.port_registry import PortRegistry
from santiago_platform.adapters.local.restore import Restored, restore
from santiago_platform.adapters.secrets.file import FileSecrets
from santiago_platform.adapters.ship_log.ship_log import FileShipLog
from santiago_platform.adapters.stores.sqlite import SqliteStore
from santiago_platform.adapters.system import SystemClock
from santiago_platform.adapters.workspace.init import init_workspace
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.identity import Principal, Role, Token
from santiago_platform.domain.secret import Secret
from santiago_platform.domain.ship_log import Draft, EntryKind


@pytest.fixture
async def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A workspace with a row, a release, a key, two entries in the ship's log, and files of a service."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    layout = Layout.of(tmp_path / "harbour")
    await init_workspace(layout.root)
    clock = SystemClock()
    store = SqliteStore(layout.database)
    owner = Principal(name="owner", role=Role.OWNER)
    token = Token(id="one", secret_sha256="0" * 64, principal=owner, created_at=clock.now())
    await store.write(lambda tx: tx.save_token(token))
    log = FileShipLog(layout.ship_log, layout.keys, clock)
    for number in range(2):
        await log.append(
            Draft(
                kind=EntryKind.NOTED,
                action="test",
                principal="owner",
                role="owner",
                tenant="default",
                subject=f"{number}",
            )
        )
    artifacts = LocalArtifacts(layout, clock)
    await artifacts.build("hello", await artifacts.resolve("HEAD"))
    await log.close()
    await store.close()
    volume = layout.state / "volumes" / "shop__production" / "data"
    volume.mkdir(parents=True)
    (volume / "file with a ü").write_bytes(b"\0" * 10_000)
    (volume / "link").symlink_to("file with a ü")
    (volume / "run").write_text("#!/bin/sh\n")
    (volume / "run").chmod(0o755)
    os.mkfifo(volume / "pipe")
    (layout.root / "untracked.txt").write_text("not committed yet")
    return layout


@pytest.fixture
def backup(layout: Layout, tmp_path: Path) -> Path:
    back_up(layout, tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def refused(call: Callable[[], object]) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        call()
    return caught.value


def altered(backup: Path, change: Callable[[tarfile.TarInfo, bytes], bytes | None]) -> Path:
    """The same tar, with each member's bytes as `change` gives them; None leaves it out."""
    target = backup.with_name("altered.tar")
    with tarfile.open(backup) as before, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as after:
        for member in before:
            opened = before.extractfile(member) if member.isreg() else None
            content = change(member, opened.read() if opened else b"")
            if content is not None:
                member.size = len(content)
                after.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return target


async def test_what_is_restored_is_what_was_backed_up(layout: Layout, backup: Path, tmp_path: Path) -> None:
    made = restore(backup, tmp_path / "elsewhere")
    other = Layout.of(tmp_path / "elsewhere")
    assert made.workspace == str(layout.root)
    assert made.ship_log is not None
    assert (made.ship_log.intact, made.ship_log.entries) == (True, 2)
    store = SqliteStore(other.database)
    assert [token.id for token in await store.read(lambda view: view.tokens())] == ["one"]
    await store.close()
    artifacts = LocalArtifacts(other, SystemClock())
    (release,) = await artifacts.list()
    assert await artifacts.resolve("HEAD") == release.commit
    assert (await artifacts.unpack(release.digest) / "server.py").is_file()
    for path in ("santiago.yaml", "untracked.txt", "services/hello/server.py", ".santiago/keys/ship-log.key"):
        assert (other.root / path).read_bytes() == (layout.root / path).read_bytes(), path


async def test_secrets_come_with_their_key(layout: Layout, tmp_path: Path) -> None:
    secret = Secret(environment="production", name="password")
    await FileSecrets(layout.secrets, layout.keys, SystemClock()).put(secret, "planted-value")
    back_up(layout, tmp_path / "backup.tar")
    assert b"planted-value" not in (tmp_path / "backup.tar").read_bytes()
    restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
    other = Layout.of(tmp_path / "elsewhere")
    assert await FileSecrets(other.secrets, other.keys, SystemClock()).value(secret, 1) == "planted-value"
    assert {path.stat().st_mode & 0o777 for path in (other.secrets, other.keys / "secrets.key")} == {0o600}


def test_files_keep_their_modes_links_and_names(backup: Path, tmp_path: Path) -> None:
    restore(backup, tmp_path / "elsewhere")
    volume = tmp_path / "elsewhere/.santiago/volumes/shop__production/data"
    assert (volume / "file with a ü").read_bytes() == b"\0" * 10_000
    assert os.readlink(volume / "link") == "file with a ü"
    assert (volume / "run").stat().st_mode & 0o777 == 0o755
    assert not (volume / "pipe").exists()
    assert (tmp_path / "elsewhere/.santiago").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "elsewhere/.santiago/keys/ship-log.key").stat().st_mode & 0o777 == 0o600


def test_the_repository_comes_with_its_branches_and_the_working_tree_as_it_stood(
    layout: Layout, tmp_path: Path
) -> None:
    git(layout.root, "branch", "other")
    (layout.root / "santiago.yaml").write_text((layout.root / "santiago.yaml").read_text() + "# mine\n")
    before = [git(layout.root, "status", "--short"), git(layout.root, "branch"), git(layout.root, "log", "--oneline")]
    back_up(layout, tmp_path / "backup.tar")
    restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
    other = tmp_path / "elsewhere"
    assert [git(other, "status", "--short"), git(other, "branch"), git(other, "log", "--oneline")] == before


def test_a_repository_without_a_branch_checked_out_comes_back_so(layout: Layout, tmp_path: Path) -> None:
    git(layout.root, "checkout", "--detach")
    back_up(layout, tmp_path / "backup.tar")
    restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
    assert git(tmp_path / "elsewhere", "rev-parse", "HEAD") == git(layout.root, "rev-parse", "HEAD")


def test_a_workspace_without_git_is_backed_up_all_the_same(layout: Layout, tmp_path: Path) -> None:
    (layout.root / ".git").rename(tmp_path / "away")
    back_up(layout, tmp_path / "backup.tar")
    made = restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
    assert not made.repository
    assert (tmp_path / "elsewhere/services/hello/score.yaml").exists()


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_backup_is_private_and_leaves_nothing_else(layout: Layout, backup: Path, tmp_path: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["backup.tar"]
    assert list(layout.state.glob("backup-*")) == []


def test_a_backup_within_the_workspace_does_not_hold_itself(layout: Layout) -> None:
    back_up(layout, layout.root / "backup.tar")
    with tarfile.open(layout.root / "backup.tar") as tar:
        assert [name for name in tar.getnames() if "backup.tar" in name] == []


def test_a_file_that_exists_is_not_overwritten(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    assert refused(lambda: back_up(layout, tmp_path / "precious")).code is ErrorCode.CONFLICT
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_platform_that_was_never_started_has_nothing_to_back_up(tmp_path: Path) -> None:
    problem = refused(lambda: back_up(Layout.of(tmp_path), tmp_path / "backup.tar"))
    assert problem.code is ErrorCode.FAILED_PRECONDITION


def test_a_damaged_database_is_not_taken_for_a_backup(layout: Layout, tmp_path: Path) -> None:
    content = bytearray(layout.database.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    layout.database.write_bytes(content)
    assert refused(lambda: back_up(layout, tmp_path / "backup.tar")).code is ErrorCode.DATA_CORRUPT
    assert list(tmp_path.glob("*backup*")) == []


def test_rows_that_are_written_meanwhile_do_not_disturb_it(layout: Layout, tmp_path: Path) -> None:
    with sqlite3.connect(layout.database) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE token SET document = 'half'")
        back_up(layout, tmp_path / "backup.tar")
        writer.rollback()
    restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
    with sqlite3.connect(Layout.of(tmp_path / "elsewhere").database) as rows:
        assert rows.execute("SELECT count(*) FROM token WHERE document = 'half'").fetchone() == (0,)


def test_a_file_that_is_cut_while_it_is_read_is_told(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstat

    def longer(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        if "file with a" not in os.readlink(f"/proc/self/fd/{descriptor}"):
            return found
        return os.stat_result((*found[:6], found.st_size + 7, *found[7:10]))

    monkeypatch.setattr(os, "fstat", longer)
    made = back_up(layout, tmp_path / "backup.tar")
    assert [name.rpartition("/")[2] for name in made.changed] == ["file with a ü"]
    restore(tmp_path / "backup.tar", tmp_path / "elsewhere")


# --- restoring


@pytest.mark.parametrize("there", ["a file", "a folder with something in it", "a link"])
def test_nothing_is_restored_over_something(backup: Path, tmp_path: Path, there: str) -> None:
    place = tmp_path / "elsewhere"
    if there == "a file":
        place.touch()
    elif there == "a link":
        place.symlink_to(tmp_path)
    else:
        place.mkdir()
        (place / "precious").touch()
    assert refused(lambda: restore(backup, place)).code is ErrorCode.FAILED_PRECONDITION


def test_an_empty_folder_will_do(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    restore(backup, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere/santiago.yaml").exists()


Change = Callable[[tarfile.TarInfo, bytes], bytes | None]


def flipped(member: tarfile.TarInfo, content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:] if member.name.endswith("platform.db") else content


def without_a_file(member: tarfile.TarInfo, content: bytes) -> bytes | None:
    return None if member.name.endswith("ship-log.key") else content


def without_manifest(member: tarfile.TarInfo, content: bytes) -> bytes | None:
    return None if member.name == MANIFEST else content


def with_a_stranger(member: tarfile.TarInfo, content: bytes) -> bytes:
    if member.name == MANIFEST:
        known = json.loads(content)
        known["sha256"].popitem()
        return json.dumps(known).encode()
    return content


def climbing(member: tarfile.TarInfo, content: bytes) -> bytes:
    if member.name.endswith("untracked.txt"):
        member.name = "workspace/../../../climbed"
    return content


def with_half_a_manifest(member: tarfile.TarInfo, content: bytes) -> bytes:
    return content[: len(content) // 2] if member.name == MANIFEST else content


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (flipped, "platform.db was changed"),
        (without_a_file, "ship-log.key is missing"),
        (without_manifest, "no manifest"),
        (with_a_stranger, "not in its manifest"),
        (climbing, "climbed"),
        (with_half_a_manifest, "manifest cannot be read"),
    ],
)
def test_a_backup_that_was_changed_is_refused_and_leaves_nothing(
    backup: Path, tmp_path: Path, change: Change, says: str
) -> None:
    problem = refused(lambda: restore(altered(backup, change), tmp_path / "elsewhere"))
    assert problem.code is ErrorCode.DATA_CORRUPT
    assert says in problem.message
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "climbed").exists()
    assert list(tmp_path.glob(".elsewhere*")) == []


def test_a_link_does_not_lead_what_follows_it_out_of_the_folder(backup: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = backup.with_name("altered.tar")
    with tarfile.open(target, "w") as tar:
        link = tarfile.TarInfo("workspace")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("workspace/file"), io.BytesIO())
    assert refused(lambda: restore(target, tmp_path / "elsewhere")).code is ErrorCode.DATA_CORRUPT
    assert list(outside.iterdir()) == []


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(os.urandom(5000))
    assert refused(lambda: restore(tmp_path / "x", tmp_path / "elsewhere")).code is ErrorCode.DATA_CORRUPT
    assert refused(lambda: restore(tmp_path / "y", tmp_path / "elsewhere")).code is ErrorCode.NOT_FOUND


def test_a_backup_of_a_newer_version_is_refused_in_words(backup: Path, tmp_path: Path) -> None:
    def newer(member: tarfile.TarInfo, content: bytes) -> bytes:
        return content.replace(b'"form": 1', b'"form": 2') if member.name == MANIFEST else content

    problem = refused(lambda: restore(altered(backup, newer), tmp_path / "elsewhere"))
    assert problem.code is ErrorCode.FAILED_PRECONDITION
    assert "form 2; this version of the platform knows 1" in problem.message


# --- ports


def settings(text: str, layout: Layout) -> None:
    (layout.root / "santiago.yaml").write_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\naddresses:\n  server_port: {server}  # ours\n  ingress_port: {ingress}\n",
        "addresses: {{server_port: {server}, ingress_port: {ingress}}}\n",
    ],
)
def test_ports_that_the_original_still_has_are_replaced_and_told(layout: Layout, tmp_path: Path, text: str) -> None:
    registry = PortRegistry(layout.root)
    server, ingress = registry.claim("server"), registry.claim("ingress")
    settings(text.format(server=server, ingress=ingress), layout)
    made = in_place(layout, tmp_path)
    assert set(made.moved) == {"server_port", "ingress_port"}
    assert set(made.moved.values()).isdisjoint({server, ingress})
    assert FileWorkspace(tmp_path / "elsewhere").settings().addresses == made.addresses
    assert made.addresses is not None
    assert made.addresses.model_dump() == made.moved
    assert ("# ours" in (tmp_path / "elsewhere/santiago.yaml").read_text()) == ("# ours" in text)


@pytest.mark.parametrize("text", ["version: 1\n", "addresses:\n  ingress_port: {ingress}\n"])
def test_a_default_that_is_taken_is_written_down(layout: Layout, tmp_path: Path, text: str) -> None:
    registry = PortRegistry(layout.root)
    try:
        registry.claim("server", port=8700)
    except PlatformError:
        pytest.skip("another program has the default port")
    ingress = registry.claim("free for others")
    registry.release("free for others")
    settings(text.format(ingress=ingress), layout)
    made = in_place(layout, tmp_path)
    assert "server_port" in made.moved
    assert FileWorkspace(tmp_path / "elsewhere").settings().addresses == made.addresses


def test_ports_that_are_free_are_kept(layout: Layout, tmp_path: Path) -> None:
    registry = PortRegistry(layout.root)
    server, ingress = registry.claim("server"), registry.claim("ingress")
    settings(f"addresses: {{server_port: {server}, ingress_port: {ingress}}}\n", layout)
    registry.release("server")
    registry.release("ingress")
    assert in_place(layout, tmp_path).moved == {}


def in_place(layout: Layout, tmp_path: Path) -> Restored:
    back_up(layout, tmp_path / "backup.tar")
    return restore(tmp_path / "backup.tar", tmp_path / "elsewhere")
