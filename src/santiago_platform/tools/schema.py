"""JSON schemas of tools, as short as they can be, and the validation that is exactly as strict as they say."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..domain.errors import ErrorCode, PlatformError

Model = TypeVar("Model", bound=BaseModel)

ECHO_CHARACTERS = 80  # of a caller's own value, in an error
QUOTED_CHARACTERS = 400  # of a schema's part, in an error
ANSWER_DEPTH = 2  # levels of names in an answer's schema
PROBLEMS = 5  # that one error names
ARGUMENTS = 64  # more than any request has fields: refused before each one costs an error
_JSON = json.JSONEncoder(allow_nan=False)  # made once: json.dumps makes one for each call


def input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """What `parse` accepts, without what says nothing: titles, nulls, defaults that are empty."""
    raw = model.model_json_schema(mode="validation")
    return _compact({**raw, "description": None}, raw.get("$defs", {}))


def answer_schema(model: type[BaseModel], names: tuple[str, ...] = ()) -> dict[str, Any]:
    """The names in an answer and in the records of its lists; what is deeper shows itself.

    It is short rather than strict: the list of all tools is in every agent's context, and no client needs more
    to read an answer. Every answer fits it, with its nulls left out. names: the only ones to tell, where another tool
    tells the rest; empty means all.
    """
    raw = model.model_json_schema(mode="serialization")
    told = _names(_compact(raw, raw.get("$defs", {})), depth=ANSWER_DEPTH)
    if names:
        told["properties"] = {name: told["properties"][name] for name in names}
    return {"type": "object", **told}


def _compact(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Inlines references and drops noise. Pure; a recursive model has no end and is not for a tool."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        return _compact({**target, "description": None, **_without(schema, "$ref")}, definitions)
    branches = [b for b in schema.get("anyOf", ()) if b.get("type") != "null"]
    if len(branches) == 1:
        return _compact({**branches[0], **_without(schema, "anyOf")}, definitions)
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("title", "$defs") or value is None or (key == "default" and value in (False, "")):
            continue
        if key == "type" and ("enum" in schema or "const" in schema):
            continue  # the values say it
        if key == "properties":
            out[key] = {name: _compact(part, definitions) for name, part in value.items()}
        elif key == "anyOf":
            out[key] = [_compact(branch, definitions) for branch in branches]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = _compact(value, definitions)
        else:
            out[key] = value
    return out


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in schema.items() if k != key}


def _names(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth and "properties" in schema:
        return {"properties": {name: _names(part, depth - 1) for name, part in schema["properties"].items()}}
    if depth and "properties" in schema.get("items", {}):
        return {"items": _names(schema["items"], depth)}
    return {}


def parse(
    model: type[Model], arguments: Mapping[str, Any], schema: Mapping[str, Any] | None = None, hint: str = ""
) -> Model:
    """The typed request of JSON `arguments`. A null is the same as leaving the argument out, and 3.0 is 3.

    schema: of the model, as `input_schema` gives it; quoted in errors. hint: for the error, else the names.
    Raises PlatformError(INVALID_ARGUMENT) that says which argument, what was expected and what came.
    """
    hint = hint or f"it takes {', '.join(model.model_fields)}"
    if len(arguments) > ARGUMENTS:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, f"{len(arguments)} arguments are too many", hint)
    given = {name: _number(value) for name, value in arguments.items() if value is not None}
    try:
        # Through JSON, since only there is strict the strictness of the schema: an enum may be its text.
        return model.model_validate_json(_JSON.encode(given), strict=True)
    except ValidationError as exc:
        shown = schema if schema is not None else input_schema(model)
        problems = [_problem(error, given, shown) for error in exc.errors(include_url=False, include_context=False)]
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "; ".join(dict.fromkeys(problems[:PROBLEMS])), hint) from exc
    except (ValueError, RecursionError) as exc:  # NaN, infinity; nested deeper than anything that is meant
        message = f"the arguments are not JSON as it may be sent: {str(exc)[:ECHO_CHARACTERS]}"
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, message, hint) from exc


def _number(value: object) -> object:
    """JSON has one kind of number, and some clients send every one with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _problem(error: Mapping[str, Any], given: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    place = error["loc"]
    if not place:
        return f"the arguments are not what is expected: {error['msg'][:QUOTED_CHARACTERS]}"
    name = str(place[0])
    known = schema.get("properties", {})
    if error["type"] == "extra_forbidden" and len(place) == 1:
        near = nearest(name, known)
        return f"unknown argument {echo(name)}" + (f": did you mean {near}?" if near else "")
    expected = json.dumps(known.get(name, {}), separators=(",", ":"), ensure_ascii=False)[:QUOTED_CHARACTERS]
    if error["type"] == "missing" and len(place) == 1:
        return f"argument {name} is missing: {expected}"
    return f"argument {name} is {echo(given.get(name))}, expected {expected}"


def echo(value: object) -> str:
    """A caller's value as one bounded line without control characters."""
    if isinstance(value, str):
        cut = f"... ({len(value)} characters)" if len(value) > ECHO_CHARACTERS else ""
        return json.dumps(value[:ECHO_CHARACTERS]) + cut
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value) if not isinstance(value, int) or abs(value) < 10**ECHO_CHARACTERS else "a huge number"
    return text[:ECHO_CHARACTERS]


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """The known names that are most like `name`, comma-separated; empty where none is."""
    return ", ".join(difflib.get_close_matches(name[:64].lower(), list(known), n=3, cutoff=0.6))
