"""The console in a real browser, on a real platform: by keyboard, live, on a phone and on a desk, in light and dark.

Skipped where there is no Chromium; `make browser` installs it, and axe-core, whose checks of accessibility are run.
Screenshots go to the folder that SCREENSHOTS names.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from santiago_platform.testing.browser import Browser, find_browser
from santiago_platform.testing.lifeline import Lifeline
from santiago_platform.testing.running_platform import RunningPlatform

PROGRAM = find_browser()
AXE = Path(__file__).parents[2] / ".venv" / "axe.min.js"
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(PROGRAM is None, reason="no Chromium: make browser")]
ENTER, TAB = ("Enter", 13, "\r"), ("Tab", 9)
LOOKS = {"desk": (1280, 800, False), "phone": (390, 844, True)}
CANARY = "      canary: {bucket_seconds: 1, steps: [{weight: 20, pause_seconds: 600}, {weight: 50, analysis: true}]}\n"
APPROVALS = "      approvals: {required: true, by: [pm]}\n"


@pytest.fixture(scope="module")
def platform(lifeline: Lifeline) -> Iterator[RunningPlatform]:
    """With a canary under way in production, and a change of staging that waits for somebody's yes."""
    with RunningPlatform(lifeline, up=False) as made:
        made.replace("santiago.yaml", "      strategy: blue_green\n", f"      strategy: blue_green\n{CANARY}")
        made.replace("santiago.yaml", "  staging:\n", f"  staging:\n{APPROVALS[2:]}")
        made.santiago("up", "-d")
        made.santiago("deploy", "hello", "--env", "production", "--wait")
        made.set_version("1.1.0")
        made.santiago("deploy", "hello", "--env", "production", "--strategy", "canary")
        made.santiago("deploy", "hello", "--env", "staging")
        ending = threading.Event()
        visitors = threading.Thread(target=_visit, args=(made, ending))
        visitors.start()
        yield made
        ending.set()
        visitors.join()


def _visit(platform: RunningPlatform, ending: threading.Event) -> None:
    """So that there are figures to draw."""
    host = {"host": "hello.production.localhost"}
    with httpx2.Client(base_url=f"http://127.0.0.1:{platform.ingress_port}", headers=host, trust_env=False) as http:
        while not ending.wait(0.02):
            http.get("/")


@pytest.fixture
def browser(platform: RunningPlatform) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as made:
        made.look(1280, 800)
        yield made


def sign_in(browser: Browser, platform: RunningPlatform, token: str, page: str = "/") -> None:
    browser.open(platform.url + page)
    browser.type("#token", token)
    browser.through(lambda: browser.press(*ENTER))


def operation(browser: Browser, state: str, environment: str) -> str:
    """The id of the operation under way that is in a state."""
    card = f"[...document.querySelectorAll('.card.{state}')].find(c => c.textContent.includes('{environment}'))"
    return str(browser.until(f"{card}?.querySelector('.id').textContent"))


def test_every_page_is_readable_in_each_form(browser: Browser, platform: RunningPlatform) -> None:
    browser.open(platform.url + "/")
    pages = {"sign-in": "/console/sign-in"}
    checked: list[str] = []
    screenshots = os.environ.get("SCREENSHOTS")

    def check(name: str, path: str) -> None:
        for form, (width, height, mobile) in LOOKS.items():
            for dark in (False, True):
                browser.look(width, height, dark=dark, mobile=mobile)
                browser.open(platform.url + path)
                if name == "service":
                    browser.until("document.querySelector('.uplot') !== null")
                assert browser.evaluate("document.documentElement.scrollWidth") <= width, (name, form)
                if AXE.exists():
                    assert browser.violations(AXE.read_text()) == [], (name, form, dark)
                if screenshots:
                    browser.screenshot(Path(screenshots) / f"{name}-{form}-{'dark' if dark else 'light'}.png")
                checked.append(name)

    check("sign-in", pages["sign-in"])
    sign_in(browser, platform, platform.token)
    running, awaiting = operation(browser, "running", "production"), operation(browser, "awaiting", "staging")
    for name, path in {
        "services": "/",
        "service": "/console/services/hello/production",
        "operations": "/console/operations",
        "operation": f"/console/operations/{running}",
        "approve": f"/approve/{awaiting}",
        "messages": "/console/messages",
        "budget": "/console/budget",
        "slos": "/console/slos",
        "incidents": "/console/incidents",
        "log": "/console/log",
        "verification": "/console/log/verification",
    }.items():
        check(name, path)
    assert len(checked) == 12 * 4
    assert browser.errors == []


