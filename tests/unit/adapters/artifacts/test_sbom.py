from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from santiago_platform.adapters.artifacts.layer import PackedFile
from santiago_platform.adapters.artifacts.sbom import bill_of_materials

LOCKS = {
    "requirements.txt": "# comment\nrequests[socks]==2.32.0 ; python_version > '3' --hash=sha256:0\nloose>=1\n",
    "package-lock.json": json.dumps(
        {
            "packages": {
                "": {"name": "app", "version": "1.0.0"},
                "node_modules/@scope/thing": {"version": "3.0.0"},
                "node_modules/local": {"version": "1.0.0", "link": True},
            }
        }
    ),
    "uv.lock": '[[package]]\nname = "flask"\nversion = "3.1.0"\n',
    "Cargo.lock": '[[package]]\nname = "serde"\nversion = "1.0.0"\n',
    "poetry.lock": "not [ toml",
    "server.py": "requests==1\n",
}


def bill(root: Path) -> bytes:
    files = []
    for name, text in LOCKS.items():
        (root / name).write_text(text)
        files.append(PackedFile(name, "0" * 64, len(text)))
    return bill_of_materials(
        "web", "c" * 40, f"sha256:{'d' * 64}", datetime(2026, 1, 1, tzinfo=UTC), files, root
    )  # fmt: skip


def components(bom: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [component for component in bom["components"] if component["type"] == kind]


def test_it_lists_every_file_and_the_packages_of_lock_files(tmp_path: Path) -> None:
    bom = json.loads(bill(tmp_path))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert {c["name"] for c in components(bom, "file")} == set(LOCKS)
    assert {c["purl"] for c in components(bom, "library")} == {
        "pkg:pypi/requests@2.32.0",
        "pkg:npm/%40scope/thing@3.0.0",
        "pkg:pypi/flask@3.1.0",
        "pkg:cargo/serde@1.0.0",
    }
    assert bom["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]


def test_a_lock_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    properties = json.loads(bill(tmp_path))["metadata"]["properties"]
    assert properties == [{"name": "santiago:unread", "value": "poetry.lock"}]


def test_it_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    assert bill(tmp_path) == bill(tmp_path)
