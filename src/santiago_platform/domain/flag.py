"""Feature flags: flagd's definitions, what differs between environments, and how a change makes one out of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from .errors import ErrorCode, PlatformError
from .identity import Name
from .ramp import Ramp, share_of, with_share
from .targeting import Rule, check, expanded
from .value import Value

# A part of a URL and of a file: no client has to quote it.
FlagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Variant = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Metadata = dict[str, str | bool | int | float]
Path = tuple[str | int, ...]

ENABLED: Literal["ENABLED"] = "ENABLED"
DISABLED: Literal["DISABLED"] = "DISABLED"
KILLED_AT = "killedAt"
DEFINITION = "definition"  # in the metadata of what is served: which definition it was
CODE_DEFAULT = "the code's default"
BY_RULES = "by its rules"
ABSENT = "absent"


class _Definition(Value):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    default_variant: Annotated[Variant | None, Field(alias="defaultVariant")] = None
    targeting: dict[str, Any] | None = None
    metadata: Metadata = {}

    def written(self) -> dict[str, Any]:
        """As it stands in flags.json."""
        found = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        order = ("state", "variants", "defaultVariant", "targeting", "metadata")
        return {name: found[name] for name in order if name in found and (name != "metadata" or found[name])}


class Flag(_Definition):
    """A flag as flagd knows it. state DISABLED: everybody gets what the program itself has as default.

    variants: values by name, all of one type: boolean, number, text or object. default_variant: for whom the targeting
    gives none; None means the program's own default. metadata: owner, expires (YYYY-MM-DD), description, and others.
    """

    state: Literal["ENABLED", "DISABLED"]
    variants: dict[Variant, Any]


class Override(_Definition):
    """What differs in one environment; None means: as in all. DISABLED here or there is DISABLED."""

    state: Literal["ENABLED", "DISABLED"] | None = None


class FlagEntry(Value):
    """All that flags.json says of one flag. flag None: there is no such flag. environments: what differs in them."""

    flag: Flag | None = None
    environments: dict[Name, Override] = {}

    def effective(self, environment: str | None) -> Flag | None:
        """The flag as it is in an environment; None means where nothing differs."""
        override = self.environments.get(environment) if environment is not None else None
        if self.flag is None or override is None:
            return self.flag
        update: dict[str, Any] = {"metadata": {**self.flag.metadata, **override.metadata}}
        if override.state == DISABLED:
            update["state"] = DISABLED
        if override.default_variant is not None:
            update["default_variant"] = override.default_variant
        if override.targeting is not None:
            update["targeting"] = override.targeting
        return self.flag.model_copy(update=update)

    def updated(self, environment: str | None, **fields: Any) -> FlagEntry:
        """With other fields in an environment, or in all where it is None. An override without fields is gone."""
        if environment is None:
            return self.model_copy(update={"flag": self.flag.model_copy(update=fields) if self.flag else None})
        override = self.environments.get(environment, Override()).model_copy(update=fields)
        others = {name: other for name, other in self.environments.items() if name != environment}
        kept = {environment: override} if override != Override() else {}
        return self.model_copy(update={"environments": {**others, **kept}})

    def written(self) -> dict[str, Any]:
        """As the ship's log and an operation keep it."""
        overrides = {name: override.written() for name, override in self.environments.items()}
        return {"flag": self.flag.written() if self.flag else None, "environments": overrides}


class FlagFile(Value):
    """flags.json: flagd's flag definitions, and under `environments` what differs, which flagd itself passes over."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Annotated[str, Field(alias="$schema")] = ""
    flags: dict[FlagKey, Flag] = {}
    evaluators: Annotated[dict[str, dict[str, Any]], Field(alias="$evaluators")] = {}
    metadata: Metadata = {}
    environments: dict[Name, dict[FlagKey, Override]] = {}

    def entry(self, key: str) -> FlagEntry:
        overrides = {name: flags[key] for name, flags in self.environments.items() if key in flags}
        return FlagEntry(flag=self.flags.get(key), environments=overrides)

    def with_entry(self, key: str, entry: FlagEntry) -> FlagFile:
        flags = {k: f for k, f in self.flags.items() if k != key or entry.flag}
        environments = {name: {k: o for k, o in of.items() if k != key} for name, of in self.environments.items()}
        for name, override in entry.environments.items():
            environments.setdefault(name, {})[key] = override
        if entry.flag is not None:
            flags[key] = entry.flag
        return self.model_copy(update={"flags": flags, "environments": environments})

    def compiled(self, environment: str) -> dict[str, Flag]:
        """Every flag as it is in an environment, with the shared rules in the places that refer to them."""
        found = {}
        for key in self.flags:
            flag = self.entry(key).effective(environment)
            if flag is not None:
                rule = expanded(flag.targeting or {}, self.evaluators)
                found[key] = flag.model_copy(update={"targeting": rule or None})
        return found


class FlagError(ValueError):
    """What is wrong with a flags file. path: where in it."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


