from __future__ import annotations

import json
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local import envoy_config as config
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.adapters.local.envoy_config import Cluster, VirtualHost
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.route import Backend, Endpoint
from santiago_platform.testing.traffic import backend, route


def endpoint(index: int, *, draining: bool = False) -> Endpoint:
    return Endpoint(instance=f"web__production__v1__{index}", host="127.0.0.1", port=21000 + index, draining=draining)


def cluster(one: Backend) -> Cluster:
    return Cluster.of(route(one), one)


def test_the_order_of_endpoints_does_not_make_another_cluster() -> None:
    assert cluster(backend("v1", 1, endpoint(0), endpoint(1))) == cluster(backend("v1", 9, endpoint(1), endpoint(0)))


def test_a_draining_endpoint_makes_another_cluster_under_the_same_statistics() -> None:
    before = cluster(backend("v1", 1, endpoint(0), endpoint(1)))
    after = cluster(backend("v1", 1, endpoint(0), endpoint(1, draining=True)))
    assert after.name != before.name
    assert after.statistic == before.statistic == "web__production__v1"
    assert after.endpoints == (endpoint(0),)


def test_weighted_clusters_keep_their_order_and_leave_out_versions_without_weight() -> None:
    backends = [backend("v2", 1, endpoint(0)), backend("v3", 0, endpoint(0)), backend("v1", 9, endpoint(0))]
    assert [version for version, _, _ in VirtualHost.of(route(*backends)).shares] == ["v1", "v2"]
    assert VirtualHost.of(route(*backends)) == VirtualHost.of(route(*reversed(backends)))


def test_no_name_of_a_cluster_has_a_dot() -> None:
    assert "." not in cluster(backend("v1", 1, endpoint(0))).name


def test_a_version_without_health_path_is_checked_by_tcp() -> None:
    one = Backend(version="v1", weight=1, endpoints=(endpoint(0),))
    (resource,) = config.clusters([cluster(one)])["resources"]
    assert resource["health_checks"][0]["tcp_health_check"] == {}
    assert "http_health_check" not in resource["health_checks"][0]


def test_requests_that_are_not_safe_are_retried_only_where_they_never_arrived() -> None:
    (host, _) = config.routes([VirtualHost.of(route(backend("v1", 1, endpoint(0))))])["resources"][0]["virtual_hosts"]
    safe, other = host["routes"]
    assert safe["match"]["headers"][0]["string_match"] == {"safe_regex": {"regex": "GET|HEAD|OPTIONS"}}
    assert "reset" in safe["route"]["retry_policy"]["retry_on"].split(",")
    assert other["route"]["retry_policy"]["retry_on"] == "connect-failure,refused-stream"


@pytest.mark.parametrize("text", ["{", "[]", '{"wanted": 7}'])
def test_a_state_that_cannot_be_read_is_told_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    layout = Layout.of(tmp_path)
    layout.xds.mkdir(parents=True)
    (layout.xds / "routes.json").write_text(text)
    with pytest.raises(PlatformError) as caught:
        EnvoyTraffic(layout)
    assert caught.value.code is ErrorCode.DATA_CORRUPT
    assert "routes.json" in caught.value.message
    assert (layout.xds / "routes.json").read_text() == text


async def test_routes_and_clusters_of_a_killed_process_are_written_again_from_its_state(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    await EnvoyTraffic(layout).apply(route(backend("v1", 1, endpoint(0))))
    texts = {name: (layout.xds / name).read_text() for name in ("rds.json", "cds.json")}
    (layout.xds / "rds.json").write_text("torn")
    (layout.xds / "cds.json").unlink()
    EnvoyTraffic(layout)
    for name, text in texts.items():
        again = json.loads((layout.xds / name).read_text())
        assert again["resources"] == json.loads(text)["resources"]
        assert int(again["version_info"]) > int(json.loads(text)["version_info"])
