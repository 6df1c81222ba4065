from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from santiago_platform.domain.secret import Secret, SecretRef, refers, revealed, unversioned
from santiago_platform.domain.workload import Template

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
REFS = st.builds(SecretRef, name=NAMES, version=st.integers(1, 10**6), service=st.none() | NAMES)
REF = SecretRef(name="password", version=3, service="web")


def template(**fields: Any) -> Template:
    return Template(
        service="web", environment="production", tenant="default", release="sha256:a", command=("run",), **fields
    )


@given(REFS, st.text(), st.text(), st.text(min_size=1))
def test_a_reference_is_found_in_any_text_and_its_value_put_in_place_as_it_is(
    ref: SecretRef, before: str, after: str, value: str
) -> None:
    text = f"{before}{ref}{after}"
    assert refers(text)
    assert revealed(text, {str(ref): value}) == f"{before}{value}{after}" or refers(before + after)


def test_what_looks_like_a_reference_and_is_none_of_the_template_stays() -> None:
    assert revealed("<secret password@3> <secret web/password@3>", {str(REF): "x"}) == "<secret password@3> x"


def test_a_value_that_looks_like_a_reference_is_not_put_in_place_again() -> None:
    other = SecretRef(name="other", version=1)
    assert revealed(str(REF), {str(REF): str(other), str(other): "x"}) == str(other)


def test_a_reference_names_its_secret_within_an_environment() -> None:
    secret = REF.secret("staging")
    assert secret == Secret(environment="staging", service="web", name="password")
    assert (str(REF), str(secret)) == ("<secret web/password@3>", "staging/web/password")


def test_references_compare_without_their_versions() -> None:
    assert unversioned(f"a {REF} b") == "a <secret web/password> b"


def test_another_version_of_a_secret_is_another_version_of_the_service() -> None:
    def of(version: int) -> str:
        ref = SecretRef(name="password", version=version)
        return template(variables=(("PASSWORD", str(ref)),), secrets=(ref,)).version

    assert of(1) == of(1)
    assert of(1) != of(2)


def test_a_template_without_secrets_has_the_version_that_it_had_before_there_were_any() -> None:
    assert template().version == "06efcb6082e5"
