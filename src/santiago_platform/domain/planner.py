"""The built-in planner: reads plain requests by their words, and says the same to the same words. Pure.

It knows a few sentences and the names that exist. What it cannot make out it says, with an example: it guesses nothing
that would change something else than was asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .proposal import Task
from .strategy import Strategy

Known = Mapping[str, Sequence[str]]
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@^~-]*")
_STRATEGIES = {
    "canary": Strategy.CANARY,
    "blue-green": Strategy.BLUE_GREEN,
    "blue_green": Strategy.BLUE_GREEN,
    "rolling": Strategy.ROLLING,
    "recreate": Strategy.RECREATE,
}
_NUMBERS = {
    w: n for n, w in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
}
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{12,64}")
_REF_WORDS = ("commit", "tag", "branch", "ref", "version")
_FILLERS = frozenset(
    {"the", "a", "an", "to", "in", "on", "of", "for", "and", "please", "now", "as", "with", "from", "it"}
)
_UNREAD = ("not", "never", "don", "unless", "except", "if", "when", "until", "without", "instead")
EXAMPLES = {
    Task.DEPLOYMENT_PLAN: (
        "deploy hello HEAD to production as a canary; promote hello from staging to production; "
        "roll back hello in production"
    ),
    Task.SCALING_PLAN: "scale web in production to 5",
    Task.ALERT_RULE: "page me on errors of hello in production above 5% for 2 minutes",
    Task.FLAG_CHANGE: "turn new-checkout off in production; give new-checkout to 10%",
}


class PlanError(Exception):
    """What could not be made out. understood: what could."""

    def __init__(self, missing: str, understood: Mapping[str, object]) -> None:
        super().__init__(missing)
        self.missing = missing
        self.understood = dict(understood)


def plan(task: Task, words: str, known: Known) -> dict[str, Any]:
    """The draft of the task's request, as JSON has it. known: names by kind (services, environments, flags).

    Raises PlanError.
    """
    read = _Words(words, known)
    conditions = [word for word in _UNREAD if read.has(word)]
    if conditions:
        raise PlanError(f"what does {conditions[0]!r} mean here? It reads no conditions", {})
    if task not in _READERS:
        raise PlanError(f"it makes no {task.replace('_', ' ')} of words", {})
    return _READERS[task](read)


class _Words:
    def __init__(self, text: str, known: Known) -> None:
        self.text = text
        self.words = [word.rstrip(".,;:") for word in _WORD.findall(text)]
        self.lower = [word.lower() for word in self.words]
        self.known = known
        self.understood: dict[str, object] = {}

    def has(self, *phrases: str) -> bool:
        text = f" {' '.join(self.lower)} "
        return any(f" {phrase} " in text for phrase in phrases)

    def after(self, *marks: str) -> list[str]:
        """The words that follow one of `marks`, articles passed over."""
        found = []
        for index, word in enumerate(self.lower[:-1]):
            if word in marks:
                rest = index + 1
                while rest < len(self.words) - 1 and self.lower[rest] in ("the", "a", "an"):
                    rest += 1
                found.append(self.words[rest])
        return found

    def named(self, kind: str) -> list[str]:
        """The names of a kind that are said, in their order, each once."""
        names = {name.lower(): name for name in self.known.get(kind, ())}
        return list(dict.fromkeys(names[word] for word in self.lower if word in names))

    def one(self, kind: str, what: str) -> str:
        """The name of a kind: the caller's own scope (a kind in the singular), else the only one that is said."""
        if scope := self.known.get(what):
            self.understood[what] = scope[0]
            return scope[0]
        found = self.named(kind)
        if len(found) == 1:
            self.understood[what] = found[0]
            return found[0]
        if found:
            raise PlanError(f"which {what}: {' or '.join(found)}?", self.understood)
        names = self.known.get(kind, ())
        near = [
            name
            for word in self.lower
            if word not in _FILLERS
            for name in difflib.get_close_matches(word, names, n=2, cutoff=0.75)
        ]
        if near:
            raise PlanError(f"which {what}: did you mean {' or '.join(dict.fromkeys(near))}?", self.understood)
        there = ", ".join(names[:20])
        raise PlanError(f"which {what}? " + (f"there are {there}" if there else "there is none"), self.understood)

    def number(self, *after: str) -> int | None:
        for word in self.after(*after):
            digits = word.rstrip("%")
            if digits.isdecimal() and len(digits) <= 3:
                return int(digits)
            if word.lower() in _NUMBERS:
                return _NUMBERS[word.lower()]
        return None


