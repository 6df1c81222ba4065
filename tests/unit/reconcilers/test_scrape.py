from __future__ import annotations

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.workload import Instance
from santiago_platform.ports.compute import InstanceState
from santiago_platform.reconcilers.scrape import ScrapeReconciler


async def instances(platform: FakePlatform, count: int) -> list[Instance]:
    template = platform.workspace.template("web", release="sha256:1", environment="production", where="")
    started = [Instance(template=template, index=index) for index in range(count)]
    for instance in started:
        await platform.compute.start(instance)
    return started


async def address(platform: FakePlatform, index: int) -> str:
    endpoint = (await platform.compute.list())[index].endpoints["http"]
    return f"{endpoint.host}:{endpoint.port}"


async def test_instances_that_expose_metrics_are_scraped_and_those_that_went_are_not() -> None:
    platform = FakePlatform()
    one, _ = await instances(platform, 2)
    platform.metrics.exposing = {await address(platform, 0)}
    loop = ScrapeReconciler(platform.ports)
    await loop.pass_over()
    assert [t.instance for t in platform.metrics.scraped] == [one.id]
    assert platform.metrics.scraped[0].version == one.template.version
    await platform.compute.stop(one.id)
    await loop.pass_over()
    assert platform.metrics.scraped == ()


async def test_an_instance_is_asked_once() -> None:
    platform = FakePlatform()
    await instances(platform, 1)
    loop = ScrapeReconciler(platform.ports)
    await loop.pass_over()
    platform.metrics.exposing = {await address(platform, 0)}
    await loop.pass_over()
    assert platform.metrics.scraped == ()


async def test_an_instance_that_is_not_ready_is_not_asked_yet() -> None:
    platform = FakePlatform()
    await instances(platform, 1)
    platform.metrics.exposing = {await address(platform, 0)}
    platform.compute.broken = {"sha256:1": (InstanceState.STARTING, "")}
    loop = ScrapeReconciler(platform.ports)
    await loop.pass_over()
    assert platform.metrics.scraped == ()
    platform.compute.broken = {}
    await loop.pass_over()
    assert len(platform.metrics.scraped) == 1
