"""Targeting rules of feature flags: JsonLogic with flagd's operations, checked before anything evaluates them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Rule = Any  # JSON: an object with one operation, a list, or a plain value

LARGEST_RULE = 10_000  # values, once the shared rules that it refers to are put in place
DEEPEST_RULE = 64
REFERENCE = "$ref"
TARGETING_KEY = "targetingKey"

_ANY = 1_000_000
_ONE_OR_MORE, _TWO_OR_MORE, _TWO = (1, _ANY), (2, _ANY), (2, 2)
# Operations and how many arguments each may have. Source: flagd's targeting.json, v0.
_ARGUMENTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("if", "or", "and", "+", "-", "max", "min", "merge", "cat", "var", "fractional"), _ONE_OR_MORE),
    **dict.fromkeys(("==", "===", "!=", "!==", ">", ">=", "%", "/", "in", "starts_with", "ends_with"), _TWO),
    **dict.fromkeys(("map", "filter", "all", "none", "some", "missing_some"), _TWO),
    **dict.fromkeys(("substr", "<", "<="), (2, 3)),
    **dict.fromkeys(("!", "!!"), (1, 1)),
    "*": _TWO_OR_MORE,
    "missing": (0, _ANY),
    "reduce": (3, 3),
    "sem_ver": (3, 3),
}
_SOLE_ARGUMENT_BARE = frozenset({"!", "!!", "var"})
_COMPARISONS = frozenset({"=", "!=", ">", "<", ">=", "<=", "~", "^"})


def check(rule: Rule, variants: Collection[str]) -> None:
    """Raises ValueError, in words, where flagd could not evaluate `rule`, or it gives a variant that there is not."""
    if not isinstance(rule, dict):
        raise ValueError("it must be an object with one operation")
    if rule:
        _check(rule, DEEPEST_RULE)
        for result in _results(rule):
            if result not in variants:
                known = ", ".join(sorted(variants))
                raise ValueError(f"it gives the variant {result!r:.60}, and there are: {known}")


def _check(rule: Rule, depth: int) -> None:
    if depth == 0:
        raise ValueError(f"it is nested deeper than {DEEPEST_RULE} levels")
    if isinstance(rule, list):
        for item in rule:
            _check(item, depth - 1)
    if not isinstance(rule, dict):
        return
    if len(rule) != 1:
        raise ValueError(f"an object in it has {len(rule)} keys ({', '.join(rule)[:80]}); one operation is expected")
    ((operation, given),) = rule.items()
    if operation == REFERENCE:
        if not isinstance(given, str):
            raise ValueError(f"{REFERENCE} must name a rule of $evaluators")
        return
    if operation not in _ARGUMENTS:
        raise ValueError(f"{operation!r:.60} is not an operation of flagd")
    arguments = given if isinstance(given, list) else [given]
    if not isinstance(given, list) and operation not in _SOLE_ARGUMENT_BARE:
        raise ValueError(f"{operation} takes a list")
    least, most = _ARGUMENTS[operation]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} or more" if most == _ANY else f"{least} to {most}"
        raise ValueError(f"{operation} takes {wanted} arguments, and has {len(arguments)}")
    _check_arguments(operation, arguments)
    for argument in arguments:
        _check(argument, depth - 1)


def _check_arguments(operation: str, arguments: list[Rule]) -> None:
    match operation:
        case "fractional":
            _check_fractional(arguments)
        case "sem_ver":
            if not isinstance(arguments[1], str) or arguments[1] not in _COMPARISONS:
                raise ValueError(f"sem_ver compares by {' '.join(sorted(_COMPARISONS))}, not by {arguments[1]!r:.20}")
            _check_texts(operation, [arguments[0], arguments[2]], or_rules=True)
        case "starts_with" | "ends_with":
            _check_texts(operation, arguments, or_rules=True)
        case "missing":
            _check_texts(operation, arguments, or_rules=False)
        case "missing_some":
            least, names = arguments
            if isinstance(least, bool) or not isinstance(least, (int, float)) or not isinstance(names, list):
                raise ValueError("missing_some takes a number and a list of names")
            _check_texts(operation, names, or_rules=False)


def _check_texts(operation: str, arguments: list[Rule], *, or_rules: bool) -> None:
    for argument in arguments:
        if not isinstance(argument, str) and not (or_rules and isinstance(argument, dict)):
            raise ValueError(f"{operation} takes texts{' or rules' * or_rules}, not {argument!r:.40}")


def _check_fractional(arguments: list[Rule]) -> None:
    if not isinstance(arguments[0], list | dict):
        raise ValueError(f"fractional tells users apart by a rule, such as a var, not by {arguments[0]!r:.40}")
    shares = _shares(arguments)
    if not shares:
        raise ValueError("fractional has no variants to choose from")
    for share in shares:
        if not isinstance(share, list) or not 1 <= len(share) <= 2:
            raise ValueError('fractional takes pairs of a variant and its weight: ["on", 10]')
        weight = share[1] if len(share) == 2 else 1
        if isinstance(weight, bool) or not isinstance(weight, (int, dict)) or (isinstance(weight, int) and weight < 0):
            raise ValueError(f"{weight!r:.40} in fractional is no weight; it is a whole number of 0 or more, or a rule")
    weights = [share[1] if len(share) == 2 else 1 for share in shares]
    plain = [weight for weight in weights if isinstance(weight, int)]
    if sum(plain) >= 1 << 31 or (len(plain) == len(weights) and sum(plain) == 0):
        raise ValueError("the weights in fractional must have a sum from 1 to 2147483647")


def _shares(arguments: list[Rule]) -> list[Rule]:
    """Without what says by which value users are told apart, where something does."""
    return arguments if arguments and isinstance(arguments[0], list) else arguments[1:]


def _results(rule: Rule) -> Iterator[str]:
    """The variants that a rule may give, as far as they are written out."""
    if isinstance(rule, bool):
        yield str(rule).lower()
    elif isinstance(rule, str):
        yield rule
    elif isinstance(rule, dict) and "if" in rule:
        arguments = rule["if"]
        for position, argument in enumerate(arguments):
            if position % 2 or (position and position == len(arguments) - 1):
                yield from _results(argument)
    elif isinstance(rule, dict) and "fractional" in rule:
        for share in _shares(rule["fractional"]):
            yield from _results(share[0])


def expanded(rule: Rule, evaluators: Mapping[str, Rule]) -> Rule:
    """`rule` with the shared rules that it refers to in their places.

    Raises ValueError where one is missing, refers to itself, or all of it becomes too large.
    """
    count = 0

    def expand(part: Rule, within: tuple[str, ...]) -> Rule:
        nonlocal count
        count += 1
        if count > LARGEST_RULE:
            raise ValueError(f"it has more than {LARGEST_RULE} values, shared rules included")
        if isinstance(part, list):
            return [expand(item, within) for item in part]
        if not isinstance(part, dict):
            return part
        name = part.get(REFERENCE)
        if name is None:
            return {key: expand(value, within) for key, value in part.items()}
        if name not in evaluators:
            known = ", ".join(sorted(evaluators)) or "none"
            raise ValueError(f"it refers to the shared rule {name!r:.60}; $evaluators has: {known}")
        if name in within:
            raise ValueError(f"the shared rule {name!r:.60} refers to itself")
        return expand(evaluators[name], (*within, name))

    return expand(rule, ())


def needs_targeting_key(rule: Rule) -> bool:
    """Whether who the user is may decide: by the key itself, or by shares of users."""
    if isinstance(rule, list):
        return any(map(needs_targeting_key, rule))
    if not isinstance(rule, dict):
        return False
    if rule.get("var") in (TARGETING_KEY, [TARGETING_KEY]):
        return True
    shares = rule.get("fractional")
    if shares and isinstance(shares[0], list):
        return True
    return any(map(needs_targeting_key, rule.values()))