def _deployment(read: _Words) -> dict[str, Any]:
    service = read.one("services", "service")
    if read.has("roll back", "rollback", "revert", "take back", "undo"):
        environment = read.one("environments", "environment")
        read.understood["action"] = "roll back"
        request: dict[str, Any] = {"rollback": {"service": service, "environment": environment}}
        return _draft(request, f"goes back to the version of {service} before in {environment}")
    environments = read.named("environments")
    sources = [e for e in environments if e in {w.lower() for w in read.after("from")}]
    target = _target(read, [e for e in environments if e not in sources], sources)
    deploy: dict[str, Any] = {"service": service, "environment": target}
    read.understood |= deploy
    scoped = "service" in read.known  # then the caller has said what is to be done, too
    if not scoped and not read.has(
        "deploy", "release", "ship", "promote", "roll out", "rollout", "put", "install", "update"
    ):
        raise PlanError("what is to be done?", read.understood)
    what = _what(read, service, sources)
    strategies = list(dict.fromkeys(_STRATEGIES[w] for w in read.lower if w in _STRATEGIES))
    if len(strategies) > 1:
        raise PlanError(f"by which strategy: {' or '.join(strategies)}?", read.understood)
    if strategies:
        deploy["strategy"] = strategies[0].value
    replicas = next((n for word, n in _counted(read) if word.startswith(("replica", "instance"))), None)
    if replicas:
        deploy["replicas"] = replicas
    if read.has("hold", "held", "and wait", "wait for me"):
        deploy["hold"] = True
    deploy |= what
    said = ", ".join(f"{name} {value}" for name, value in what.items())
    return _draft({"deploy": deploy}, f"deploys {said} of {service} to {target}")


def _target(read: _Words, environments: Sequence[str], sources: Sequence[str]) -> str:
    if not environments and sources and "environment" not in read.known:
        raise PlanError("to which environment?", read.understood)
    if len(environments) > 1 and "environment" not in read.known:
        said = {word.lower() for word in read.after("to", "into", "in", "on", "onto")}
        environments = [e for e in environments if e in said] or environments
        if len(environments) > 1:
            raise PlanError(f"to which environment: {' or '.join(environments)}?", read.understood)
    return (
        environments[0] if environments and "environment" not in read.known else read.one("environments", "environment")
    )


def _what(read: _Words, service: str, sources: Sequence[str]) -> dict[str, str]:
    """Exactly one of git_ref, release and from_environment."""
    if len(sources) == 1:
        return {"from_environment": sources[0]}
    if sources:
        raise PlanError(f"from which environment: {' or '.join(sources)}?", read.understood)
    known = {*read.known.get("services", ()), *read.known.get("environments", ())}
    digest = next((word for word in read.lower if word.startswith("sha256:") and _DIGEST.fullmatch(word)), None)
    if digest:
        return {"release": digest}
    for word in read.after("release"):
        if _DIGEST.fullmatch(word.lower()):
            return {"release": word.lower()}
    refs = [word for word in read.after(*_REF_WORDS) if word.lower() not in known | _FILLERS]
    refs += [word for word in read.words if word == "HEAD" or re.fullmatch(r"v?\d+(\.\d+)+\S*|[0-9a-f]{7,40}", word)]
    if read.has("latest", "last commit", "head", "newest"):
        refs.append("HEAD")
    refs = list(dict.fromkeys(refs))
    if len(refs) == 1:
        return {"git_ref": refs[0]}
    if refs:
        raise PlanError(f"which of {', '.join(refs)}?", read.understood)
    raise PlanError(
        f"what of {service}: a git ref, a release's digest, or what is live in another environment?", read.understood
    )


def _scaling(read: _Words) -> dict[str, Any]:
    service = read.one("services", "service")
    environment = read.one("environments", "environment")
    replicas = next((n for word, n in _counted(read) if word.startswith(("replica", "instance"))), None)
    if replicas is None:
        replicas = read.number("to", "at", "by")
        if read.has("by") and not read.has("to"):
            raise PlanError("to how many replicas in all?", read.understood)
    if replicas is None or not 1 <= replicas <= 100:
        raise PlanError("to how many replicas, 1 to 100?", read.understood)
    request = {"service": service, "environment": environment, "replicas": replicas}
    return _draft(request, f"sets the replicas of {service} in {environment} to {replicas}")


