"""Evaluates flags by flagd's own evaluator, and answers as OFREP says."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode as Code
from openfeature.exception import OpenFeatureError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason

from ...domain.flag import DEFINITION, Flag, FlagFile, definition_of
from ...domain.ramp import Ramp, share_of
from ...domain.targeting import TARGETING_KEY, needs_targeting_key

Answer = dict[str, Any]
# What OFREP has a word for. That a rule matched nobody has none of its own.
_REASONS: dict[str, str] = {
    Reason.STATIC: "STATIC",
    Reason.TARGETING_MATCH: "TARGETING_MATCH",
    Reason.DISABLED: "DISABLED",
}
_FAILURES = {Code.PARSE_ERROR: "PARSE_ERROR", Code.INVALID_CONTEXT: "INVALID_CONTEXT"}


class Evaluation:
    """The flags of one file, for every environment. version: names what is in the file."""

    def __init__(self, file: FlagFile) -> None:
        self._file = file
        self._environments: dict[str, _Environment] = {}
        self.version = hashlib.sha256(file.model_dump_json().encode()).hexdigest()[:12]
        self._ramps = list(_ramps(file))

    def __len__(self) -> int:
        return len(self._file.flags)

    @property
    def metadata(self) -> dict[str, Any]:
        return {**self._file.metadata, "version": self.version}

    def revision(self, now: datetime | None = None) -> str:
        """The version, and how far the ramps are, by whole percent: another one means that answers may differ."""
        at = now or datetime.now(UTC)
        moved = [str(int(ramp.percent(at))) for ramp in self._ramps]
        return "-".join([self.version, *moved]) if len(moved) < 20 else f"{self.version}-{hash(tuple(moved)):x}"

    def one(self, environment: str, key: str, context: dict[str, Any]) -> Answer | None:
        """OFREP's answer or failure; None where there is no such flag."""
        return self._in(environment).answer(key, context)

    def all(self, environment: str, context: dict[str, Any]) -> list[Answer]:
        of = self._in(environment)
        return [answer for key in of.flags if (answer := of.answer(key, context)) is not None]

    def _in(self, environment: str) -> _Environment:
        name = environment if environment in self._file.environments else ""
        if name not in self._environments:
            self._environments[name] = _Environment(self._file, name)
        return self._environments[name]


class _Environment:
    def __init__(self, file: FlagFile, name: str) -> None:
        self.flags = file.compiled(name)
        self._definitions = {key: definition_of(flag) for key, flag in self.flags.items()}
        self._core = FlagdCore()
        written = {key: copy.deepcopy(f.written()) for key, f in self.flags.items()}
        self._core.set_flags({"flags": written, "metadata": file.metadata})

    def answer(self, key: str, context: dict[str, Any]) -> Answer | None:
        flag = self.flags.get(key)
        if flag is None:
            return None
        who = context.get(TARGETING_KEY)
        attributes = {name: value for name, value in context.items() if name != TARGETING_KEY}
        try:
            found = self._resolve(flag, key, EvaluationContext(who, attributes))
        except OpenFeatureError as exc:
            return self._failure(key, _FAILURES.get(exc.error_code, "GENERAL"), str(exc.error_message or exc)[:300])
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as exc:
            return self._failure(key, "GENERAL", f"its targeting fails for this context: {exc!s:.200}")
        if found.reason == Reason.DEFAULT and not who and needs_targeting_key(flag.targeting):
            return self._failure(key, "TARGETING_KEY_MISSING", f"the flag {key} needs a targetingKey in the context")
        return self._success(key, flag, found)

    def _resolve(self, flag: Flag, key: str, context: EvaluationContext) -> FlagResolutionDetails[Any]:
        nothing: Any = None  # comes back where the program's own default is meant
        match next(iter(flag.variants.values())):
            case bool():
                return self._core.resolve_boolean_value(key, nothing, context)
            case str():
                return self._core.resolve_string_value(key, nothing, context)
            case dict():
                return self._core.resolve_object_value(key, nothing, context)
            case _ if any(isinstance(value, float) for value in flag.variants.values()):
                return self._core.resolve_float_value(key, nothing, context)
            case _:
                return self._core.resolve_integer_value(key, nothing, context)

    def _success(self, key: str, flag: Flag, found: FlagResolutionDetails[Any]) -> Answer:
        reason = _REASONS.get(found.reason or "", "UNKNOWN")
        if reason == "TARGETING_MATCH" and "fractional" in (flag.targeting or {}):
            reason = "SPLIT"
        # A provider may take it for granted that there is a variant.
        answer: Answer = {"key": key, "reason": reason, "variant": found.variant or ""}
        if found.value is not None:
            answer["value"] = found.value
        answer["metadata"] = {**found.flag_metadata, DEFINITION: self._definitions[key]}
        return answer

    def _failure(self, key: str, code: str, details: str) -> Answer:
        metadata = {DEFINITION: self._definitions[key]}
        return {"key": key, "errorCode": code, "errorDetails": details, "metadata": metadata}


def _ramps(file: FlagFile) -> Iterator[Ramp]:
    definitions = [*file.flags.values(), *(o for of in file.environments.values() for o in of.values())]
    for definition in definitions:
        ramp = share_of(definition.targeting) if definition.targeting else None
        if ramp is not None and ramp.start is not None:
            yield ramp
