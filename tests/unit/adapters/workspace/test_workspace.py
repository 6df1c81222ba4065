from __future__ import annotations

import os
from pathlib import Path

import pytest

from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.workload import Limits, Port, Template
from santiago_platform.testing.workspace import SCORE, GitWorkspace

SETTINGS = """\
tenant: acme
addresses: {ingress_port: 9090}
environments:
  production:
    defaults:
      stop_grace_seconds: 3
      variables: {REGION: here, LEVEL: info}
    services:
      web:
        variables: {LEVEL: debug}
"""


@pytest.fixture
def files(tmp_path: Path) -> GitWorkspace:
    workspace = GitWorkspace(tmp_path / "workspace")
    workspace.write("santiago.yaml", SETTINGS)
    return workspace


@pytest.fixture
def workspace(files: GitWorkspace) -> FileWorkspace:
    return FileWorkspace(files.root, service_port=lambda service, environment: 20000 + len(service + environment))


def resolved(workspace: FileWorkspace, score: str = SCORE) -> Template:
    return workspace.template(score, release="r", environment="production", where="score.yaml")


def refusal(workspace: FileWorkspace, score: str, code: ErrorCode = ErrorCode.INVALID_ARGUMENT) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        resolved(workspace, score)
    assert caught.value.code is code
    assert caught.value.message.startswith("score.yaml:")
    assert caught.value.hint
    return caught.value


def with_container(lines: str) -> str:
    return SCORE.replace('    command: ["./run"]\n', lines)


def with_argument(text: str) -> str:
    return with_container(f"    command: ['./run']\n    args: ['{text}']\n")


def test_a_template_joins_the_workload_with_the_environment(workspace: FileWorkspace) -> None:
    score = with_container(
        "    command: [./run]\n    args: [--name, '${metadata.name}']\n    variables: {LEVEL: warn, Z: '$${x}'}\n"
        "    resources: {limits: {memory: 64Mi, cpu: 250m}}\n"
    )
    template = resolved(workspace, score)
    assert template.command == ("./run", "--name", "web")
    assert template.variables == (("LEVEL", "debug"), ("REGION", "here"), ("Z", "${x}"))
    assert template.limits == Limits(memory_bytes=64 * 2**20, cpu_cores=0.25)
    assert (template.tenant, template.stop_grace_seconds) == ("acme", 3)


def test_the_order_of_keys_does_not_make_another_version(workspace: FileWorkspace) -> None:
    one = resolved(workspace, with_container("    command: [./run]\n    variables: {A: '1', B: '2'}\n"))
    other = resolved(workspace, with_container("    variables: {B: '2', A: '1'}\n    command: [./run]\n"))
    assert one.version == other.version


def test_names_with_the_same_target_share_one_port(workspace: FileWorkspace) -> None:
    ports = "    http: {port: 80, targetPort: 8080}\n    alt: {port: 81, targetPort: 8080}\n    admin: {port: 9000}\n"
    template = resolved(workspace, SCORE.replace("    http: {port: 80, targetPort: 8080}\n", ports))
    assert template.ports == (Port(name="http", target=8080), Port(name="admin", target=9000))


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("url", "http://127.0.0.1:20013"),
        ("host", "127.0.0.1"),
        ("port", "20013"),
    ],
)
def test_another_service_is_reached_at_its_own_port_without_a_name(
    workspace: FileWorkspace, output: str, value: str
) -> None:
    score = with_argument(f"${{resources.api.{output}}}") + "resources: {api: {type: service, id: web}}\n"
    assert resolved(workspace, score).command[1] == value


@pytest.mark.parametrize(("word", "protocol"), [("http", "http"), ("h2c", "h2c"), ("grpc", "h2c")])
def test_an_annotation_tells_the_protocol_of_the_first_port(workspace: FileWorkspace, word: str, protocol: str) -> None:
    plain = resolved(workspace)
    annotated = SCORE.replace("  name: web\n", f"  name: web\n  annotations: {{santiago.dev/protocol: {word}}}\n")
    assert resolved(workspace, annotated).protocol == protocol
    assert (resolved(workspace, annotated).version == plain.version) == (protocol == "http")


