"""Workloads as the Score project writes them in its documentation and examples: each runs here, or is refused with the
reason. Where a sample names an image of a registry, what is run is the same with `image: .`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from santiago_platform.adapters.local import mounts
from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.workload import Instance, Template
from santiago_platform.testing.compute import RELEASE, until_ready
from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.supervised import SupervisedWorkspace
from santiago_platform.testing.workspace import GitWorkspace

SETTINGS = "environments: {production: {services: {hello-world: {variables: {NAME: World}}}}}\n"
HEAD = "apiVersion: score.dev/v1b1\nmetadata:\n  name: hello-world\n"

HELLO = """\
containers:
  hello:
    image: {image}
    command: ["/bin/sh"]
    args: ["-c", "while true; do echo Hello $${{WHO}}; sleep 5; done"]
    variables:
      WHO: ${{metadata.name}}
"""
ENVIRONMENT = """\
containers:
  hello:
    image: {image}
    command: ["/bin/sh"]
    args: ["-c", "while true; do echo Hello $${{GREETED}}; sleep 5; done"]
    variables:
      GREETED: ${{resources.env.NAME}}
resources:
  env:
    type: environment
"""
FILES = """\
containers:
  hello:
    image: {image}
    command: ["/bin/sh"]
    args: ["-c", "while true; do cat /fileA.txt; cat /fileB.txt; sleep 5; done"]
    files:
      - target: /fileA.txt
        source: fileA.txt
      - target: /fileB.txt
        content: |
          I am ${{metadata.name}}
"""
FILES_AS_A_MAP = """\
containers:
  hello:
    image: {image}
    command: ["/bin/sh"]
    args: ["-c", "while true; do cat /my/other/file; cat /my/binary; sleep 5; done"]
    files:
      /my/other/file:
        content: |
          as it is: ${{metadata.name}}
        noExpand: true
      /my/binary:
        binaryContent: YmluYXJ5Cg==
        mode: "0600"
"""
VOLUMES = """\
containers:
  hello:
    image: {image}
    command: ["/bin/sh"]
    args: ["-c", "while true; do date >/data/now && ls /data; sleep 5; done"]
    volumes:
      /data:
        source: ${{resources.data}}
resources:
  data:
    type: volume
"""
DEPRECATED = """\
containers:
  main:
    image: {image}
    command: ["/bin/sh", "-c", "cat /mnt/some-path; ls -d /mnt/vol; sleep 60"]
    files:
    - target: /mnt/some-path
      content: "my content here\\n"
    volumes:
    - target: /mnt/vol
      source: some-volume
"""
CONTAINERS = """\
containers:
  first:
    image: {image}
    command: ["/bin/sh", "-c", "while true; do echo $${{NGINX_PORT}}; sleep 5; done"]
    variables:
      NGINX_PORT: "8080"
  second:
    image: {image}
    command: ["/bin/sh", "-c", "while true; do echo $${{NGINX_PORT}}; sleep 5; done"]
    variables:
      NGINX_PORT: "8081"
"""
LIMITS = """\
containers:
  hello:
    image: {image}
    command: ["/bin/sh", "-c", "while true; do echo limited; sleep 5; done"]
    resources:
      requests: {{cpu: 100m, memory: 32Mi}}
      limits: {{cpu: "0.5", memory: 128M}}
"""
PROBES = """\
service:
  ports:
    web: {{port: 8080, targetPort: 80}}
containers:
  hello:
    image: {image}
    command: ["/bin/sh", "-c", "echo up; exec python3 -m http.server --bind 127.0.0.1 $PORT"]
    livenessProbe:
      httpGet: {{path: /, port: 80}}
    readinessProbe:
      exec:
        command: ["/bin/sh", "-c", "test -n \\"$PORT\\""]
