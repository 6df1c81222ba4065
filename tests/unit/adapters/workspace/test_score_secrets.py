from __future__ import annotations

from pathlib import Path

import pytest

from santiago_platform.adapters.workspace.workspace import FileWorkspace
from santiago_platform.domain.errors import ErrorCode, PlatformError
from santiago_platform.domain.secret import Secret, SecretRef
from santiago_platform.domain.workload import Template
from santiago_platform.testing.workspace import SCORE, GitWorkspace

VERSIONS = {
    Secret(environment="production", service="web", name="password"): 3,
    Secret(environment="production", name="password"): 7,
    Secret(environment="production", name="shared"): 1,
    Secret(environment="staging", name="password"): 2,
}
OWN, SHARED = "<secret web/password@3>", "<secret shared@1>"
RESOURCES = "resources: {password: {type: secret}, token: {type: secret, id: shared}}\n"


def newest(secret: Secret) -> SecretRef | None:
    version = VERSIONS.get(secret)
    return SecretRef(name=secret.name, version=version, service=secret.service) if version else None


@pytest.fixture
def files(tmp_path: Path) -> GitWorkspace:
    return GitWorkspace(tmp_path / "workspace")


def resolved(
    files: GitWorkspace, container: str = "", *, resources: str = RESOURCES, where: str = "production"
) -> Template:
    score = SCORE.replace('    command: ["./run"]\n', f'    command: ["./run"]\n{container}') + resources
    return FileWorkspace(files.root, {}, secret=newest).template(
        score, release="r", environment=where, where="score.yaml"
    )


def refusal(files: GitWorkspace, container: str = "", *, resources: str = RESOURCES) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        resolved(files, container, resources=resources)
    return raised.value


def test_a_reference_is_a_whole_value_or_within_one_in_variables_and_in_files(files: GitWorkspace) -> None:
    template = resolved(
        files,
        "    variables: {PASSWORD: '${resources.password.value}', URL: 'pg://u:${resources.password.value}@h$$'}\n"
        "    files:\n"
        "      /etc/a: {content: 'token ${resources.token.value}'}\n"
        "      /etc/b: {source: b}\n",
    )
    assert template.variables == (("PASSWORD", OWN), ("URL", f"pg://u:{OWN}@h$"))
    inline, of_the_release = template.files
    assert inline.content == f"token {SHARED}"
    assert dict(of_the_release.placeholders or ())["resources.password.value"] == OWN
    assert [str(ref) for ref in template.secrets] == [SHARED, OWN]


def test_a_services_own_secret_goes_over_the_environments_and_each_environment_has_its_own(files: GitWorkspace) -> None:
    resources = "resources: {password: {type: secret}}\n"
    assert [str(ref) for ref in resolved(files, resources=resources).secrets] == [OWN]
    there = resolved(files, resources=resources, where="staging")
    assert [str(ref) for ref in there.secrets] == ["<secret password@2>"]


def test_santiago_yaml_refers_to_secrets_and_all_else_in_it_is_as_it_is(files: GitWorkspace) -> None:
    variables = "{A: 'x ${secrets.shared} ${HOME} $$ $${secrets.shared}', B: plain}"
    files.write("santiago.yaml", f"environments: {{production: {{defaults: {{variables: {variables}}}}}}}\n")
    resources = "resources: {settings: {type: environment}}\n"
    template = resolved(files, "    files: {/etc/a: {content: 'a is ${resources.settings.A}'}}\n", resources=resources)
    assert dict(template.variables)["A"] == f"x {SHARED} ${{HOME}} $$ ${{secrets.shared}}"
    assert template.files[0].content == f"a is {dict(template.variables)['A']}"
    assert [str(ref) for ref in template.secrets] == [SHARED]


@pytest.mark.parametrize("line", ["    args: ['--password=${resources.password.value}']\n", ""])
def test_a_secret_is_no_word_of_a_command(files: GitWorkspace, line: str) -> None:
    if not line:
        files.write("santiago.yaml", "environments: {production: {defaults: {variables: {A: '${secrets.shared}'}}}}\n")
    refused = refusal(
        files,
        line or "    args: ['${resources.settings.A}']\n",
        resources=RESOURCES if line else "resources: {settings: {type: environment}}\n",
    )
    assert refused.code is ErrorCode.INVALID_ARGUMENT
    assert refused.message.startswith("score.yaml:11: a secret cannot be a word of a command")


def test_what_is_not_set_is_told_with_the_line_and_what_sets_it(files: GitWorkspace) -> None:
    refused = refusal(files, resources="resources:\n  other: {type: secret}\n")
    assert refused.code is ErrorCode.FAILED_PRECONDITION
    assert refused.message.startswith(
        "score.yaml:14: web has no secret other in production: `santiago secret set other"
    )
    files.write("santiago.yaml", "environments: {production: {defaults: {variables: {A: '${secrets.other}'}}}}\n")
    refused = refusal(files)
    assert refused.code is ErrorCode.FAILED_PRECONDITION
    assert refused.message.startswith("santiago.yaml:1: variables.A of web in production: web has no secret other")


@pytest.mark.parametrize(
    ("container", "resources", "words"),
    [
        ("    variables: {A: '${resources.password.colour}'}\n", RESOURCES, "a secret has no output 'colour'"),
        ("", "resources: {password: {type: secret, params: {a: 1}}}\n", "a secret takes no `params`"),
        ("", "resources: {xx: {type: secret, id: a.b}}\n", "'a.b' cannot name a secret"),
    ],
)
def test_what_is_no_reference_is_refused(files: GitWorkspace, container: str, resources: str, words: str) -> None:
    assert words in refusal(files, container, resources=resources).message


def test_another_tenants_services_cannot_refer_to_what_is_for_all(files: GitWorkspace) -> None:
    files.write("santiago.yaml", "tenants: {shop: {services: [web]}}\n")
    assert [str(ref) for ref in resolved(files, resources="resources: {password: {type: secret}}\n").secrets] == [OWN]
    assert "web has no secret shared" in refusal(files).message
