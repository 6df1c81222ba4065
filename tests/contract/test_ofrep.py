"""The endpoint of flags as a process of its own: OFREP by its OpenAPI, changes, broken files, hostile requests, and the
official providers of OpenFeature."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

from santiago_platform.testing.eventually import eventually
from santiago_platform.testing.flag_endpoint import BOOLEAN, FlagEndpoint

OPENAPI = Path(__file__).parents[3] / "shared" / "schemas" / "ofrep-openapi.yaml"
NODE_CLIENT = Path(__file__).with_name("ofrep_web")
SHARE = {**BOOLEAN, "targeting": {"fractional": [["on", 50], ["off", 50]]}}
FLAGS: dict[str, Any] = {
    "new": BOOLEAN,
    "banner": {"state": "ENABLED", "variants": {"a": "hello", "b": "bye"}, "defaultVariant": "a"},
    "limit": {"state": "ENABLED", "variants": {"low": 10, "high": 20}, "defaultVariant": "low"},
    "rate": {"state": "ENABLED", "variants": {"whole": 1, "half": 0.5}, "defaultVariant": "whole"},
    "page": {"state": "ENABLED", "variants": {"small": {"rows": 10}}, "defaultVariant": "small"},
    "dead": {**BOOLEAN, "state": "DISABLED"},
    "share": SHARE,
    "beta": {**BOOLEAN, "targeting": {"if": [{"==": [{"var": "plan"}, "beta"]}, "on"]}},
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[FlagEndpoint]:
    with FlagEndpoint(tmp_path_factory.mktemp("flags"), free_port(), "https://app.example") as running:
        yield running


@pytest.fixture(autouse=True)
async def flags(endpoint: FlagEndpoint) -> None:
    endpoint.write(FLAGS)
    await served(endpoint, lambda answer: answer["problem"] == "" and answer["flags"] == len(FLAGS))
    await value(endpoint, "new", False)


async def served(endpoint: FlagEndpoint, accept: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        return endpoint.health()

    return await eventually(look, accept)


async def value(endpoint: FlagEndpoint, key: str, expected: Any) -> None:
    async def look() -> Any:
        return endpoint.ask(key).json().get("value")

    await eventually(look, lambda seen: seen == expected)


def shape(name: str) -> Draft202012Validator:
    """A schema of OFREP, where `oneOf` over the types of a value is meant as `anyOf`: an integer is a number too, and
    what defers to the code's default is any object."""
    if not OPENAPI.is_file():
        pytest.skip("the OpenAPI of OFREP is not beside the repository")
    document = yaml.safe_load(OPENAPI.read_text())
    part = document["components"]["schemas"]["evaluationSuccess"]["allOf"][1]
    part["anyOf"] = part.pop("oneOf")
    failure = document["components"]["schemas"]["bulkEvaluationSuccess"]["properties"]["flags"]["items"]
    failure["anyOf"] = failure.pop("oneOf")
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **document})


# --- OFREP


@pytest.mark.parametrize("key", FLAGS)
def test_one_flag_is_answered_as_the_openapi_says(endpoint: FlagEndpoint, key: str) -> None:
    answer = endpoint.ask(key)
    assert answer.status_code == 200
    shape("serverEvaluationSuccess").validate(answer.json())


def test_all_flags_are_answered_as_the_openapi_says_with_a_stream_of_changes(endpoint: FlagEndpoint) -> None:
    answer = endpoint.ask()
    assert answer.status_code == 200
    assert [flag["key"] for flag in answer.json()["flags"]] == list(FLAGS)
    assert [stream["type"] for stream in answer.json()["eventStreams"]] == ["sse"]
    shape("bulkEvaluationSuccess").validate(answer.json())


@pytest.mark.parametrize(
    ("key", "body", "status", "code", "schema"),
    [
        ("nobody", {"context": {"targetingKey": "a"}}, 404, "FLAG_NOT_FOUND", "flagNotFound"),
        ("a/b", {"context": {"targetingKey": "a"}}, 404, "FLAG_NOT_FOUND", "flagNotFound"),
        ("share", {"context": {}}, 400, "TARGETING_KEY_MISSING", "evaluationFailure"),
        ("new", {"context": []}, 400, "INVALID_CONTEXT", "evaluationFailure"),
        ("new", {"context": {"targetingKey": 7}}, 400, "INVALID_CONTEXT", "evaluationFailure"),
        ("new", [], 400, "INVALID_CONTEXT", "evaluationFailure"),
        (None, {"context": "x"}, 400, "INVALID_CONTEXT", "bulkEvaluationFailure"),
    ],
)
def test_what_cannot_be_answered_is_an_error_of_the_openapi(
    endpoint: FlagEndpoint, key: str | None, body: Any, status: int, code: str, schema: str
) -> None:
    answer = endpoint.ask(key, json=body)
    assert (answer.status_code, answer.json()["errorCode"]) == (status, code)
    assert answer.json()["errorDetails"]
    shape(schema).validate(answer.json())


