"""The contract of ports.workspace.Workspace, and a real workspace in git to run it and others against."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ..domain.errors import ErrorCode, PlatformError
from ..ports.workspace import Workspace

SCORE = """\
apiVersion: score.dev/v1b1
metadata:
  name: web
service:
  ports:
    http: {port: 80, targetPort: 8080}
containers:
  main:
    image: .
    command: ["./run"]
    readinessProbe:
      httpGet: {path: /healthz, port: 8080}
"""


class GitWorkspace:
    """A workspace in `root` with the service `web` and the environments `production` and `staging`, committed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("santiago.yaml", "environments:\n  production: {}\n  staging: {}\n")
        self.write("services/web/score.yaml", SCORE)
        self.write("services/web/run", "#!/bin/sh\necho serving\n", executable=True)
        self.write("docs/architecture/web.md", "# Web\nIt serves pages.\n")
        self.write(".gitignore", ".santiago/\n")
        self.commit()

    def write(self, path: str, text: str, *, executable: bool = False) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755 if executable else 0o644)
        return target

    def commit(self, at: int = 1_700_000_000) -> str:
        """Commits everything as it is; equal histories have equal hashes. at: Unix seconds. Returns the hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", "change", at=at)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str, at: int = 1_700_000_000) -> str:
        date = f"{at} +0000"
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
        }
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.root, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


class WorkspaceContract:
    """The fixture `workspace` has the service `web` and the environments `production` and `staging`."""

    def test_the_environments_of_the_settings_can_be_asked_for_templates(self, workspace: Workspace) -> None:
        assert set(workspace.settings().environments) == {"production", "staging"}
        for environment in workspace.settings().environments:
            template = workspace.template(workspace.score("web"), release="r", environment=environment, where="web")
            assert (template.service, template.environment, template.release) == ("web", environment, "r")
            assert template.tenant == workspace.settings().tenant

    def test_there_is_a_role_card_for_advisors(self, workspace: Workspace) -> None:
        assert "propose" in workspace.role_card()

    def test_services_are_listed_by_name(self, workspace: Workspace) -> None:
        assert workspace.services() == ["web"]

    def test_the_same_workload_is_the_same_version_and_another_release_another_one(self, workspace: Workspace) -> None:
        def version(release: str) -> str:
            score = workspace.score("web")
            return workspace.template(score, release=release, environment="staging", where="web").version

        assert version("a") == version("a")
        assert version("a") != version("b")

    def test_a_health_check_names_a_port_of_the_template(self, workspace: Workspace) -> None:
        template = workspace.template(workspace.score("web"), release="r", environment="staging", where="web")
        assert template.readiness.http_get is not None
        assert template.readiness.http_get.port in {port.name for port in template.ports}

    def test_an_unknown_environment_is_not_found(self, workspace: Workspace) -> None:
        with pytest.raises(PlatformError) as caught:
            workspace.template(workspace.score("web"), release="r", environment="moon", where="web")
        assert caught.value.code is ErrorCode.NOT_FOUND

    def test_an_unknown_service_is_not_found(self, workspace: Workspace) -> None:
        with pytest.raises(PlatformError) as caught:
            workspace.score("nowhere")
        assert caught.value.code is ErrorCode.NOT_FOUND

    def test_documents_are_sorted_by_path(self, workspace: Workspace) -> None:
        paths = [path for path, _ in workspace.documents()]
        assert paths == sorted(paths)
        assert all(path.startswith("docs/architecture/") and path.endswith(".md") for path in paths)
        assert any("It serves pages." in text for _, text in workspace.documents())

    def test_the_schema_of_a_file_is_json_and_of_another_is_not_found(self, workspace: Workspace) -> None:
        assert json.loads(workspace.schema("santiago"))["type"] == "object"
        with pytest.raises(PlatformError) as caught:
            workspace.schema("../santiago")
        assert caught.value.code is ErrorCode.NOT_FOUND
