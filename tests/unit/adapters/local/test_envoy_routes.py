from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.adapters.local.envoy_routes import STICKY_TOTAL, VirtualHost, routes
from santiago_platform.domain.route import Endpoint, Route
from santiago_platform.testing.traffic import backend, route


def endpoint(index: int) -> Endpoint:
    return Endpoint(instance=f"web__production__v1__{index}", host="127.0.0.1", port=21000 + index)


def test_weighted_clusters_keep_their_order_and_leave_out_versions_without_weight() -> None:
    backends = [backend("v2", 1, endpoint(0)), backend("v3", 0, endpoint(0)), backend("v1", 9, endpoint(0))]
    assert [version for version, _, _ in VirtualHost.of(route(*backends)).shares] == ["v1", "v2"]
    assert VirtualHost.of(route(*backends)) == VirtualHost.of(route(*reversed(backends)))


def test_requests_that_are_not_safe_are_retried_only_where_they_never_arrived() -> None:
    published = [VirtualHost.of(route(backend("v1", 1, endpoint(0))))]
    (host, _) = routes(published, {})["resources"][0]["virtual_hosts"]
    safe, other = host["routes"]
    assert safe["match"]["headers"][0]["string_match"] == {"safe_regex": {"regex": "GET|HEAD|OPTIONS"}}
    assert "reset" in safe["route"]["retry_policy"]["retry_on"].split(",")
    assert other["route"]["retry_policy"]["retry_on"] == "connect-failure,refused-stream"


def test_a_service_is_found_by_its_name_with_any_port_and_by_its_own_port_alone() -> None:
    published = [VirtualHost.of(route(backend("v1", 1, endpoint(0))))]
    (resource,) = routes(published, {("web", "production"): 20001, ("later", "staging"): 20002})["resources"]
    later, web, unknown = resource["virtual_hosts"]
    assert web["domains"] == [
        "web.production.localhost",
        "web.production.localhost:*",
        "127.0.0.1:20001",
        "localhost:20001",
    ]
    assert later["domains"] == ["127.0.0.1:20002", "localhost:20002"]
    assert "later is not deployed in staging" in later["routes"][0]["direct_response"]["body"]["inline_string"]
    assert unknown["domains"] == ["*"]


def sticky_shares(old: int, new: int) -> list[int]:
    """Of a sticky route of two versions, in their order."""
    wanted = route(backend("v1", old, endpoint(0)), backend("v2", new, endpoint(0)))
    published = VirtualHost.of(Route.model_validate({**wanted.model_dump(), "sticky": True}))
    (host, _) = routes([published], {})["resources"][0]["virtual_hosts"]
    found = [r["route"]["weighted_clusters"]["clusters"] for r in host["routes"]]
    assert all(each == found[0] for each in found)
    return [cluster["weight"] for cluster in found[0]]


weights = st.tuples(st.integers(1, 1000), st.integers(1, 1000))


@given(weights, weights)
def test_the_bound_between_two_versions_of_a_sticky_route_moves_one_way_with_their_shares(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    was, now = sticky_shares(*before), sticky_shares(*after)
    assert sum(was) == sum(now) == STICKY_TOTAL
    rises = after[1] * sum(before) >= before[1] * sum(after)
    assert now[1] >= was[1] if rises else now[1] <= was[1]