def test_in_an_answer_of_all_flags_one_that_fails_does_not_spoil_the_others(endpoint: FlagEndpoint) -> None:
    flags = {flag["key"]: flag for flag in endpoint.ask(context={}).json()["flags"]}
    assert flags["share"]["errorCode"] == "TARGETING_KEY_MISSING"
    assert flags["new"]["value"] is False


async def test_an_answer_that_is_still_right_is_not_sent_again(endpoint: FlagEndpoint) -> None:
    first = endpoint.ask()
    again = endpoint.ask(headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert endpoint.ask(context={"targetingKey": "bob", "plan": "beta"}).headers["etag"] != first.headers["etag"]
    endpoint.write({**FLAGS, "new": {**BOOLEAN, "defaultVariant": "on"}})
    await value(endpoint, "new", True)
    changed = endpoint.ask(headers={"if-none-match": first.headers["etag"]})
    assert (changed.status_code, changed.headers["etag"] == first.headers["etag"]) == (200, False)


def test_an_environment_is_a_part_of_the_address(endpoint: FlagEndpoint) -> None:
    answer = httpx2.post(f"http://127.0.0.1:{endpoint.port}/Not-One/ofrep/v1/evaluate/flags/new", json={})
    assert answer.status_code == 404
    assert "names no environment" in answer.json()["errorDetails"]


# --- hostile requests


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b'{"context": {"n": NaN}}',
        b"[" * 50_000,
        b'{"context": {"a": ' + b'{"a": ' * 5000,
        b'{"context": {"x": "' + b"x" * 70_000 + b'"}}',
        b'{"context": {"x": "\\ud800"}}',
    ],
)
def test_a_body_that_is_none_is_refused_and_the_next_is_answered(endpoint: FlagEndpoint, body: bytes) -> None:
    for key in ("new", None):
        answer = endpoint.ask(key, json=None, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["errorCode"]) == (400, "INVALID_CONTEXT")
    assert endpoint.ask("new").status_code == 200


def test_a_huge_number_in_the_context_is_no_harm(endpoint: FlagEndpoint) -> None:
    answer = endpoint.ask("beta", context={"targetingKey": "a", "plan": 10**400})
    assert answer.json()["value"] is False


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_a_page_that_rebinds_its_name_reads_nothing(endpoint: FlagEndpoint, host: str) -> None:
    assert endpoint.ask("new", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://hello.production.localhost:8780", True),
        ("http://127.0.0.1:3000", True),
        ("https://app.example", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
    ],
)
def test_pages_of_this_machine_and_those_that_are_named_may_read(
    endpoint: FlagEndpoint, origin: str, *, allowed: bool
) -> None:
    answer = endpoint.ask(headers={"origin": origin})
    assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "if-none-match",
    }
    before = httpx2.options(f"{endpoint.url}/ofrep/v1/evaluate/flags", headers=asked)
    assert (before.status_code == 200) is allowed
    if allowed:
        assert "etag" in answer.headers["access-control-expose-headers"].lower()


# --- changes, and files that are broken


async def test_a_change_reaches_a_stream_in_under_a_second(endpoint: FlagEndpoint) -> None:
    url = endpoint.ask().json()["eventStreams"][0]["url"]
    async with endpoint.stream(url) as events, asyncio.timeout(5):
        endpoint.write({**FLAGS, "new": {**BOOLEAN, "defaultVariant": "on"}})
        began = time.monotonic()
        event = await anext(events)
        assert time.monotonic() - began < 1
        assert event["data"]["type"] == "refetchEvaluation"
        shape("sseEventData").validate(event["data"])
        assert endpoint.ask("new").json()["value"] is True


async def test_who_comes_back_to_a_stream_is_told_what_was_missed(endpoint: FlagEndpoint) -> None:
    url = endpoint.ask().json()["eventStreams"][0]["url"]
    endpoint.write({**FLAGS, "new": {**BOOLEAN, "defaultVariant": "on"}})
    await value(endpoint, "new", True)
    async with endpoint.stream(url) as events, asyncio.timeout(5):
        event = await anext(events)
    newest = event["id"]
    endpoint.write(FLAGS)
    await value(endpoint, "new", False)
    async with endpoint.stream(url, **{"last-event-id": newest}) as events, asyncio.timeout(5):
        assert (await anext(events))["id"] != newest


@pytest.mark.parametrize("spoil", [lambda url: url.replace("token=", "token=1"), lambda url: url.partition("?")[0]])
async def test_a_stream_without_its_token_is_refused(endpoint: FlagEndpoint, spoil: Callable[[str], str]) -> None:
    url = endpoint.ask().json()["eventStreams"][0]["url"]
    for wrong in (spoil(url), url.replace("/production/", "/staging/")):
        with pytest.raises(httpx2.HTTPStatusError, match="401"):
            async with endpoint.stream(wrong):
                pass


