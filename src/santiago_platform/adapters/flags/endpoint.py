"""The process that serves flags: `python -m santiago_platform.adapters.flags.endpoint WORKSPACE PORT [ORIGIN...]`.

It reads flags.json itself and needs nobody: not the daemon, not a valid file. What it has read last without a mistake
is kept in `.santiago/flags/last-good.json`, and counts until there is something better.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from ...domain.errors import PlatformError
from ...domain.flag import FlagFile
from ..layout import Layout
from ..workspace.text_file import decode, read_within
from .evaluation import Evaluation
from .file import FLAGS_FILE, parse_flags
from .ofrep import build_app
from .stream import Changes, StreamTokens

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
Signature = tuple[int, int, int]


class ServedFlags:
    """The flags that count now. problem: why the file is not served as it stands, in words; empty where it is."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._last_good = layout.flags / "last-good.json"
        self._seen: Signature | None = None
        self.problem = ""
        self.evaluation = Evaluation(FlagFile())
        if not self.look() and self.problem:
            self._fall_back()

    def look(self) -> bool:
        """Reads the file where it has changed. Returns whether other flags count now."""
        signature = _signature(self._layout.root / FLAGS_FILE)
        if signature == self._seen and (signature is not None or self.problem):
            return False
        self._seen = signature
        try:
            text = read_within(self._layout.root, FLAGS_FILE)
            if text is None:
                raise FileNotFoundError(FLAGS_FILE)
            evaluation = Evaluation(parse_flags(text))
        except PlatformError as exc:
            return self._refuse(exc.message)
        except FileNotFoundError:
            return self._refuse(f'{FLAGS_FILE} is gone; {{"flags": {{}}}} in it means that there are none')
        except OSError as exc:  # it was exchanged for something else in between
            return self._refuse(f"{FLAGS_FILE} cannot be read: {exc}")
        self.problem = ""
        changed = evaluation.version != self.evaluation.version
        self.evaluation = evaluation
        self._keep(text)
        log.info("serving %d flags, version %s", len(evaluation), evaluation.version)
        return changed

    def _refuse(self, problem: str) -> bool:
        self.problem = problem
        log.warning("flags go on as they were: %s", problem)
        return False

    def _keep(self, text: str) -> None:
        if self._last_good.exists() and self._last_good.read_text() == text:
            return
        partial = self._last_good.with_suffix(".new")
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self._last_good)
        except OSError as exc:  # a full disk must not end what serves
            log.warning("the last good flags cannot be kept: %s", exc)

    def _fall_back(self) -> None:
        try:
            self.evaluation = Evaluation(parse_flags(decode(self._last_good.read_bytes(), self._last_good.name)))
            log.info("serving the last good ones: %d flags", len(self.evaluation))
        except FileNotFoundError:
            log.warning("there are no last good flags")
        except PlatformError as exc:
            log.warning("the last good flags cannot be read: %s", exc.message)


def _signature(path: Path) -> Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def build(layout: Layout, origins: Sequence[str] = ()) -> Starlette:
    """The application with its watcher, which its lifespan runs."""
    layout.flags.mkdir(mode=0o700, parents=True, exist_ok=True)
    served = ServedFlags(layout)
    changes = Changes(served.evaluation.revision())

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                served.look()
                changes.publish(served.evaluation.revision())
            except Exception:  # whatever it is, flags go on
                log.exception("looking at %s failed", FLAGS_FILE)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    app = build_app(
        lambda: served.evaluation,
        changes,
        StreamTokens(layout.flags / "stream.key"),
        problem=lambda: served.problem,
        origins=origins,
    )
    app.router.lifespan_context = lifespan
    app.state.changes = changes
    return app


class _Server(uvicorn.Server):
    """Ends the streams before it waits for them."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self._changes = changes

    async def shutdown(self, sockets: list | None = None) -> None:  # type: ignore[type-arg]
        self._changes.close()
        await super().shutdown(sockets)


def main(words: Sequence[str]) -> None:
    root, port, *origins = words
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("openfeature").setLevel(logging.CRITICAL)  # what a client's context lacks is the client's to know
    app = build(Layout.of(root), origins)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=int(port),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    _Server(config, app.state.changes).run()


if __name__ == "__main__":
    main(sys.argv[1:])