def check_file(file: FlagFile) -> None:
    """Raises FlagError for the first thing in it that could not be evaluated, or contradicts itself."""
    for key, flag in file.flags.items():
        _check_variants(("flags", key), flag)
        _check_definition(("flags", key), flag, flag.variants, file.evaluators)
    for environment, overrides in file.environments.items():
        for key, override in overrides.items():
            path: Path = ("environments", environment, key)
            if key not in file.flags:
                raise FlagError(path, f"there is no flag {key} under `flags`, so nothing can differ here")
            _check_definition(path, override, file.flags[key].variants, file.evaluators)


def _check_variants(path: Path, flag: Flag) -> None:
    if not flag.variants:
        raise FlagError((*path, "variants"), "a flag needs at least one variant")
    kinds = {name: _kind(value) for name, value in flag.variants.items()}
    if unknown := [name for name, kind in kinds.items() if not kind]:
        raise FlagError((*path, "variants", unknown[0]), "a variant is a boolean, a number, a text or an object")
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
        raise FlagError((*path, "variants"), f"the variants of a flag are of one type: {said:.200}")


def _check_definition(
    path: Path, definition: Flag | Override, variants: Mapping[str, Any], evaluators: Mapping[str, Rule]
) -> None:
    if definition.default_variant is not None and definition.default_variant not in variants:
        known = ", ".join(sorted(variants))
        raise FlagError(
            (*path, "defaultVariant"), f"there is no variant {definition.default_variant!r:.60}; there are: {known}"
        )
    if definition.targeting:
        try:
            check(definition.targeting, variants)
            check(expanded(definition.targeting, evaluators), variants)
        except ValueError as exc:
            raise FlagError((*path, "targeting"), f"the targeting cannot be evaluated: {exc}") from exc
    expires = definition.metadata.get("expires")
    if expires is not None and expiry(definition.metadata) is None:
        raise FlagError((*path, "metadata", "expires"), f"{expires!r:.40} is no date, as 2027-01-31 is one")


