from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.adapters.workspace.score import read_score
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.quantity import cpu_cores, memory_bytes

SCHEMA = Path(__file__).parents[5] / "shared" / "schemas" / "score-v1b1.json"

FULL = """
apiVersion: score.dev/v1b1
metadata:
  name: web
  team: blue
  annotations: {example.com/team: blue}
service:
  ports:
    http: {port: 80, targetPort: 8080, protocol: TCP}
containers:
  main:
    image: nginx:1
    command: [a]
    args: [b]
    variables: {A: b}
    files:
      /etc/x: {content: hello, mode: "0644", noExpand: true}
    volumes:
      /data: {source: "${resources.data}", readOnly: true}
    before:
      other: {ready: healthy}
    resources:
      limits: {memory: 1.5Gi, cpu: 125m}
      requests: {memory: "128", cpu: "0.5"}
    livenessProbe:
      exec: {command: [check]}
    readinessProbe:
      httpGet: {path: /, port: 8080, scheme: HTTPS, host: h, httpHeaders: [{name: X-A, value: b}]}
resources:
  data: {type: volume, class: fast, id: shared.data, params: {size: 1}, metadata: {annotations: {aa: b}}}
"""

# Changes of FULL, by the path of what is replaced; ... takes it out.
CHANGES: list[tuple[list[str], Any]] = [
    (["apiVersion"], "score.dev/v1"),
    (["apiVersion"], ...),
    (["metadata", "name"], "a"),
    (["metadata", "name"], "-web"),
    (["metadata", "name"], 5),
    (["metadata", "annotations"], {"a b": "c"}),
    (["metadata", "annotations"], {"aa": 1}),
    (["containers"], {}),
    (["containers"], {"Main": {"image": "x"}}),
    (["containers", "main", "image"], ...),
    (["containers", "main", "image"], ""),
    (["containers", "main", "command"], "a b"),
    (["containers", "main", "command"], [1]),
    (["containers", "main", "variables"], {"A=B": "c"}),
    (["containers", "main", "variables"], {"A": True}),
    (["containers", "main", "files"], [{"target": "/x", "content": "a"}]),
    (["containers", "main", "files"], [{"target": "/x", "content": "a", "source": "b"}]),
    (["containers", "main", "files"], {"/x": {"target": "/x", "content": "a"}}),
    (["containers", "main", "files"], {"/x": {"content": "a", "mode": "999"}}),
    (["containers", "main", "volumes"], [{"source": "a", "target": "/x"}]),
    (["containers", "main", "volumes"], {"/x": {"path": "a"}}),
    (["containers", "main", "before"], {"other": {"ready": "soon"}}),
    (["containers", "main", "resources", "limits", "memory"], "1.5GB"),
    (["containers", "main", "resources", "limits", "memory"], "01"),
    (["containers", "main", "resources", "limits", "memory"], "0.5"),
    (["containers", "main", "resources", "limits", "cpu"], "0.5m"),
    (["containers", "main", "resources", "limits", "cpu"], 1),
    (["containers", "main", "livenessProbe"], {"exec": {}}),
    (["containers", "main", "livenessProbe"], {"tcpSocket": {}}),
    (["containers", "main", "readinessProbe", "httpGet", "port"], 0),
    (["containers", "main", "readinessProbe", "httpGet", "port"], "8080"),
    (["containers", "main", "readinessProbe", "httpGet", "path"], ...),
    (["containers", "main", "readinessProbe", "httpGet", "httpHeaders"], [{"name": "a b", "value": "c"}]),
    (["service", "ports"], {"http": {"targetPort": 80}}),
    (["service", "ports"], {"http": {"port": 70000}}),
    (["service", "ports"], {"http": {"port": 80, "protocol": "SCTP"}}),
    (["service", "extra"], 1),
    (["resources"], {"data": {}}),
    (["resources"], {"data": {"type": "x y"}}),
    (["resources"], {"data": {"type": "xy", "id": "a..b"}}),
    (["resources"], {"data": {"type": "xy", "class": "b c"}}),
    (["extra"], 1),
]


def changed(path: list[str], value: Any) -> dict[str, Any]:
    document = yaml.safe_load(FULL)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def problem(document: dict[str, Any]) -> PlatformError | None:
    try:
        read_score(yaml.safe_dump(document), "score.yaml")
    except PlatformError as exc:
        return exc
    return None


def test_the_whole_format_is_read() -> None:
    score, _ = read_score(FULL, "score.yaml")
    assert score.metadata.name == "web"
    assert score.resources["data"].class_ == "fast"
    assert score.containers["main"].readiness_probe is not None


@pytest.mark.skipif(not SCHEMA.exists(), reason="the schema of the Score project is not beside this checkout")
@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_the_models_and_the_projects_own_schema_agree(path: list[str], value: Any) -> None:
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert schema.is_valid(yaml.safe_load(FULL))
    document = changed(path, value)
    found = problem(document)
    assert (found is None) == schema.is_valid(document)
    if found is not None:
        assert found.code is ErrorCode.INVALID_ARGUMENT
        assert found.message.startswith("score.yaml:")


@pytest.mark.parametrize("name", ["9to5", "a" * 41])
def test_a_workload_whose_name_no_service_can_have_is_refused(name: str) -> None:
    with pytest.raises(PlatformError, match=r"score\.yaml:4: ") as caught:
        read_score(FULL.replace("name: web", f"name: {name}"), "score.yaml")
    assert "letter" in caught.value.hint


@pytest.mark.parametrize(
    ("quantity", "count"),
    [("128Mi", 128 * 2**20), ("1.5G", 1_500_000_000), ("512", 512), ("0.5Ki", 512), ("16Ei", 2**64), ("1K", 1000)],
)
def test_memory_quantities_are_bytes(quantity: str, count: int) -> None:
    assert memory_bytes(quantity) == count


@pytest.mark.parametrize(("quantity", "cores"), [("500m", 0.5), ("0.5", 0.5), ("2", 2.0), ("1m", 0.001)])
def test_cpu_quantities_are_cores(quantity: str, cores: float) -> None:
    assert cpu_cores(quantity) == cores


@given(st.integers(min_value=1, max_value=10**9), st.sampled_from("KMGTPE"))
def test_the_binary_unit_is_never_less_than_the_decimal_one(count: int, unit: str) -> None:
    assert memory_bytes(f"{count}{unit}i") > memory_bytes(f"{count}{unit}") >= count