def _counted(read: _Words) -> list[tuple[str, int]]:
    """Numbers with the word that follows each: "3 replicas"."""
    pairs = zip(read.lower, read.lower[1:], strict=False)
    return [
        (b, _NUMBERS.get(a, int(a) if a.isdecimal() and len(a) <= 3 else -1))
        for a, b in pairs
        if a.isdecimal() or a in _NUMBERS
    ]


def _flag(read: _Words) -> dict[str, Any]:
    flag = read.one("flags", "flag")
    change: dict[str, Any] = {"flag": flag}
    environments = read.named("environments")
    if len(environments) > 1:
        raise PlanError(f"in which environment: {' or '.join(environments)}?", read.understood)
    if environments:
        change["environment"] = read.understood["environment"] = environments[0]
    percent = next((int(m) for m in re.findall(r"(?<![\d.])(\d{1,3})(?:\s*%| percent)", read.text)), None)
    if percent is not None and percent <= 100:
        change |= {"action": "set", "percent": percent}
        minutes = re.search(r"(?:within|over|in) (\d{1,4}) (minute|hour)", read.text.lower())
        if minutes:
            change |= {"action": "ramp", "minutes": int(minutes[1]) * (60 if minutes[2] == "hour" else 1)}
    elif read.has("off", "kill", "disable", "stop"):
        change["action"] = "kill"
    elif read.has("restore", "back on", "un-kill", "take the kill back"):
        change["action"] = "restore"
    elif read.has("on", "enable") and not read.has("off"):
        change |= {"action": "set", "percent": 100}
    else:
        raise PlanError("on, off, or to how many percent of the users?", read.understood)
    return _draft(change, f"{change['action']} of the flag {flag}")


_SIGNALS = {
    "error": "errors",
    "latency": "latency",
    "slow": "latency",
    "traffic": "traffic",
    "saturation": "saturation",
}
_BELOW = ("below", "under", "less than", "fewer than")
_NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(%|percent|milliseconds|ms|seconds|minutes|hours|[smh])?(?![\w.%])")
_SECONDS = {"milliseconds": 0.001, "ms": 0.001, "minutes": 60.0, "m": 60.0, "hours": 3600.0, "h": 3600.0}


def _alert(read: _Words) -> dict[str, Any]:
    service = read.one("services", "service")
    environment = read.one("environments", "environment")
    signals = list(dict.fromkeys(s for word in read.lower for mark, s in _SIGNALS.items() if word.startswith(mark)))
    if len(signals) != 1:
        raise PlanError("of which signal: errors, latency, traffic or saturation?", read.understood)
    signal = read.understood["signal"] = signals[0]
    before, _, after = read.text.lower().partition(" for ")
    thresholds, held = _NUMBER.findall(before), _NUMBER.findall(after)
    if len(thresholds) != 1:
        raise PlanError("above or below which one number?", read.understood)
    number, unit = thresholds[0]
    percent = unit in ("%", "percent")
    if percent != (signal == "errors"):
        raise PlanError(
            f"{signal} {'in percent' if signal == 'errors' else 'in seconds, or a count'}?", read.understood
        )
    scale = 0.01 if percent else _SECONDS.get(unit, 1.0)
    spec: dict[str, Any] = {"signal": signal, "threshold": round(float(number) * scale, 9)}
    if read.has(*_BELOW):
        spec["comparison"] = "<"
    if held:
        spec["for_seconds"] = float(held[0][0]) * _SECONDS.get(held[0][1], 1.0)
    if read.has("page", "pages", "wake"):
        spec["severity"] = "page"
    name = f"{signal.capitalize()}{'Below' if 'comparison' in spec else 'Above'}{number.replace('.', '_')}"
    request = {"name": name, "service": service, "environment": environment, "spec": spec}
    return _draft(request, f"an alert of the {signal} of {service} in {environment}")


def _draft(request: Mapping[str, Any], rationale: str) -> dict[str, Any]:
    return {"request": dict(request), "rationale": f"Read word for word: {rationale}.", "confidence": 1.0}


_READERS: Mapping[Task, Callable[[_Words], dict[str, Any]]] = {
    Task.DEPLOYMENT_PLAN: _deployment,
    Task.SCALING_PLAN: _scaling,
    Task.FLAG_CHANGE: _flag,
    Task.ALERT_RULE: _alert,
}