def test_an_unknown_protocol_is_refused_with_those_that_there_are(workspace: FileWorkspace) -> None:
    annotated = SCORE.replace("  name: web\n", "  name: web\n  annotations: {santiago.dev/protocol: quic}\n")
    refused = refusal(workspace, annotated)
    assert "'quic' is no protocol" in refused.message
    assert "h2c" in refused.hint


def test_values_of_the_environment_are_a_resource(workspace: FileWorkspace) -> None:
    score = with_argument("${resources.env.REGION}/${resources.env.LEVEL}") + "resources: {env: {type: environment}}\n"
    assert resolved(workspace, score).command[1] == "here/debug"


def test_flags_are_a_resource_of_the_environment_and_refused_where_there_are_none(files: GitWorkspace) -> None:
    score = with_argument("${resources.flags.url}") + "resources: {flags: {type: flags}}\n"
    there = FileWorkspace(files.root, {}, flags_url=lambda environment: f"http://127.0.0.1:1/{environment}")
    assert resolved(there, score).command[-1].startswith("http://127.0.0.1:1/")

    def none(_: str) -> str:
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, "there are no flags", "make one")

    refused = refusal(FileWorkspace(files.root, {}, flags_url=none), score, ErrorCode.FAILED_PRECONDITION)
    assert refused.message.endswith(": there are no flags")
    assert "flags have no output 'colour'" in refusal(there, score.replace("flags.url", "flags.colour")).message


def test_annotations_can_be_referred_to_with_dots_escaped_or_not(workspace: FileWorkspace) -> None:
    annotated = "  name: web\n  annotations: {example.com/team: blue}\n"
    for reference in ("example.com/team", "example\\.com/team"):
        score = with_argument(f"${{metadata.annotations.{reference}}}").replace("  name: web\n", annotated)
        assert resolved(workspace, score).command[1] == "blue"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${PORT}", "environment variable PORT"),
        ("--listen=${PORT_ADMIN}", "environment variable PORT_ADMIN"),
        ("${metadata.nam}", "did you mean name"),
        ("${metadata}", "metadata.KEY"),
        ("${resources.db.host}", "add it to resources"),
        ("${resources.env}", "resources.NAME.OUTPUT"),
        ("${foo.bar}", "metadata.KEY"),
        ("${open", "close it"),
        ("${}", "metadata.KEY"),
    ],
)
def test_what_is_not_a_placeholder_says_what_to_write(workspace: FileWorkspace, text: str, words: str) -> None:
    error = refusal(workspace, with_argument(text))
    assert error.message.startswith("score.yaml:11: ")
    assert words in error.hint


def test_a_value_that_the_environment_does_not_have_says_where_to_set_it(workspace: FileWorkspace) -> None:
    score = with_argument("${resources.env.NOPE}") + "resources: {env: {type: environment}}\n"
    assert "environments.production.services.web.variables.NOPE" in refusal(workspace, score).hint


def test_an_unknown_service_is_refused_with_the_nearest_name(workspace: FileWorkspace) -> None:
    score = with_argument("${resources.webb.url}") + "resources: {webb: {type: service}}\n"
    assert "web" in refusal(workspace, score).hint


@pytest.mark.parametrize(
    ("score", "line"),
    [
        (SCORE.replace("image: .", "image: nginx"), 9),
        (with_container("    command: [./run]\n    before: {main: {ready: started}}\n"), 11),
        (SCORE + "  second: {image: nginx}\n", 13),
        (SCORE + "resources:\n  unused: {type: route}\n", 14),
        (with_argument("${resources.db.host}") + "resources:\n  db: {type: postgres}\n", 15),
        (SCORE.replace("targetPort: 8080}", "targetPort: 8080, protocol: UDP}"), 6),
        (SCORE.replace("path: /healthz,", "path: /healthz, scheme: HTTPS,"), 12),
    ],
)
def test_what_this_platform_cannot_run_is_unsupported_with_a_hint(
    workspace: FileWorkspace, score: str, line: int
) -> None:
    assert refusal(workspace, score, ErrorCode.UNSUPPORTED).message.startswith(f"score.yaml:{line}: ")


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (with_container(""), "`command` is missing"),
        (SCORE.replace("port: 8080}\n", "port: 9}\n"), "no target port"),
        (SCORE.replace("/healthz", "healthz"), "must begin with `/`"),
        (SCORE.replace("path: /healthz", 'path: "/a\\r\\nX: y"'), "printable"),
        (with_container("    command: [./run]\n    variables: {PORT: '80'}\n"), "sets PORT itself"),
        (with_container("    command: [./run]\n    variables: {SANTIAGO_X: a}\n"), "sets SANTIAGO_X itself"),
        (with_container("    command: [./run]\n    resources: {limits: {cpu: '0'}}\n"), "more than 0"),
    ],
)
def test_what_contradicts_itself_is_refused(workspace: FileWorkspace, score: str, words: str) -> None:
    with pytest.raises(PlatformError) as caught:
        resolved(workspace, score)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert words in caught.value.message


