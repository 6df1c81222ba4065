"""Runs wrk, a load generator in C, so that who asks does not take the processor from who answers."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass

from .programs import program
from .stage import cpu_seconds

GRACE_SECONDS = 30
TIMEOUT_SECONDS = 20

_SCRIPT = """\
wrk.method, wrk.body = "POST", {body}
{headers}
-- Sessions take turns, and a request within one has a number of its own.
local sessions, number = {{{sessions}}}, 0
if #sessions > 0 then
  request = function()
    number = number + 1
    wrk.headers["Mcp-Session-Id"] = sessions[number % #sessions + 1]
    return wrk.format(nil, nil, nil, (wrk.body:gsub('"id":1', '"id":' .. number, 1)))
  end
end
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function init() failed, first_failure = 0, "" end
function response(status, headers, body)
  if status >= 300 or body:find('"isError":true', 1, true) or body:find('"error":{{', 1, true) then
    failed = failed + 1
    if first_failure == "" then first_failure = status .. " " .. body:sub(1, 1000) end
  end
end
function done(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format("%d\\n%.0f\\n%d\\n%.0f\\n%.0f\\n%.0f\\n%s\\n",
    summary.requests, summary.duration,
    threads[1]:get("failed") + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), threads[1]:get("first_failure")))
end
"""


@dataclass(frozen=True)
class Call:
    """A POST. sessions: of the older protocol, which the connections take in turn; none: it has no sessions."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: str
    sessions: tuple[str, ...] = ()

    def texts(self, port: int) -> list[str]:
        """As it goes over the wire, once for each session."""
        headers = {"Host": f"127.0.0.1:{port}", **dict(self.headers), "Content-Length": str(len(self.body))}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        sessions = [[f"Mcp-Session-Id: {session}"] for session in self.sessions] or [[]]
        return ["\r\n".join([*lines, *session, "", self.body]) for session in sessions]


@dataclass(frozen=True)
class Load:
    """What came of it. milliseconds: p50, p95, p99 of the answers. cpu_seconds: that the server took meanwhile."""

    calls: int
    seconds: float
    milliseconds: tuple[float, float, float]
    cpu_seconds: float

    @property
    def calls_per_second(self) -> float:
        return self.calls / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """Of the server, for each call: who else uses the machine changes it less than the rate."""
        return 1000 * self.cpu_seconds / self.calls


def load(call: Call, port: int, server: int, connections: int, seconds: int) -> Load:
    """Each connection sends the call again with the answer to the one before. server: its pid.

    Raises RuntimeError with the first failure's words where a call failed.
    """
    wrk = program("wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            _SCRIPT.format(
                body=json.dumps(call.body),
                headers="\n".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in call.headers),
                sessions=", ".join(map(json.dumps, call.sessions)),
            )
        )
        script.flush()
        before = cpu_seconds(server)
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_SECONDS}s", "-s", script.name]
        done = subprocess.run(
            [wrk.path, *options, f"http://127.0.0.1:{port}{call.path}"],
            env=dict(wrk.environment),
            capture_output=True,
            text=True,
            timeout=seconds + GRACE_SECONDS,
            check=False,
        )
        spent = cpu_seconds(server) - before
    if done.returncode != 0:
        raise RuntimeError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout)[-1000:]}")
    calls, microseconds, failed, p50, p95, p99, first_failure = done.stderr.split("\n", 6)
    if int(failed) or not int(calls):
        raise RuntimeError(f"{failed} of {calls} calls failed, the first one so: {first_failure}")
    return Load(int(calls), int(microseconds) / 1e6, (float(p50) / 1e3, float(p95) / 1e3, float(p99) / 1e3), spent)
