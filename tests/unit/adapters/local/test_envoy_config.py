from __future__ import annotations

import json
from pathlib import Path

import pytest

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local import envoy_config as config
from santiago_platform.adapters.local.envoy import EnvoyTraffic
from santiago_platform.adapters.local.envoy_config import Cluster
from santiago_platform.adapters.local.envoy_listener import IngressFile, listeners
from santiago_platform.domain.environment import Tls
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.route import Backend, Endpoint, Mirror
from santiago_platform.testing.traffic import backend, route


def claim(purpose: str) -> int:
    return 20000 + len(purpose)


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


def test_copies_go_to_a_cluster_of_their_own_with_little_room_and_other_statistics() -> None:
    one = backend("v1", 1, endpoint(0))
    wanted = route(one).model_copy(update={"mirror": Mirror(version="v1", percent=1)})
    own, copies = Cluster.all_of(wanted)
    assert own == cluster(one)
    assert copies.name != own.name
    assert copies.statistic == "web__production__v1__mirrored"
    first, second = config.clusters([own, copies])["resources"]
    rooms = {r["name"]: r["circuit_breakers"]["thresholds"][0]["max_requests"] for r in (first, second)}
    assert rooms[copies.name] < rooms[own.name] / 10


def test_no_name_of_a_cluster_has_a_dot() -> None:
    assert "." not in cluster(backend("v1", 1, endpoint(0))).name


def test_a_version_without_health_path_is_checked_by_tcp() -> None:
    one = Backend(version="v1", weight=1, endpoints=(endpoint(0),))
    (resource,) = config.clusters([cluster(one)])["resources"]
    assert resource["health_checks"][0]["tcp_health_check"] == {}
    assert "http_health_check" not in resource["health_checks"][0]


def test_a_version_that_speaks_http_2_is_another_cluster_and_the_names_of_the_others_stay() -> None:
    plain = backend("v1", 1, endpoint(0))
    assert cluster(plain).name == "web__production__v1__713047ca"
    other = plain.model_copy(update={"protocol": "h2c"})
    assert cluster(other).name != cluster(plain).name
    (resource,) = config.clusters([cluster(other)])["resources"]
    (options,) = resource["typed_extension_protocol_options"].values()
    assert options["explicit_http_config"] == {"http2_protocol_options": config.FLOW_CONTROL}


def test_the_other_listeners_stay_byte_for_byte_when_one_is_added(tmp_path: Path) -> None:
    ingress = IngressFile(port=8780, tls=Tls(port=8443, certificate="/c", key="/k"))
    before = listeners(tmp_path, ingress, {("web", "production"): 20001})["resources"]
    after = listeners(tmp_path, ingress, {("web", "production"): 20001, ("a", "b"): 20000})["resources"]
    assert [each for each in after if each["name"] != "service-20000"] == before
    assert len(after) == len(before) + 1 == 4


def test_every_listener_follows_the_one_route_configuration_and_none_is_reached_from_elsewhere(tmp_path: Path) -> None:
    ingress = IngressFile(port=8780, tls=Tls(port=8443, certificate="/c", key="/k"))
    for each in listeners(tmp_path, ingress, {("web", "production"): 20001})["resources"]:
        assert each["address"]["socket_address"]["address"] == "127.0.0.1"
        for chain in each["filter_chains"]:
            rds = chain["filters"][0]["typed_config"]["rds"]
            assert rds["config_source"]["path_config_source"] == {"path": str(tmp_path / "rds.json")}


def test_the_access_log_can_be_left_out(tmp_path: Path) -> None:
    (with_it,) = listeners(tmp_path, IngressFile(port=1), {})["resources"]
    (without,) = listeners(tmp_path, IngressFile(port=1, access_log=False), {})["resources"]
    assert "access_loggers" in json.dumps(with_it)
    assert "access_loggers" not in json.dumps(without)


def test_a_port_is_claimed_once_and_known_to_the_next_process(tmp_path: Path) -> None:
    layout, asked = Layout.of(tmp_path), []

    def claim(purpose: str) -> int:
        asked.append(purpose)
        return 20000 + len(asked)

    first = EnvoyTraffic(layout, claim)
    assert [first.port("web", "production"), first.port("web", "staging")] == [20001, 20002]
    assert first.port("web", "production") == 20001
    assert EnvoyTraffic(layout, claim).port("web", "staging") == 20002
    assert asked == ["service web/production", "service web/staging"]


@pytest.mark.parametrize("text", ["{", "[]", '{"wanted": 7}'])
def test_a_state_that_cannot_be_read_is_told_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    layout = Layout.of(tmp_path)
    layout.xds.mkdir(parents=True)
    (layout.xds / "routes.json").write_text(text)
    with pytest.raises(PlatformError) as caught:
        EnvoyTraffic(layout, claim)
    assert caught.value.code is ErrorCode.DATA_CORRUPT
    assert "routes.json" in caught.value.message
    assert (layout.xds / "routes.json").read_text() == text


async def test_routes_and_clusters_of_a_killed_process_are_written_again_from_its_state(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    await EnvoyTraffic(layout, claim).apply(route(backend("v1", 1, endpoint(0))))
    texts = {name: (layout.xds / name).read_text() for name in ("rds.json", "cds.json")}
    (layout.xds / "rds.json").write_text("torn")
    (layout.xds / "cds.json").unlink()
    EnvoyTraffic(layout, claim)
    for name, text in texts.items():
        again = json.loads((layout.xds / name).read_text())
        assert again["resources"] == json.loads(text)["resources"]
        assert int(again["version_info"]) > int(json.loads(text)["version_info"])