@pytest.mark.parametrize("text", ['{"flags": {', "", "[]", '{"flags": {"new": {"variants": {}}}}', "\xff", None])
async def test_a_broken_file_changes_nothing_and_the_reason_is_said(endpoint: FlagEndpoint, text: str | None) -> None:
    file = endpoint.root / "flags.json"
    file.unlink() if text is None else file.write_text(text, encoding="latin-1")
    answer = await served(endpoint, lambda answer: answer["problem"])
    assert "flags.json" in answer["problem"]
    assert endpoint.ask("new").json()["value"] is False
    endpoint.write({**FLAGS, "new": {**BOOLEAN, "defaultVariant": "on"}})
    await value(endpoint, "new", True)
    assert endpoint.health()["problem"] == ""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_it_starts_with_the_last_good_flags_where_the_file_is_broken(
    endpoint: FlagEndpoint, how: signal.Signals
) -> None:
    url = endpoint.ask().json()["eventStreams"][0]["url"]
    (endpoint.root / "flags.json").write_text("broken")
    await served(endpoint, lambda answer: answer["problem"])
    endpoint.end(how)
    endpoint.start()
    assert endpoint.ask("banner").json()["value"] == "hello"
    assert "flags.json:1" in endpoint.health()["problem"]
    async with endpoint.stream(url, **{"last-event-id": "older"}) as events, asyncio.timeout(5):
        assert (await anext(events))["data"]["type"] == "refetchEvaluation", "the token of before holds"


async def test_it_ends_at_once_while_streams_are_open(endpoint: FlagEndpoint) -> None:
    url = endpoint.ask().json()["eventStreams"][0]["url"]
    async with endpoint.stream(url):
        began = time.monotonic()
        await asyncio.to_thread(endpoint.end)
        assert time.monotonic() - began < 2
    endpoint.start()


def test_what_it_keeps_is_private(endpoint: FlagEndpoint) -> None:
    folder = endpoint.root / ".santiago" / "flags"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


# --- the official providers


async def test_the_official_python_provider_reads_every_type_and_sees_a_change(endpoint: FlagEndpoint) -> None:
    api.set_provider(OFREPProvider(endpoint.url))
    try:
        client, ann = api.get_client(), EvaluationContext("ann", {"plan": "beta"})
        assert client.get_boolean_value("new", True) is False
        assert client.get_string_value("banner", "") == "hello"
        assert client.get_integer_value("limit", 0) == 10
        assert client.get_float_value("rate", 0.0) == 1.0
        assert client.get_object_value("page", {}) == {"rows": 10}
        assert client.get_boolean_value("beta", False, ann) is True
        assert client.get_boolean_details("share", False, ann).reason == "SPLIT"
        dead = client.get_boolean_details("dead", True)
        assert (dead.value, dead.reason, dead.error_code) == (True, "DISABLED", None)
        assert client.get_boolean_details("nobody", True).error_code == "FLAG_NOT_FOUND"
        assert client.get_boolean_details("share", False).error_code == "TARGETING_KEY_MISSING"
        endpoint.write({**FLAGS, "new": {**BOOLEAN, "defaultVariant": "on"}})
        began = time.monotonic()
        while not client.get_boolean_value("new", False):
            assert time.monotonic() - began < 1, "a change takes a second or more"
    finally:
        api.shutdown()


@pytest.fixture(scope="session")
def web_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm web provider, installed as its lock says."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not on PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < (20, 18):
        pytest.skip(f"node {version} has no EventSource; 20.18 has")
    folder = tmp_path_factory.mktemp("web")
    for file in NODE_CLIENT.iterdir():
        shutil.copy(file, folder)
    words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install the provider: {done.stderr[-300:]}")
    return folder


@pytest.mark.parametrize("detection", ["sse", "polling"])
async def test_the_npm_web_provider_reads_every_type_and_sees_a_change(
    endpoint: FlagEndpoint, web_client: Path, detection: str
) -> None:
    client = await asyncio.create_subprocess_exec(
        "node",
        "--experimental-eventsource",
        "client.mjs",
        endpoint.url,
        detection,
        cwd=web_client,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )
    assert client.stdout is not None
    try:
        async with asyncio.timeout(20):
            first = json.loads(await client.stdout.readline())
            assert first == {
                "new": False,
                "banner": "hello",
                "limit": 10,
                "rate": 1,
                "page": {"rows": 10},
                "beta": True,
                "dead": {"value": True, "reason": "DISABLED"},
                "nobody": {"value": True, "errorCode": "FLAG_NOT_FOUND"},
            }
            assert json.loads(await client.stdout.readline()) == {"listening": True}
            endpoint.write({**FLAGS, "new": {**BOOLEAN, "defaultVariant": "on"}})
            began = time.monotonic()
            assert json.loads(await client.stdout.readline()) == {"new": True}
            assert time.monotonic() - began < 1
    finally:
        client.kill()
        await client.wait()
