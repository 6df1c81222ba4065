from __future__ import annotations

import json

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.adapters.fake.workspace import FakeWorkspace
from santiago_platform.domain.environment import Environment, Settings, Tenant
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.domain.signal import LogLine
from santiago_platform.operations.read_logs import LogsQuery, read_logs

ANN = Principal(name="ann", role=Role.DEVELOPER, tenant="shop")
OWNER = Principal(name="root", role=Role.OWNER)
REQUEST, TRACE = "9f8e7d6c-0001-4a5b-8c9d-000000000001", "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def platform() -> FakePlatform:
    """A request by way of `till` and `stock` of the shop, and `vault` of the bank, with ids as they like."""
    tenants = {"shop": Tenant(services=("till", "stock")), "bank": Tenant(services=("vault",))}
    settings = Settings(environments={"production": Environment()}, tenants=tenants)
    made = FakePlatform(workspace=FakeWorkspace({"till": None, "stock": None, "vault": None}, settings=settings))
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    said = [
        ("stock", "nothing of it"),
        ("till", json.dumps({"request_id": REQUEST, "msg": "asked"})),
        ("stock", f"INFO trace_id={TRACE} reserved"),
        ("vault", f"request_id={REQUEST} account_id=secret trace_id={'f' * 32}"),
        ("till", json.dumps({"request_id": REQUEST, "traceparent": parent, "status": 200})),
        ("stock", f"{'f' * 32} is another's"),
    ]
    for n, (service, text) in enumerate(said):
        line = LogLine(
            at=float(n), instance=f"{service}__production__a__0", service=service, environment="production",
            version="a", level="", text=text,
        )  # fmt: skip
        made.logs.lines.append(line)
    return made


@pytest.mark.parametrize("id", [REQUEST, TRACE, TRACE.upper()])
async def test_a_request_is_joined_over_the_services_by_either_of_its_ids(platform: FakePlatform, id: str) -> None:
    answer = await read_logs(platform.ports, ANN, LogsQuery(trace=id))
    assert [(line.at, line.service) for line in answer.lines] == [(4, "till"), (2, "stock"), (1, "till")]


async def test_the_lines_of_another_tenant_lend_no_ids(platform: FakePlatform) -> None:
    mine = await read_logs(platform.ports, ANN, LogsQuery(trace=REQUEST))
    everything = await read_logs(platform.ports, OWNER, LogsQuery(trace=REQUEST))
    assert "vault" not in {line.service for line in mine.lines}
    assert {line.at for line in everything.lines} == {1, 2, 3, 4, 5}


async def test_pages_of_a_joined_request_go_on_at_the_cursor(platform: FakePlatform) -> None:
    first = await read_logs(platform.ports, ANN, LogsQuery(trace=REQUEST, limit=1))
    second = await read_logs(platform.ports, ANN, LogsQuery(trace=REQUEST, limit=5, cursor=first.cursor))
    assert [line.at for line in (*first.lines, *second.lines)] == [4, 2, 1]


async def test_a_service_narrows_what_is_joined(platform: FakePlatform) -> None:
    answer = await read_logs(platform.ports, ANN, LogsQuery(trace=REQUEST, service="stock"))
    assert [line.at for line in answer.lines] == [2]