def _kind(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case dict():
            return "an object"
        case _:
            return ""


def expiry(metadata: Mapping[str, object]) -> date | None:
    """The last day of a flag; None where it has none that can be read."""
    try:
        return date.fromisoformat(str(metadata.get("expires", "")))
    except ValueError:
        return None


def expired(file: FlagFile, now: datetime) -> Iterator[tuple[str, str]]:
    """(key, warning in words) of each flag whose last day is over."""
    for key, flag in file.flags.items():
        last = expiry(flag.metadata)
        if last is not None and last < now.astimezone(UTC).date():
            owner = f" ({flag.metadata['owner']})" if flag.metadata.get("owner") else ""
            yield key, f"the flag {key} expired on {last}: its owner{owner} removes it from the code, then here"


def definition_of(flag: Flag) -> str:
    """12 hex digits that name a definition as it is in one environment, compiled."""
    text = json.dumps(
        [flag.state, flag.variants, flag.default_variant, flag.targeting or None, flag.metadata], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def served_as(flag: Flag | None) -> str:
    """What must be read back of a flag, as canonical text. The answer itself where it is the same for everybody."""
    if flag is None:
        return ABSENT
    if flag.state == DISABLED:
        answer = CODE_DEFAULT
    elif flag.targeting or flag.default_variant is None:
        answer = BY_RULES
    else:
        answer = answer_text(flag.default_variant, flag.variants[flag.default_variant])
    return f"{answer}, definition {definition_of(flag)}"


def answer_text(variant: str, value: object) -> str:
    """A variant and its value; numbers alike, however they are written."""
    plain = int(value) if isinstance(value, float) and value.is_integer() else value
    return f"{variant}={json.dumps(plain, sort_keys=True, separators=(',', ':'))}"


# --- changes -------------------------------------------------------------------------------------------------


def killed(entry: FlagEntry, environment: str | None, now: datetime) -> FlagEntry:
    """Off at once, with all that it was kept for its restoring."""
    part = _part(entry, environment)
    if part.state == DISABLED:
        return entry
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    return entry.updated(environment, state=DISABLED, metadata={**part.metadata, KILLED_AT: at})


def restored(entry: FlagEntry, environment: str | None, now: datetime) -> FlagEntry:
    """As before the kill; a ramp goes on with the share that it had reached."""
    part = _part(entry, environment)
    if environment is not None and entry.flag is not None and entry.flag.state == DISABLED:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            "the flag is off in all environments, so it cannot be restored in one",
            "restore it without an environment",
        )
    metadata = {k: v for k, v in part.metadata.items() if k != KILLED_AT}
    state = None if isinstance(part, Override) else ENABLED
    done = entry.updated(environment, state=state, metadata=metadata)
    ramp = share_of(part.targeting) if part.targeting else None
    try:
        off_for = now - datetime.fromisoformat(str(part.metadata[KILLED_AT]))
    except (KeyError, ValueError, TypeError):
        return done
    if ramp is None or part.state != DISABLED or not ramp.moves(now - off_for):
        return done
    return done.updated(environment, targeting=with_share(part.targeting, ramp.delayed(max(off_for, timedelta()))))


def shared(
    entry: FlagEntry, environment: str | None, variant: str | None, percent: int, now: datetime, over: timedelta | None
) -> FlagEntry:
    """With `variant` for a share of the users, reached at once, or from the share of now within `over`.

    Who matches a rule before it still gets what that says. Raises PlatformError: INVALID_ARGUMENT for no such variant,
    FAILED_PRECONDITION where its targeting leaves no place for it.
    """
    flag = entry.effective(environment)
    assert flag is not None  # noqa: S101 - the caller has looked
    current = share_of(flag.targeting) if flag.targeting else None
    if current is not None and variant in (None, current.variant):
        chosen, rest = current.variant, current.rest
    else:
        chosen, rest = _pair(flag, variant)
    before = round(current.percent(now)) if current is not None and current.variant == chosen else 0
    try:
        if over is None or before == percent:
            ramp = Ramp.constant(chosen, rest, percent)
        else:
            start = now.astimezone(UTC).replace(microsecond=0)
            ramp = Ramp(
                variant=chosen, rest=rest, from_percent=before, to_percent=percent, start=start, end=start + over
            )
        return entry.updated(environment, targeting=with_share(flag.targeting, ramp))
    except ValueError as exc:
        said = str(exc) if not hasattr(exc, "errors") else exc.errors()[0]["msg"].removeprefix("Value error, ")
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, said, "give the targeting whole, by action set") from exc


def _part(entry: FlagEntry, environment: str | None) -> Flag | Override:
    assert entry.flag is not None  # noqa: S101 - the caller has looked
    return entry.flag if environment is None else entry.environments.get(environment, Override())


def _pair(flag: Flag, variant: str | None) -> tuple[str, str]:
    """The variant whose share is meant, and what the others get."""
    positive = [name for name, value in flag.variants.items() if value is True]
    chosen = variant or (positive[0] if len(positive) == 1 else "on")
    if chosen not in flag.variants:
        known = ", ".join(flag.variants)
        raise PlatformError(
            ErrorCode.INVALID_ARGUMENT, f"say which variant has the share; there are: {known}", 'variant: "NAME"'
        )
    others = [name for name in flag.variants if name != chosen]
    rest = flag.default_variant if flag.default_variant in others else others[0] if len(others) == 1 else None
    if rest is None:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"it is not known what those without {chosen} get",
            "give the flag another defaultVariant, or shares of all variants as targeting",
        )
    return chosen, rest
