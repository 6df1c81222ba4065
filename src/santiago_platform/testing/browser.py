"""A headless Chromium, driven over its own protocol through a pair of pipes: for tests of pages."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-proxy-server",
    "--hide-scrollbars",
)


def find_browser() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of one browser. Used as a context manager; it and its profile are gone at the end.

    Source of the protocol: Chrome DevTools Protocol, in messages that end with NUL on descriptors 3 and 4.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._number = 0
        self.errors: list[str] = []  # what the page's scripts and its policies complained of

    def __enter__(self) -> Self:
        self._profile = tempfile.mkdtemp(prefix="santiago-browser-")
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # Its descriptors are 3 and 4 by the shell: what Python hands on keeps its number.
        words = [self._program, *FLAGS, f"--user-data-dir={self._profile}"]
        words += ["--no-sandbox"] if os.geteuid() == 0 else []
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "browser", *words],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._buffer = b""
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(10)
        self._out.close()
        self._in.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer of a command. Raises RuntimeError where the browser refuses it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            said = self._receive()
            if said.get("id") == self._number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                result: dict[str, Any] = said["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self._in.fileno(), 1 << 20)
            if not read:
                raise RuntimeError("the browser has ended")
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        match said.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(said["params"]["exceptionDetails"])[:500])
            case "Log.entryAdded" if said["params"]["entry"]["level"] == "error":
                self.errors.append(said["params"]["entry"]["text"])
        return said

    def open(self, url: str) -> None:
        self.through(lambda: self.send("Page.navigate", url=url))

    def through(self, act: Callable[[], object]) -> None:
        """Does what leads to another page, and returns once that has loaded."""
        self.evaluate("window.left = true")
        act()
        self.until("!window.left && document.readyState === 'complete'")

    def until(self, script: str, seconds: float = 20.0) -> Any:
        """The value of an expression once it is true. Fails with what the page shows after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (found := self.evaluate(script)):
            assert time.monotonic() < deadline, f"not {script}: {self.text()}"
            time.sleep(0.02)
        return found

    def evaluate(self, script: str) -> Any:
        """The value of an expression on the page; a promise is waited for. Raises RuntimeError where it throws."""
        try:
            said = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        except RuntimeError as exc:
            if "navigated" in str(exc) or "context" in str(exc):
                return None  # the page went away meanwhile
            raise
        if "exceptionDetails" in said:
            raise RuntimeError(str(said["exceptionDetails"]))
        return said["result"].get("value")

    def text(self) -> str:
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def type(self, selector: str, text: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.send("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key as the keyboard sends it. code: Windows' virtual key code."""
        for kind in ("keyDown", "keyUp"):
            held = {"text": text} if text and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **held)

    def look(self, width: int, height: int, *, dark: bool = False, mobile: bool = False) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        png = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(png["data"]))

    def violations(self, axe: str, rules: Sequence[str] = ()) -> list[str]:
        """What the checks of axe-core find on the page. axe: its script."""
        self.evaluate(f"{axe};0")
        found = json.loads(
            self.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))")
        )
        return [
            f"{v['id']}: {v['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for v in found
            if v["id"] not in rules
            for node in v["nodes"]
        ]
