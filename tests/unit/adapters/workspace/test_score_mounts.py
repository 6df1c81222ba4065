from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.workload import Container, File, HttpGet, Limits, Probe, Template, Volume
from santiago_platform.testing.workspace import SCORE, GitWorkspace

SETTINGS = """\
environments:
  production:
    services:
      web: {variables: {REGION: here}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> FileWorkspace:
    files = GitWorkspace(tmp_path / "workspace")
    files.write("santiago.yaml", SETTINGS)
    return FileWorkspace(files.root)


def resolved(workspace: FileWorkspace, lines: str, rest: str = "") -> Template:
    """Of a container with these lines, and what follows the containers."""
    score = SCORE.replace('    command: ["./run"]\n', f"    command: [./run]\n{lines}") + rest
    return workspace.template(score, release="r", environment="production", where="score.yaml")


def refusal(workspace: FileWorkspace, lines: str, rest: str = "") -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        resolved(workspace, lines, rest)
    assert caught.value.message.startswith("score.yaml:")
    assert caught.value.hint
    return caught.value


# --- files


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ("content: 'I am ${metadata.name}'", File(path="/a", content="I am web")),
        ("content: '${metadata.name}', noExpand: true", File(path="/a", content="${metadata.name}")),
        ("content: '$$x', mode: '0600'", File(path="/a", content="$x", mode=0o600)),
        ("content: '', mode: '755'", File(path="/a", content="", mode=0o755)),
        ("binaryContent: AAEC", File(path="/a", content_base64="AAEC")),
        ("source: conf/a.conf, noExpand: true", File(path="/a", source="conf/a.conf")),
        ("source: ./a.conf, noExpand: true", File(path="/a", source="a.conf")),
    ],
)
def test_a_file_has_its_content_from_the_text_or_from_the_release(
    workspace: FileWorkspace, entry: str, file: File
) -> None:
    assert resolved(workspace, f"    files: {{/a: {{{entry}}}}}\n").files == (file,)


def test_files_and_volumes_may_be_lists_and_their_order_makes_no_other_version(workspace: FileWorkspace) -> None:
    lists = resolved(
        workspace,
        "    files: [{target: /b, content: b}, {target: /a, content: a}]\n"
        "    volumes: [{target: /mnt/two, source: two}, {target: /mnt/one/, source: one, path: /sub/path}]\n",
    )
    maps = resolved(
        workspace,
        "    files: {/a: {content: a}, /b: {content: b}}\n"
        "    volumes: {/mnt/one: {source: one, path: sub/path}, /mnt/two: {source: two}}\n",
    )
    assert lists.version == maps.version
    assert lists.volumes == (
        Volume(path="/mnt/one", name="one", subpath="sub/path"),
        Volume(path="/mnt/two", name="two"),
    )


def test_a_file_of_the_release_is_expanded_later_from_what_may_stand_in_it(workspace: FileWorkspace) -> None:
    rest = "resources:\n  env: {type: environment}\n  api: {type: service, id: web}\n"
    (file,) = resolved(workspace, "    files: {/a: {source: a.conf}}\n", rest).files
    assert file.placeholders is not None
    known = dict(file.placeholders)
    assert known["metadata.name"] == "web"
    assert known["resources.env.REGION"] == "here"
    assert known["resources.api.url"].startswith("http://")


def test_another_content_is_another_version_and_none_is_the_version_of_old(workspace: FileWorkspace) -> None:
    plain = resolved(workspace, "")
    assert plain.version != resolved(workspace, "    files: {/a: {content: a}}\n").version
    later = {"container", "files", "volumes", "beside"}
    assert later.isdisjoint(plain.model_dump(exclude_defaults=True))


@pytest.mark.parametrize(
    "path",
    [
        "a.conf",
        "/",
        "/a/../etc/passwd",
        "/a//b",
        "/./a",
        "/..",
        '"/a\\nb"',
        '"/a\\0"',
        '"/a\\u2028b"',
    ],
)
@pytest.mark.parametrize("kind", ["files", "volumes"])
def test_a_path_that_is_not_absolute_and_plain_is_refused(workspace: FileWorkspace, kind: str, path: str) -> None:
    entry = "content: x" if kind == "files" else "source: data"
    error = refusal(workspace, f"    {kind}: [{{target: {path}, {entry}}}]\n")
    assert error.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("path", ["/proc/version", "/sys", "/dev/null"])
def test_what_belongs_to_the_kernel_is_refused(workspace: FileWorkspace, path: str) -> None:
    assert refusal(workspace, f"    files: {{{path}: {{content: x}}}}\n").code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize("source", ["/etc/passwd", "../other/secret", "a/../../b", "''", "a//b"])
def test_a_source_out_of_the_service_s_folder_is_refused(workspace: FileWorkspace, source: str) -> None:
    with pytest.raises(PlatformError) as caught:
        resolved(workspace, f"    files: {{/a: {{source: {source}}}}}\n")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("    files: {/a: {content: '${nothing.here}'}}\n", "is not a placeholder"),
        ("    files: {/a: {binaryContent: 'AA*C'}}\n", "is not base64"),
        ("    files: [{content: x}]\n", "`target` is missing"),
        ("    files: [{target: /a, content: x}, {target: /a, content: y}]\n", "is there twice"),
        ("    files: {/a: {content: x}, /a/b: {content: y}}\n", "lies within /a"),
        ("    files: {/data/a: {content: x}}\n    volumes: {/data: {source: data}}\n", "lies within /data"),
        ("    volumes: {/data: {source: data, path: ../other}}\n", "leads out of the volume"),
        ("    volumes: {/data: {source: ../other__production/data}}\n", "there is no volume"),
        ("    volumes: {/data: {source: '${resources.data}'}}\n", "there is no volume"),
        ("    volumes: {/data: {source: '${resources.data.name}'}}\n", "there is no volume"),
    ],
)
def test_what_contradicts_itself_is_refused_in_its_line(workspace: FileWorkspace, lines: str, words: str) -> None:
    error = refusal(workspace, lines)
    assert error.code is ErrorCode.INVALID_ARGUMENT
    assert words in error.message


# --- volumes


@pytest.mark.parametrize("source", ["data", "'${resources.data}'"])
def test_a_volume_is_a_resource_by_name_or_reference(workspace: FileWorkspace, source: str) -> None:
    lines = f"    volumes: {{/var/data: {{source: {source}, readOnly: true}}}}\n"
    template = resolved(workspace, lines, "resources: {data: {type: volume}}\n")
    assert template.volumes == (Volume(path="/var/data", name="data", read_only=True),)


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("{type: environment}", "is no volume"),
        ("{type: volume, id: shared.one}", "takes no `id`"),
        ("{type: volume, params: {size: 1Gi}}", "takes no `params`"),
        ("{type: persistent-disk}", "cannot be provisioned"),
    ],
)
def test_a_resource_that_is_no_volume_of_the_service_is_unsupported(
    workspace: FileWorkspace, resource: str, words: str
) -> None:
    error = refusal(workspace, "    volumes: {/data: {source: data}}\n", f"resources: {{data: {resource}}}\n")
    assert error.code is ErrorCode.UNSUPPORTED
    assert words in error.message


def test_a_volume_has_no_outputs(workspace: FileWorkspace) -> None:
    rest = "resources: {data: {type: volume}}\n"
    error = refusal(workspace, "    variables: {A: '${resources.data.path}'}\n", rest)
    assert "${resources.data}" in error.hint


# --- several containers

SECOND = """\
  second:
    image: .
    command: [./other]
    variables: {A: b}
    files: {/a: {content: of the second}}
    readinessProbe: {exec: {command: [./check]}}