def test_by_keyboard_alone_an_approver_follows_a_url_and_approves(browser: Browser, platform: RunningPlatform) -> None:
    told = platform.json("deploy", "hello", "--env", "staging", "--strategy", "recreate")
    url = f"/approve/{told['id']}?hash={told['plan']['hash']}"
    sign_in(browser, platform, platform.token, url)
    assert "Another principal must" in browser.text()
    assert "op-" in browser.evaluate("location.pathname"), "the sign-in has led back to the page"
    approver = platform.json("token", "issue", "--name", "pia", "--role", "pm")["token"]
    browser.through(lambda: browser.evaluate("document.querySelector('.note a').click()"))
    browser.type("#token", approver)
    browser.through(lambda: browser.press(*ENTER))
    assert "pia" in browser.text()
    for _ in range(40):
        if browser.evaluate("document.activeElement?.closest('#yes') !== null && document.activeElement?.tagName") == (
            "SUMMARY"
        ):
            break
        browser.press(*TAB)
    browser.press(*ENTER)
    browser.until("document.querySelector('#yes').open")
    browser.press(*TAB)
    browser.send("Input.insertText", text="read it on my phone")
    browser.through(lambda: browser.press(*ENTER))
    browser.until("/succeeded|running/.test(document.querySelector('.lead').textContent)")
    [entry] = [line for line in log_lines(platform) if "read it on my phone" in line and '"opened"' in line]
    assert '"principal":"pia"' in entry


def log_lines(platform: RunningPlatform) -> list[str]:
    folder = platform.root / "ships-logs" / "platform"
    return [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def test_a_page_follows_what_happens_and_keeps_what_was_typed(browser: Browser, platform: RunningPlatform) -> None:
    sign_in(browser, platform, platform.token)
    browser.open(f"{platform.url}/console/operations/{operation(browser, 'running', 'production')}")
    browser.evaluate("document.querySelector('#abort').open = true")
    browser.type("#abort-reason", "half a sentence")
    before = browser.evaluate("document.querySelector('.reason').textContent")
    browser.until(f"document.querySelector('.reason').textContent !== {before!r}")
    assert browser.evaluate("document.querySelector('#abort-reason').value") == "half a sentence"
    assert browser.evaluate("document.activeElement.id") == "abort-reason"
    browser.through(lambda: browser.press(*ENTER))
    browser.until("/rolled back/.test(document.querySelector('.lead').textContent)")
    browser.until("/is rolled back/.test(document.getElementById('announcement').textContent)")
    assert browser.errors == []


def test_without_scripts_the_pages_work_by_their_forms(browser: Browser, platform: RunningPlatform) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    sign_in(browser, platform, platform.token, "/console/messages")
    unread = re.search(r"(\d+) unread", browser.text())
    assert unread
    browser.through(lambda: browser.evaluate("document.querySelector('.card form button').click()"))
    assert f"{int(unread[1]) - 1} unread" in browser.text()


def test_signing_out_elsewhere_ends_what_is_open_here(browser: Browser, platform: RunningPlatform) -> None:
    issued = platform.json("token", "issue", "--name", "guest", "--role", "observer")
    sign_in(browser, platform, issued["token"])
    platform.santiago("token", "revoke", issued["id"])
    browser.until("document.querySelector('#token') !== null")
