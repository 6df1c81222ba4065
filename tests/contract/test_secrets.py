from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from santiago_platform.adapters.fake.clock import ManualClock
from santiago_platform.adapters.fake.secrets import FakeSecrets
from santiago_platform.adapters.secrets.file import FileSecrets
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.testing.secrets import PASSWORD, SHARED, SecretsContract


class TestFakeSecrets(SecretsContract):
    @pytest.fixture
    def secrets(self) -> FakeSecrets:
        return FakeSecrets(ManualClock())


class TestFileSecrets(SecretsContract):
    @pytest.fixture
    def secrets(self, tmp_path: Path) -> FileSecrets:
        return self.opened(tmp_path)

    def opened(self, folder: Path) -> FileSecrets:
        return FileSecrets(folder / "secrets.json", folder / "keys", ManualClock())

    async def test_nobody_else_may_read_it_and_no_value_is_in_it(self, secrets: FileSecrets, tmp_path: Path) -> None:
        await secrets.put(PASSWORD, "hunter2-hunter2")
        files = {path.name: path for path in tmp_path.rglob("*") if path.is_file()}
        assert files.keys() == {"secrets.json", "secrets.key"}
        assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
        assert not [path for path in files.values() if b"hunter2" in path.read_bytes()]

    async def test_another_process_reads_them_and_sees_what_is_put_meanwhile(
        self, secrets: FileSecrets, tmp_path: Path
    ) -> None:
        await secrets.put(PASSWORD, "first")
        other = self.opened(tmp_path)
        assert await other.value(PASSWORD, 1) == "first"
        await secrets.put(PASSWORD, "second")
        assert await other.value(PASSWORD, 2) == "second"

    async def test_a_sealed_value_put_in_the_place_of_another_does_not_open(
        self, secrets: FileSecrets, tmp_path: Path
    ) -> None:
        for secret in (PASSWORD, SHARED):
            await secrets.put(secret, f"of {secret}")
        file = tmp_path / "secrets.json"
        content = json.loads(file.read_text())
        first, second = (kept["versions"][0] for kept in content["secrets"])
        first["sealed"], second["sealed"] = second["sealed"], first["sealed"]
        file.write_text(json.dumps(content))
        for secret in (PASSWORD, SHARED):
            with pytest.raises(PlatformError) as raised:
                await secrets.value(secret, 1)
            assert raised.value.code is ErrorCode.DATA_CORRUPT

    async def test_a_lost_key_is_told_and_no_other_one_is_made(self, secrets: FileSecrets, tmp_path: Path) -> None:
        await secrets.put(PASSWORD, "value")
        (tmp_path / "keys" / "secrets.key").unlink()
        again = self.opened(tmp_path)
        with pytest.raises(PlatformError) as raised:
            await again.put(PASSWORD, "another")
        assert raised.value.code is ErrorCode.DATA_CORRUPT
        assert again.hide("value") == "value", "what cannot be known hides nothing, and breaks nothing"

    async def test_a_key_that_others_may_read_is_refused(self, secrets: FileSecrets, tmp_path: Path) -> None:
        await secrets.put(PASSWORD, "value")
        (tmp_path / "keys" / "secrets.key").chmod(0o640)
        with pytest.raises(PlatformError) as raised:
            await self.opened(tmp_path).value(PASSWORD, 1)
        assert raised.value.code is ErrorCode.FAILED_PRECONDITION

    @pytest.mark.parametrize("content", ["", "{", '{"form": 2, "unknown": 1}'])
    async def test_a_damaged_file_is_told_and_never_written_over(
        self, secrets: FileSecrets, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / "secrets.json").write_text(content)
        with pytest.raises(PlatformError) as raised:
            await secrets.put(PASSWORD, "value")
        assert raised.value.code is ErrorCode.DATA_CORRUPT
        assert (tmp_path / "secrets.json").read_text() == content

    async def test_what_a_crash_left_half_written_is_passed_over(self, secrets: FileSecrets, tmp_path: Path) -> None:
        await secrets.put(PASSWORD, "first")
        (tmp_path / ".secrets.json.new").write_text('{"secr')
        assert (await secrets.put(PASSWORD, "second")).version == 2
        assert sorted(os.listdir(tmp_path)) == ["keys", "secrets.json"]

    async def test_values_of_all_versions_are_hidden_in_the_forms_that_they_are_written_in(
        self, secrets: FileSecrets
    ) -> None:
        await secrets.put(PASSWORD, 'p"w/1 & more')
        await secrets.put(PASSWORD, "-----BEGIN-----\nbGluZSBvZiBhIGtleQ\n-----END-----\n")
        await secrets.put(SHARED, "short")
        texts = [
            'it is p"w/1 & more.',
            json.dumps({"password": 'p"w/1 & more'}),
            "GET /?p=p%22w%2F1%20%26%20more",
            "cCJ3LzEgJiBtb3Jl",
            "one line: bGluZSBvZiBhIGtleQ",
        ]
        for text in texts:
            hidden = secrets.hide(text)
            assert "<redacted>" in hidden
            assert not [part for part in ("more", "bGlu", "cCJ3") if part in hidden]
        assert secrets.hide("a short word") == "a short word"
