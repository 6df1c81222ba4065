"""YAML that a person wrote: read safely, with the line of every value, so that an error can say where it is."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Name

LIMIT_BYTES = 256 * 1024
NODE_LIMIT = 10_000  # after aliases are expanded
DEPTH_LIMIT = 64
SHOWN_PROBLEMS = 5
NAME_RULE = "a name has 1 to 40 of a-z, 0-9 and '-', begins with a letter and does not end with '-'"

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
N = TypeVar("N")

_NAME_PATTERN = TypeAdapter(Name).json_schema()["pattern"]
_TAG = "tag:yaml.org,2002:"
_PLAIN_STRING = {f"{_TAG}str", f"{_TAG}timestamp"}  # a date stays what was written
_TYPED = {f"{_TAG}{name}" for name in ("int", "float", "bool", "null")}


@dataclass(frozen=True)
class Document:
    """where: names the file in errors. value: of plain dicts, lists and scalars.

    lines: from 1, by path; a mapping's value has the line of its key. texts: scalars as they were written.
    """

    where: str
    value: Any
    lines: Mapping[Path, int] = field(default_factory=dict)
    texts: Mapping[Path, str] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of the value at `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(
        self, path: Path, problem: str, hint: str = "", code: ErrorCode = ErrorCode.INVALID_ARGUMENT
    ) -> PlatformError:
        return PlatformError(code, f"{self.where}:{self.line(path)}: {problem}", hint)


def parse(text: str, where: str) -> Document:
    """Raises PlatformError(INVALID_ARGUMENT), beginning `WHERE:LINE: `, for what is not YAML, too big, or ambiguous."""
    loader, node = _composed(text, where, lambda loader: loader.get_single_node())
    return _document(where, loader, node)


def parse_all(text: str, where: str) -> list[Document]:
    """Of each document of a stream (`---`) that is not empty. Raises as `parse`; the limits are of them together."""
    loader, nodes = _composed(text, where, _all_nodes)
    documents = [_document(where, loader, node) for node in nodes]
    return [document for document in documents if document.value not in ({}, None)]


def _composed(text: str, where: str, compose: Callable[[_Loader], N]) -> tuple[_Loader, N]:
    if len(text.encode(errors="surrogatepass")) > LIMIT_BYTES:
        raise _error(where, 1, f"larger than {LIMIT_BYTES // 1024} KiB", "split it, or move data out of it")
    try:
        loader = _Loader(text)
        return loader, compose(loader)
    except _Unbounded as exc:
        raise _error(where, exc.line, str(exc), "write it flatter") from exc
    except yaml.reader.ReaderError as exc:
        line = text[: exc.position].count("\n") + 1
        raise _error(where, line, f"has a character that YAML does not allow ({exc.reason})") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = " ".join(filter(None, (exc.context, exc.problem)))
        raise _error(
            where, mark.line + 1 if mark else 1, f"is not valid YAML: {problem}", "check indentation and quotes"
        ) from exc


def _all_nodes(loader: _Loader) -> list[yaml.Node]:
    nodes: list[yaml.Node] = []
    while loader.check_node():
        node = loader.get_node()
        if node is not None:
            nodes.append(node)
    return nodes


def _document(where: str, loader: _Loader, node: yaml.Node | None) -> Document:
    if node is None:
        return Document(where, {})
    reader = _Reader(where, loader)
    value = reader.read(node, (), node.start_mark.line + 1)
    return Document(where, value, reader.lines, reader.texts)


def validate(document: Document, model: type[M]) -> M:
    """The document as `model`. Raises PlatformError(INVALID_ARGUMENT) that names every problem, each with its line."""
    try:
        # By way of JSON, whose strict mode takes lists for tuples and texts for enums, and converts nothing else.
        return model.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as exc:
        schema = model.model_json_schema(by_alias=True)
        found = exc.errors(include_url=False)
        problems = sorted(_problem(document, schema, details) for details in found)
        shown = [f"{document.where}:{line}: {problem}" for line, problem, _ in problems[:SHOWN_PROBLEMS]]
        if len(problems) > SHOWN_PROBLEMS:
            shown.append(f"and {len(problems) - SHOWN_PROBLEMS} more")
        hints = dict.fromkeys(hint for _, _, hint in problems[:SHOWN_PROBLEMS] if hint)
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "\n".join(shown), "; ".join(hints)) from exc


def nearest(name: str, valid: list[str]) -> str:
    """A hint that names what `name` may have been meant to be, out of `valid`."""
    close = difflib.get_close_matches(name, valid, n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"valid here: {', '.join(sorted(valid)[:20])}" if valid else ""


def _error(where: str, line: int, problem: str, hint: str = "") -> PlatformError:
    return PlatformError(ErrorCode.INVALID_ARGUMENT, f"{where}:{line}: {problem}", hint)


class _Unbounded(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Stops at the limits while it reads, before anything has grown."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        line = int(self.peek_event().start_mark.line) + 1  # type: ignore[no-untyped-call]
        self._nodes += 1
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise _Unbounded(line, f"is nested deeper than {DEPTH_LIMIT} levels")
        if self._nodes > NODE_LIMIT:
            raise _Unbounded(line, f"has more than {NODE_LIMIT} values")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Reader:
    """Turns nodes into values, counting aliases each time they are used."""

    def __init__(self, where: str, loader: _Loader) -> None:
        self.lines: dict[Path, int] = {}
        self.texts: dict[Path, str] = {}
        self._where = where
        self._loader = loader
        self._nodes = 0

    def read(self, node: yaml.Node, path: Path, line: int) -> Any:
        self._nodes += 1
        if self._nodes > NODE_LIMIT or len(path) > DEPTH_LIMIT:
            outermost = self.lines.get(path[:1], line)
            raise _error(self._where, outermost, "its aliases expand to too many values", "write the values out")
        self.lines[path] = line
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.read(item, (*path, i), item.start_mark.line + 1) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, line)
        raise _error(self._where, line, f"has the type {node.tag}, which is not allowed here", "remove the tag")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_TAG}merge":
                raise _error(self._where, line, "merge keys (<<) are not supported", "write the keys out")
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _PLAIN_STRING:
                written = key_node.value if isinstance(key_node, yaml.ScalarNode) else "it"
                raise _error(
                    self._where, line, f"the key {written!s:.60} is not a text in YAML", f'quote it: "{written!s:.60}"'
                )
            key = key_node.value
            if key in found:
                first = self.lines[(*path, key)]
                raise _error(self._where, line, f"the key {key!r} is there twice", f"the first one is in line {first}")
            found[key] = None
            found[key] = self.read(value_node, (*path, key), line)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path, line: int) -> Any:
        self.texts[path] = node.value
        if node.tag in _PLAIN_STRING:
            return node.value
        if node.tag not in _TYPED:
            raise _error(self._where, line, f"has the type {node.tag}, which is not allowed here", "remove the tag")
        try:
            return self._loader.construct_object(node)
        except ValueError as exc:
            raise _error(self._where, line, f"{node.value[:60]!r} is not a usable number", "quote it") from exc


def _problem(document: Document, schema: dict[str, Any], details: ErrorDetails) -> tuple[int, str, str]:
    """(line, what is wrong in words, hint) of one of pydantic's findings."""
    path = _present(document.value, details["loc"], missing=details["type"] in ("missing", "extra_forbidden"))
    line = document.line(path)
    subject = ".".join(str(part) for part in path) or "the file"
    match details["type"]:
        case "extra_forbidden":
            owner = ".".join(str(part) for part in path[:-1])
            hint = nearest(str(path[-1]), _properties(schema, path[:-1]))
            return line, f"unknown key {path[-1]!r}" + (f" in {owner}" if owner else ""), hint
        case "missing":
            return line, f"{subject} is missing", ""
        case "string_type" if path in document.texts and not isinstance(details["input"], str):
            text = document.texts[path]
            kind = {bool: "true or false", type(None): "nothing"}.get(type(details["input"]), "a number")
            return line, f"{subject} must be a text, but YAML reads {text} as {kind}", f'quote it: "{text}"'
        case "int_type" | "float_type" | "bool_type" if isinstance(details["input"], str):
            return line, f"{subject}: {details['msg'].lower()}, not a text", "write it without quotes"
        case "string_pattern_mismatch" if details.get("ctx", {}).get("pattern") == _NAME_PATTERN:
            return line, f"{subject}: {details['input']!r} is not a name", NAME_RULE
        case _:
            said = details["msg"].removeprefix("Value error, ")
            return line, f"{subject}: {said[:1].lower()}{said[1:]}", ""


def _present(value: Any, loc: Path, *, missing: bool) -> Path:
    """`loc` without what pydantic adds to it: names of a union's members and of validators, and `[key]`."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            path.append(part)
            value = value[part]
        elif missing and i == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _properties(schema: dict[str, Any], path: Path) -> list[str]:
    """The keys that the JSON schema knows at `path`."""
    nodes = _alternatives(schema, schema)
    for part in path:
        children = [
            child
            for node in nodes
            for child in (
                node.get("properties", {}).get(part),
                node.get("additionalProperties"),
                node.get("items"),
                *node.get("patternProperties", {}).values(),
            )
        ]
        nodes = [below for child in children if isinstance(child, dict) for below in _alternatives(schema, child)]
    return [name for node in nodes for name in node.get("properties", {})]


def _alternatives(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _alternatives(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    below = [a for member in (*node.get("anyOf", []), *node.get("oneOf", [])) for a in _alternatives(schema, member)]
    return [node, *below]
