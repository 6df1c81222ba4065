"""Reading a gigabyte of logs: the last errors of a service, and a rare text over all, against ripgrep."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from statistics import median

from santiago_platform.adapters.layout import Layout
from santiago_platform.adapters.local.log_files import stamp
from santiago_platform.adapters.local.logs import FileLogs
from santiago_platform.ports.logs import LogFilter

from .figure import Figure
from .programs import program
from .stage import Stage

SERVICES, INSTANCES, FILES, FILE_BYTES = 10, 5, 20, 1_000_000  # what s6-log keeps of each instance
START = 1_800_000_000.0
ERRORS_RATIO = 0.002
ROUNDS = 7
RARE = "order-7f3a9c-Lost"
ERRORS_MILLISECONDS, TIMES_RIPGREP = 100.0, 2.0


async def logs(stage: Stage) -> list[Figure]:
    """Of pages in the cache, as the newest logs are."""
    with tempfile.TemporaryDirectory(prefix="santiago-bench-") as name:
        layout = Layout.of(name)
        size = _write(layout)
        stage.tell(f"{size / 1e9:.2f} GB of logs are written")
        reader = FileLogs(layout)
        errors, follow_up = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            page = await reader.read(LogFilter(service="service-3", level="error", limit=100))
            errors.append(1000 * (time.perf_counter() - began))
            assert len(page.lines) == 100 and all(line.level == "error" for line in page.lines)  # noqa: PT018
            began = time.perf_counter()
            await reader.read(LogFilter(service="service-3", limit=100, before=page.cursor))
            follow_up.append(1000 * (time.perf_counter() - began))
        figures = [
            Figure(
                "the last 100 errors of a service",
                median(errors),
                "ms",
                f"{size / 1e9:.2f} GB by {SERVICES} services, one line in {1 / ERRORS_RATIO:.0f}; {_range(errors)}",
                at_most=ERRORS_MILLISECONDS,
            ),
            Figure("100 lines from a cursor on", median(follow_up), "ms", _range(follow_up)),
        ]
        for what, wanted, words in (
            ("a rare text, in any case", LogFilter(text=RARE), ("-i", "-F", RARE)),
            ("a rare text as a regular expression", LogFilter(regex=RARE), ("-F", RARE)),
            ("a regular expression", LogFilter(regex=r"order-[0-9a-f]{6}-L\w+t"), (r"order-[0-9a-f]{6}-L\w+t",)),
        ):
            figures += await _against_ripgrep(stage, layout, reader, what, wanted, words)
    return figures


async def _against_ripgrep(
    stage: Stage, layout: Layout, reader: FileLogs, what: str, wanted: LogFilter, words: tuple[str, ...]
) -> list[Figure]:
    """In turns."""
    ripgrep = program("rg")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        page = await reader.read(wanted)
        ours.append(1000 * (time.perf_counter() - began))
        assert len(page.lines) == 1 and page.cursor is None, page  # noqa: PT018
        began = time.perf_counter()
        done = subprocess.run(
            [ripgrep.path, "--no-config", "--no-ignore", "--hidden", *words, str(layout.logs)],
            env=dict(ripgrep.environment),
            capture_output=True,
            check=True,
        )
        theirs.append(1000 * (time.perf_counter() - began))
        assert len(done.stdout.splitlines()) == 1
    stage.tell(f"{what}: {median(ours):.0f} ms, ripgrep {median(theirs):.0f} ms")
    ratios = [mine / its for mine, its in zip(ours, theirs, strict=True)]
    return [
        Figure(f"{what}, over all", median(ours), "ms", _range(ours)),
        Figure(f"{what}, over all, by ripgrep", median(theirs), "ms", _range(theirs)),
        Figure(
            f"{what}, against ripgrep",
            median(ratios),
            "",
            f"{_range(ratios, 2)} in {ROUNDS} rounds",
            at_most=TIMES_RIPGREP if "regular expression" not in what or "as a" in what else None,
        ),
    ]


def _range(values: list[float], digits: int = 1) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _write(layout: Layout) -> int:
    """Bytes. Lines of several forms, one a millisecond; the rare one is in the middle of the first unit."""
    rng = random.Random(6)
    texts = [_text(rng) for _ in range(20_000)]
    total = 0
    for service in range(SERVICES):
        for instance in range(INSTANCES):
            directory = layout.logs / f"service-{service}__production__a1__{instance}"
            directory.mkdir(parents=True)
            at = START
            for number in range(FILES):
                lines: list[str] = []
                left = FILE_BYTES
                while left > 0:
                    at += 0.001
                    text = _error(rng) if rng.random() < ERRORS_RATIO else rng.choice(texts)
                    lines.append(f"{stamp(at)} {text}\n")
                    left -= len(lines[-1])
                if (service, instance, number) == (0, 0, FILES // 2):
                    lines.insert(len(lines) // 2, lines[len(lines) // 2][:26] + f"INFO {RARE.lower()} {RARE} is here\n")
                name = "current" if number == FILES - 1 else f"{stamp(at)}.s"
                total += (directory / name).write_bytes("".join(lines).encode())
    return total


def _text(rng: random.Random) -> str:
    trace = f"{rng.getrandbits(128):032x}"
    return rng.choice(
        (
            f'{{"level":"info","time":"2026-11-24T12:00:00Z","msg":"request served","path":"/api/orders/'
            f'{rng.getrandbits(20)}","status":200,"duration_ms":{rng.random() * 100:.2f},"trace_id":"{trace}"}}',
            f"2026-11-24 12:00:00,123 INFO worker-{rng.randrange(8)}: handled job {rng.getrandbits(30)} for customer "
            f"{rng.getrandbits(20)} in {rng.random() * 100:.2f} ms",
            f'time=2026-11-24T12:00:00Z level=debug msg="cache miss" key=item:{rng.getrandbits(24):x} trace_id={trace}',
        )
    )


def _error(rng: random.Random) -> str:
    return rng.choice(
        (
            f'{{"level":"error","msg":"payment was refused","order":{rng.getrandbits(30)}}}',
            f"2026-11-24 12:00:00,123 ERROR worker-{rng.randrange(8)}: timed out after {rng.random() * 10:.2f} s",
        )
    )