"""

RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "hello": (HELLO, ("Hello hello-world",)),
    "environment": (ENVIRONMENT, ("Hello World",)),
    "files": (FILES, ("This is fileA.", "I am hello-world")),
    "files as a map": (FILES_AS_A_MAP, ("as it is: ${metadata.name}", "binary")),
    "volumes": (VOLUMES, ("now",)),
    "the deprecated lists": (DEPRECATED, ("my content here", "/mnt/vol")),
    "several containers": (CONTAINERS, ("[first] 8080", "[second] 8081")),
    "limits and requests": (LIMITS, ("limited",)),
    "probes": (PROBES, ("up",)),
}

IMAGE = "the image 'busybox' cannot be run by this platform"
REFUSED: dict[str, tuple[str, ErrorCode, str]] = {
    "an image of a registry": (HELLO.format(image="busybox"), ErrorCode.UNSUPPORTED, IMAGE),
    "no command": (
        "containers: {my-container: {image: ., readinessProbe: {httpGet: {path: /ready, port: 8080}}}}\n",
        ErrorCode.INVALID_ARGUMENT,
        "`command` is missing",
    ),
    "a probe of a port that the service has not": (
        HELLO.format(image=".") + "    readinessProbe: {httpGet: {path: /ready, port: 8080}}\n",
        ErrorCode.INVALID_ARGUMENT,
        "no target port of service.ports",
    ),
    "dns and route": (
        HELLO.format(image=".")
        + "resources:\n  dns: {type: dns}\n  route: {type: route, params: {host: '${resources.dns.host}', port: 80}}\n",
        ErrorCode.UNSUPPORTED,
        "resources of type 'dns' cannot be provisioned yet",
    ),
    "postgres": (
        HELLO.format(image=".").replace("${metadata.name}", "${resources.db.host}")
        + "resources: {db: {type: postgres}}\n",
        ErrorCode.UNSUPPORTED,
        "resources of type 'postgres' cannot be provisioned yet",
    ),
    "an order of containers": (
        CONTAINERS.format(image=".") + "    before: {first: {ready: healthy}}\n",
        ErrorCode.UNSUPPORTED,
        "`before` is not supported",
    ),
    "UDP": (
        "service: {ports: {dns: {port: 53, protocol: UDP}}}\n" + HELLO.format(image="."),
        ErrorCode.UNSUPPORTED,
        "only TCP ports",
    ),
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, binary: Callable[[str], Path]) -> Iterator[SupervisedWorkspace]:
    binary("s6-svscan")
    with SupervisedWorkspace(tmp_path_factory.mktemp("samples") / "workspace") as made:
        (made.release.folder / "fileA.txt").write_text("This is fileA.\n")
        yield made


@pytest.fixture
def resolve(tmp_path: Path) -> Callable[[str], Template]:
    files = GitWorkspace(tmp_path / "git")
    files.write("santiago.yaml", SETTINGS)
    workspace = FileWorkspace(files.root)
    return lambda text: workspace.template(HEAD + text, release=RELEASE, environment="production", where="score.yaml")


@pytest.mark.e2e
@pytest.mark.parametrize("name", RUNS)
async def test_a_sample_runs(name: str, ground: SupervisedWorkspace, resolve: Callable[[str], Template]) -> None:
    text, said = RUNS[name]
    if ("files:" in text or "volumes:" in text) and mounts.namespace().problem:
        pytest.skip(f"no mount namespaces here: {mounts.namespace().problem}")
    compute = ground.compute()
    instance = Instance(template=resolve(text.format(image=".")), index=0)
    await compute.start(instance)
    await until_ready(compute, instance)

    async def lines() -> list[str]:
        return [line.partition(" ")[2] for line in ground.log(instance).splitlines()]

    await eventually(lines, lambda seen: set(said) <= set(seen))
    await ground.empty(compute)


@pytest.mark.parametrize("name", REFUSED)
def test_a_sample_is_refused_with_the_reason(name: str, resolve: Callable[[str], Template]) -> None:
    text, code, words = REFUSED[name]
    with pytest.raises(PlatformError) as caught:
        resolve(text)
    assert caught.value.code is code
    assert caught.value.message.startswith("score.yaml:")
    assert words in caught.value.message
    assert caught.value.hint
