from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.exposure import Rule, exposures

CARRIED: list[tuple[Rule, str, dict[str, Any]]] = [
    (Rule.PUBLIC, "listen", {"listen": "0.0.0.0:80"}),
    (Rule.PUBLIC, "spec.bind_address", {"spec": {"bind_address": "192.0.2.7"}}),
    (Rule.PUBLIC, "spec.bind_address", {"spec": {"bind_address": "[2001:db8::1]:443"}}),
    (Rule.PUBLIC, "listen", {"listen": ":8080"}),
    (Rule.PUBLIC, "listen", {"listen": "db.example"}),
    (Rule.PUBLIC, "ports[1]", {"ports": ["127.0.0.1:80:80", "0.0.0.0:80:80"]}),
    (Rule.PUBLIC, "ports[0]", {"ports": ["8080:80"]}),
    (Rule.PUBLIC, "ports[0]", {"ports": ["8080-8081:80-81/udp"]}),
    (Rule.PRIVILEGE, "user", {"user": "0:0"}),
    (Rule.PRIVILEGE, "user", {"user": "root:root"}),
    (Rule.PUBLIC, "ingress[0].cidr", {"ingress": [{"cidr": "0.0.0.0/0"}]}),
    (Rule.PUBLIC, "ingress[0].cidr", {"ingress": [{"cidr": "::/0"}]}),
    (Rule.PUBLIC, "cidrs[0]", {"cidrs": ["0.0.0.0/1", "128.0.0.0/1"]}),
    (Rule.PUBLIC, "address", {"address": "0:0:0:0:0:0:0:0"}),
    (Rule.PUBLIC, "address", {"address": "tcp://[::]:80"}),
    (Rule.PUBLIC, "address", {"address": "*:80"}),
    (Rule.PUBLIC, "publicly_accessible", {"publicly_accessible": True}),
    (Rule.PUBLIC, "spec.type", {"spec": {"type": "LoadBalancer"}}),
    (Rule.PUBLIC, "acl", {"acl": "public-read"}),
    (Rule.PUBLIC, "externalIPs", {"externalIPs": ["192.0.2.7"]}),
    (Rule.PRIVILEGE, "securityContext.privileged", {"securityContext": {"privileged": True}}),
    (Rule.PRIVILEGE, "securityContext.privileged", {"securityContext": {"privileged": "true"}}),
    (Rule.PRIVILEGE, "spec.host-network", {"spec": {"host-network": True}}),
    (Rule.PRIVILEGE, "volumes[0].hostPath", {"volumes": [{"hostPath": {"path": "/"}}]}),
    (Rule.PRIVILEGE, "volumes[0]", {"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]}),
    (Rule.PRIVILEGE, "volumes[0]", {"volumes": ["../..:/host:ro"]}),
    (Rule.PRIVILEGE, "devices[0]", {"devices": ["/dev/sda:/dev/sda:rwm"]}),
    (Rule.PRIVILEGE, "cap_add", {"cap_add": ["SYS_ADMIN"]}),
    (Rule.PRIVILEGE, "spec.capabilities.add", {"spec": {"capabilities": {"add": ["NET_ADMIN"]}}}),
    (Rule.PRIVILEGE, "runAsUser", {"runAsUser": 0}),
    (Rule.PRIVILEGE, "network_mode", {"network_mode": "host"}),
    (Rule.PRIVILEGE, "Statement[0].Action[0]", {"Statement": [{"Action": ["*"]}]}),
    (Rule.BYPASS, "break_glass", {"break_glass": True}),
    (Rule.BYPASS, "force", {"force": True}),
    (Rule.BYPASS, "skipGates", {"skipGates": ["approval"]}),
    (Rule.BYPASS, "skip_proof", {"skip_proof": "yes"}),
    (Rule.BYPASS, "deletion_protection", {"deletion_protection": False}),
    (Rule.BYPASS, "tls.verify", {"tls": {"verify": "false"}}),
    (Rule.BYPASS, "tls.insecure_skip_verify", {"tls": {"insecure_skip_verify": True}}),
]

INNOCENT: list[dict[str, Any]] = [
    {"service": "web", "environment": "production", "git_ref": "HEAD", "hold": True, "replicas": 3},
    {"listen": "127.0.0.1:80", "deletion_protection": True, "verify": None},
    {"listen": "unix:/run/x.sock", "cidr": "10.0.0.0/8", "address": "192.0.2.7"},
    {"listen": "127.0.0.0/8"},
    {"listen": "[::1]:80"},
    {"bind": "localhost"},
    {"bind": "/run/app.sock"},
    {"listen": "8080", "user": "1000:1000", "ports": ["8080", "127.0.0.1:8080:80"]},
    {"privileged": False, "force": "false", "hostNetwork": None, "skip_gates": [], "break_glass": 0},
    {"reason": "nobody may bind to 0.0.0.0 or run privileged"},
    {"volumes": ["data:/var/lib/data"]},
    {"flag": "skip-login", "variants": {"force": True, "public": "yes"}},
    {"labels": {"public": "true"}},
    {"environment": {"PATH": "/usr/bin:/bin"}, "resources": {"devices": [{"capabilities": ["gpu"], "count": 1}]}},
    {"expr": "sum(rate(requests_total[5m]))", "url": "https://hooks.example/x"},
]


@pytest.mark.parametrize(("rule", "where", "request_"), CARRIED, ids=[str(row[2]) for row in CARRIED])
def test_what_a_request_carries_is_found_with_its_place(rule: Rule, where: str, request_: dict[str, Any]) -> None:
    assert [(found.rule, found.where) for found in exposures(request_)][:1] == [(rule, where)]


@pytest.mark.parametrize("request_", INNOCENT, ids=str)
def test_what_sets_nothing_of_that_kind_is_left_alone(request_: dict[str, Any]) -> None:
    assert list(exposures(request_)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_has_an_answer(request_: Any) -> None:
    for found in exposures(request_):
        assert len(found.what) <= 80
