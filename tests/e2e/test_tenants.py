"""Tenants and limits on the real platform: whose process it is, who sees it, and how running out of memory is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from santiago_platform.testing.load import Load
from santiago_platform.testing.running_platform import RunningPlatform, call

pytestmark = pytest.mark.e2e
WHERE = {"service": "hello", "environment": "production"}
TENANTS = """
tenants:
  shop:
    services: [hello]
    quotas: {instances: 6, memory: 256Mi, disk: 1Gi}
"""


@pytest.fixture(scope="module")
def platform(lifeline: Any) -> Iterator[RunningPlatform]:
    made = RunningPlatform(lifeline, up=False)
    settings = made.root / "santiago.yaml"
    settings.write_text(settings.read_text() + TENANTS)
    made.replace("services/hello/score.yaml", "memory: 128Mi", "memory: 32Mi")
    made.commit("A tenant and limits")
    with made:
        made.santiago("up", "-d")
        yield made


@pytest.fixture(scope="module")
def token(platform: RunningPlatform) -> Callable[[str], str]:
    """A developer's token of a tenant."""

    def issue(tenant: str) -> str:
        words = ("token", "issue", "--role", "developer", "--name", f"dev-{tenant}", "--tenant", tenant)
        issued: str = platform.json(*words)["token"]
        return issued

    return issue


async def deploy(platform: RunningPlatform, token: str) -> dict[str, Any]:
    async with platform.client(token=token) as client:
        return await call(client, "deploy_service", {**WHERE, "git_ref": "HEAD", "wait": True})


@pytest.mark.skipif(os.geteuid() == 0, reason="root can keep tenants apart")
async def test_without_root_a_second_tenant_is_refused(platform: RunningPlatform, token: Callable[[str], str]) -> None:
    with pytest.raises(RuntimeError, match="does not run as root"):
        await deploy(platform, token("shop"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")
class TestAsRoot:
    async def test_a_service_of_a_tenant_is_deployed_under_load_and_runs_as_its_own_user(
        self, platform: RunningPlatform, token: Callable[[str], str]
    ) -> None:
        first = await deploy(platform, token("shop"))
        assert (first["state"], first["proof"]["verdict"]) == ("succeeded", "MATCH"), first["reason"]
        platform.set_version("second")
        async with Load(platform.ingress_port, "hello.production.localhost") as tally:
            ended = await deploy(platform, token("shop"))
        assert ended["state"] == "succeeded", ended
        assert tally.failed == 0, tally.failures
        async with platform.client(token=token("shop")) as client:
            shown = await call(client, "read_architecture", {})
        (service,) = shown["services"]
        pids = [i["pid"] for version in service["versions"] for i in version["instances"]]
        users = {os.stat(f"/proc/{pid}").st_uid for pid in pids}
        assert len(users) == 1
        assert users.pop() >= 61000
        assert all(i["memory"] for v in service["versions"] for i in v["instances"] if v["version"] == service["live"])
        assert shown["tenants"][0].startswith("shop: instances 4 of 6, memory 128Mi of 256Mi, disk ")

    async def test_another_tenant_sees_and_touches_nothing_of_it(
        self, platform: RunningPlatform, token: Callable[[str], str]
    ) -> None:
        async with platform.client(token=token("default")) as client:
            shown = await call(client, "read_architecture", {})
            logs = await call(client, "read_logs", {})
            with pytest.raises(RuntimeError, match="there is no service hello"):
                await call(client, "deploy_service", {**WHERE, "git_ref": "HEAD"})
        assert (shown["services"], shown["undeployed"], logs["lines"]) == ([], [], [])

    async def test_a_version_that_runs_out_of_memory_is_taken_back_and_says_so(
        self, platform: RunningPlatform, token: Callable[[str], str]
    ) -> None:
        server = platform.root / "services/hello/server.py"
        kept = server.read_text()
        server.write_text("held = bytearray(200 << 20)\n" + kept)
        platform.commit("It eats")
        ended = await deploy(platform, token("shop"))
        server.write_text(kept)
        platform.commit("It fasts")
        assert ended["state"] == "failed"
        assert "ran out of memory (limit 32Mi)" in ended["reason"]
        assert "SIGKILL" not in ended["reason"]

    async def test_a_quota_refuses_with_the_limit_and_what_is_in_use(
        self, platform: RunningPlatform, token: Callable[[str], str]
    ) -> None:
        async with platform.client(token=token("shop")) as client:
            with pytest.raises(RuntimeError, match=r"may run 6 instances, has \d+, and this would make \d+"):
                await call(client, "deploy_service", {**WHERE, "git_ref": "HEAD", "replicas": 9})

    def test_after_down_no_control_group_of_the_workspace_is_left(self, platform: RunningPlatform) -> None:
        platform.santiago("down")
        mounts = [
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup" in line
        ]
        left = [path for mount in mounts for path in Path(mount).rglob(f"santiago.{platform.layout.id}.*")]
        assert left == []
