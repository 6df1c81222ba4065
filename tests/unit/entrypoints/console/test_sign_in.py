"""Signing in to the console, and what a browser is told to allow."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import pytest

from santiago_platform.adapters.fake.platform import FakePlatform
from santiago_platform.domain.errors import PlatformError
from santiago_platform.domain.identity import Principal, Role
from santiago_platform.entrypoints.authentication import Authenticator
from santiago_platform.entrypoints.console.browser import local
from santiago_platform.entrypoints.console.pages import FORMS, PAGES
from santiago_platform.entrypoints.console.sign_in import KEPT, KEPT_OF_ONE, SignIns
from santiago_platform.entrypoints.rates import Rates
from santiago_platform.operations.issue_token import TokenRequest, issue_token, revoke_token

ROOT = Principal(name="root", role=Role.OWNER)
PLACE = {"service": "web", "environment": "production", "operation": "op-1", "seq": "1", "incident": "in-1"}
Visit = Callable[..., Awaitable[Any]]


async def token(platform: FakePlatform, **fields: Any) -> Any:
    return await issue_token(platform.ports, ROOT, TokenRequest(name="owner", role=Role.OWNER, **fields))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
async def test_no_page_is_shown_to_nobody(visit: Visit, page: Any) -> None:
    path = page.path.format(**PLACE)
    answer = await (await visit()).get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/sign-in?next={path}")


@pytest.mark.parametrize("path", [*(form.path.format(**PLACE) for form in FORMS), "/console/sign-out"])
async def test_no_form_is_taken_from_nobody(visit: Visit, platform: FakePlatform, path: str) -> None:
    answer = await (await visit()).http.post(path, data={"action": "abort"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    assert platform.ship_log.entries == []


async def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(
    visit: Visit, platform: FakePlatform
) -> None:
    issued = await token(platform)
    answer = await (await visit()).sign_in(issued.token, "/console/log")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/log")
    [cookie] = [c for c in answer.headers.get_list("set-cookie") if c.startswith("santiago-8700=")]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert issued.token not in cookie
    assert "Secure" not in cookie
    over_tls = await (await visit("https://localhost")).sign_in(issued.token)
    [cookie] = [c for c in over_tls.headers.get_list("set-cookie") if c.startswith("__Host-santiago-443=")]
    assert "Secure" in cookie


async def test_a_wrong_token_signs_nobody_in_and_many_of_them_have_to_wait(
    visit: Visit, platform: FakePlatform
) -> None:
    visitor = await visit()
    refused = await visitor.sign_in("sntg_wrong_token")
    assert refused.status_code == 401
    assert "unknown, expired or revoked" in refused.text
    assert (await visitor.get("/")).status_code == 303
    tried = [(await visitor.sign_in("sntg_wrong_token")).status_code for _ in range(12)]
    assert tried[-1] == 429
    platform.clock.advance(600)
    assert (await visitor.sign_in((await token(platform)).token)).status_code == 303


async def test_signing_out_ends_the_sign_in_and_its_session(signed_in: Visit, platform: FakePlatform) -> None:
    visitor = await signed_in()
    cookies = dict(visitor.http.cookies)
    assert (await visitor.get("/")).status_code == 200
    assert (await visitor.send("/console/sign-out")).headers["location"] == "/console/sign-in"
    visitor.http.cookies.update(cookies)
    assert (await visitor.get("/")).status_code == 303
    [session] = [s for s in await platform.store.read(lambda v: v.sessions()) if s.purpose == "console"]
    assert not session.is_open(platform.clock.now())
    assert [e.action for e in platform.ship_log.entries if e.outcome] == ["issue_token", "open_session", "end_session"]


async def test_signing_in_as_somebody_else_signs_out_who_it_was(signed_in: Visit, platform: FakePlatform) -> None:
    visitor = await signed_in("ann", Role.DEVELOPER)
    cookies = dict(visitor.http.cookies)
    await visitor.sign_in((await token(platform)).token)
    assert "owner" in (await visitor.get("/")).text
    visitor.http.cookies.clear()
    visitor.http.cookies.update(cookies)
    assert (await visitor.get("/")).status_code == 303


async def test_who_signs_in_without_end_signs_out_itself_and_not_the_others(platform: FakePlatform) -> None:
    sign_ins = SignIns(platform.ports, Authenticator(platform.ports), Rates(platform.ports))
    ann, eve = [
        (await issue_token(platform.ports, ROOT, TokenRequest(name=name, role=Role.OBSERVER))).token
        for name in ("ann", "eve")
    ]
    hers = await sign_ins.sign_in(ann, "192.0.2.1")
    cookies = []
    for client in range(KEPT):
        platform.clock.advance(1)
        cookies.append(await sign_ins.sign_in(eve, f"192.0.2.{client}"))
    assert (await sign_ins.known(hers))[1].name == "ann"
    assert (await sign_ins.known(cookies[-1]))[1].name == "eve"
    with pytest.raises(PlatformError, match="nobody is signed in"):
        await sign_ins.known(cookies[-1 - KEPT_OF_ONE])


async def test_a_token_that_is_revoked_or_expires_ends_its_sign_ins(visit: Visit, platform: FakePlatform) -> None:
    for ends in ("revoked", "expired"):
        visitor, issued = await visit(), await token(platform, ttl_seconds=1000)
        await visitor.sign_in(issued.token)
        assert (await visitor.get("/")).status_code == 200
        if ends == "revoked":
            await revoke_token(platform.ports, ROOT, issued.id)
            platform.clock.advance(1)  # which the interface of tokens does not wait for
        else:
            platform.clock.advance(1000)
        assert (await visitor.get("/")).status_code == 303, ends


async def test_a_sign_in_ends_with_the_session_that_was_opened_for_it(signed_in: Visit, platform: FakePlatform) -> None:
    visitor = await signed_in()
    platform.clock.advance(7199)
    assert (await visitor.get("/")).status_code == 200
    platform.clock.advance(2)
    assert (await visitor.get("/")).status_code == 303


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, "stolen"),
        ({}, ""),
        ({"origin": "http://localhost:9000"}, None),
        ({"origin": "null"}, None),
        ({"origin": ""}, None),
        ({"content-type": "text/plain"}, None),
    ],
    ids=["another key", "no key", "another port", "an origin that hides", "no origin", "not a form"],
)
async def test_a_form_that_no_page_of_ours_has_made_does_nothing(
    signed_in: Visit, platform: FakePlatform, headers: dict[str, str], key: str | None
) -> None:
    visitor = await signed_in()
    before = len(platform.ship_log.entries)
    fields = {"key": await visitor.key() if key is None else key}
    answer = await visitor.http.post("/console/sign-out", data=fields, headers=headers)
    assert answer.status_code in (400, 403)
    assert (await visitor.get("/")).status_code == 200
    assert len(platform.ship_log.entries) == before


async def test_a_sign_in_that_another_page_sends_is_refused(visit: Visit, platform: FakePlatform) -> None:
    visitor, issued = await visit(), await token(platform)
    answer = await visitor.http.post("/console/sign-in", data={"token": issued.token, "key": "made-up"})
    assert answer.status_code == 403
    assert (await visitor.get("/")).status_code == 303


@pytest.mark.parametrize("path", ["/", "/console/sign-in", "/console/operations/op-none", "/console/static/console.js"])
async def test_browsers_are_told_to_run_and_frame_nothing_else(signed_in: Visit, path: str) -> None:
    headers = (await (await signed_in()).get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == ("public, max-age=31536000, immutable" if "static" in path else "no-store")


def test_no_template_has_scripts_or_styles_within_it_or_lets_text_through_unescaped() -> None:
    folder = resources.files("santiago_platform.entrypoints.console") / "templates"
    texts = {file.name: file.read_text() for file in folder.iterdir()}
    assert len(texts) > 10
    for name, text in texts.items():
        assert not re.search(
            r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe|autoescape", text
        ), name
        assert not re.search(r'(src|href)="(https?:)?//', text), name


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "/console/\nx", ""])
def test_a_link_leads_nowhere_else_after_the_sign_in(target: str) -> None:
    assert local(target) == "/"
    assert local("/approve/op-1?hash=a") == "/approve/op-1?hash=a"