def test_a_program_can_be_given_no_nul_character(workspace: FileWorkspace) -> None:
    with pytest.raises(PlatformError, match="NUL"):
        resolved(workspace, with_container('    command: ["./run", "a\\0b"]\n'))


def test_a_variable_that_cannot_be_one_is_refused_in_its_line(files: GitWorkspace, workspace: FileWorkspace) -> None:
    files.write("santiago.yaml", SETTINGS.replace("LEVEL: debug", '"A=B": c'))
    with pytest.raises(PlatformError, match=r"^santiago\.yaml:10: "):
        workspace.settings()


def test_a_missing_settings_file_says_how_to_make_one(files: GitWorkspace, workspace: FileWorkspace) -> None:
    (files.root / "santiago.yaml").unlink()
    with pytest.raises(PlatformError, match=r"^santiago\.yaml:1: ") as caught:
        workspace.settings()
    assert "santiago init" in caught.value.hint


@pytest.mark.parametrize("path", ["santiago.yaml", "services/web/score.yaml", "docs/architecture/web.md"])
def test_a_link_out_of_the_workspace_is_refused(
    files: GitWorkspace, workspace: FileWorkspace, tmp_path: Path, path: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("tenant: secret\n")
    (files.root / path).unlink()
    (files.root / path).symlink_to(secret)
    with pytest.raises(PlatformError, match="out of the workspace") as caught:
        workspace.settings(), workspace.score("web"), workspace.documents()
    assert caught.value.message.startswith(f"{path}:1: ")


def test_a_pipe_is_refused_and_not_waited_for(files: GitWorkspace, workspace: FileWorkspace) -> None:
    (files.root / "santiago.yaml").unlink()
    os.mkfifo(files.root / "santiago.yaml")
    with pytest.raises(PlatformError, match="not a regular file"):
        workspace.settings()


def test_text_that_is_not_utf_8_is_refused_with_its_line(files: GitWorkspace, workspace: FileWorkspace) -> None:
    (files.root / "santiago.yaml").write_bytes(b"version: 1\ntenant: \xff\n")
    with pytest.raises(PlatformError, match=r"^santiago\.yaml:2: "):
        workspace.settings()


def test_a_huge_file_is_refused(files: GitWorkspace, workspace: FileWorkspace) -> None:
    files.write("docs/architecture/huge.md", "x" * 300_000)
    with pytest.raises(PlatformError, match=r"huge\.md:1: "):
        workspace.documents()


@pytest.mark.parametrize("name", ["../web", "Web", "", "a/b", "-x"])
def test_a_name_that_could_be_a_path_is_refused(workspace: FileWorkspace, name: str) -> None:
    with pytest.raises(PlatformError) as caught:
        workspace.score(name)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_what_the_settings_last_said_is_kept_while_somebody_mends_the_file(
    files: GitWorkspace, workspace: FileWorkspace
) -> None:
    good = workspace.settings()
    files.write("santiago.yaml", "environments: {production: {defaults: {replicas: many}}}\n")
    with pytest.raises(PlatformError):
        workspace.settings()
    assert workspace.last_good_settings() == good
    files.write("santiago.yaml", SETTINGS.replace("acme", "other"))
    assert workspace.last_good_settings().tenant == "other"


def test_settings_that_never_were_good_are_refused(files: GitWorkspace, workspace: FileWorkspace) -> None:
    files.write("santiago.yaml", "environments: 7\n")
    with pytest.raises(PlatformError):
        workspace.last_good_settings()