"""


def test_further_containers_are_beside_the_first(workspace: FileWorkspace) -> None:
    template = resolved(workspace, "", SECOND)
    assert (template.container, template.command) == ("main", ("./run",))
    assert template.beside == (
        Container(
            name="second",
            command=("./other",),
            variables=(("A", "b"), ("REGION", "here")),
            files=(File(path="/a", content="of the second"),),
            readiness=Probe(command=("./check",)),
        ),
    )
    assert [container.name for container in template.containers] == ["main", "second"]


def test_the_name_of_a_single_container_makes_no_other_version(workspace: FileWorkspace) -> None:
    other = SCORE.replace("  main:\n", "  web:\n")
    template = workspace.template(other, release="r", environment="production", where="score.yaml")
    assert template.version == resolved(workspace, "").version


def test_the_proxies_ask_the_container_that_the_first_port_belongs_to(workspace: FileWorkspace) -> None:
    score = SCORE.replace(
        "    http: {port: 80, targetPort: 8080}\n",
        "    http: {port: 80, targetPort: 8080}\n    side: {port: 81, targetPort: 8081}\n",
    )
    score = score.replace("/healthz, port: 8080", "/main, port: 8081")
    score += (
        "  second:\n    image: .\n    command: [./other]\n    readinessProbe: {httpGet: {path: /second, port: 8080}}\n"
    )
    template = workspace.template(score, release="r", environment="production", where="score.yaml")
    assert template.http_health == HttpGet(path="/second", port="http")
    assert template.http_health_path == "/second"


def test_the_limit_of_an_instance_is_the_sum_over_its_containers(workspace: FileWorkspace) -> None:
    limits = "    resources: {{limits: {{memory: {}, cpu: {}}}}}\n"
    template = resolved(workspace, limits.format("64Mi", "250m"), SECOND + limits.format("64Mi", "'0.5'"))
    assert template.limits == Limits(memory_bytes=128 << 20, cpu_cores=0.75)


def test_a_limit_of_one_container_alone_is_unsupported(workspace: FileWorkspace) -> None:
    error = refusal(workspace, "    resources: {limits: {memory: 64Mi}}\n", SECOND)
    assert error.code is ErrorCode.UNSUPPORTED
    assert "second has no memory limit" in error.message


@pytest.mark.parametrize(
    ("second", "code", "words"),
    [
        ("  second: {image: nginx}\n", ErrorCode.UNSUPPORTED, "the image 'nginx'"),
        ("  second: {image: .}\n", ErrorCode.INVALID_ARGUMENT, "`command` is missing"),
        (
            "  second: {image: ., command: [a], before: {main: {ready: started}}}\n",
            ErrorCode.UNSUPPORTED,
            "start together",
        ),
    ],
)
def test_a_further_container_is_checked_as_the_first(
    workspace: FileWorkspace, second: str, code: ErrorCode, words: str
) -> None:
    error = refusal(workspace, "", second)
    assert error.code is code
    assert words in error.message
