"""Cedar's texts made into a set that can be asked, or refused with file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ...domain.errors import ErrorCode, PlatformError
from ...domain.identity import Role
from ...domain.plan import fingerprint
from ...domain.policy import Decision, Question, Verdict

if TYPE_CHECKING:
    import cedarpy

DEFAULT = "default.cedar"
HINT = "`santiago policy check` looks again; docs/guides/governance.md has the names that policies may use"


@dataclass(frozen=True)
class _Statement:
    """One policy's text, and where it begins. line: from 1."""

    text: str
    where: str
    line: int

    def error(self, problem: str) -> PlatformError:
        return PlatformError(ErrorCode.INVALID_ARGUMENT, f"{self.where}:{self.line}: {problem}", HINT)


class PolicySet:
    """Policies that are valid, together.

    rules: by id, the file of each; empty of the default ones. approvers: of a rule that names one. version: a digest.
    """

    def __init__(
        self, policies: cedarpy.PolicySet, rules: dict[str, str], approvers: dict[str, Role], version: str
    ) -> None:
        self.rules = rules
        self.version = version
        self._policies = policies
        self._approvers = approvers

    def decide(self, question: Question) -> Decision:
        """An approval is needed where the same question with `approved` would be allowed."""
        allowed, rules = self._ask(question, approved=False)
        if allowed:
            return Decision(verdict=Verdict.ALLOW, rules=rules)
        if self._ask(question, approved=True)[0]:
            approver = next((self._approvers[rule] for rule in rules if rule in self._approvers), Role.OWNER)
            return Decision(verdict=Verdict.NEEDS_APPROVAL, rules=rules, approver=approver)
        return Decision(verdict=Verdict.DENY, rules=rules)

    def _ask(self, question: Question, *, approved: bool) -> tuple[bool, tuple[str, ...]]:
        import cedarpy

        who, target = question.principal, question.target
        principal = _uid("Principal", f"{who.tenant}/{who.name}")
        resource = _uid("Target", f"{target.service}/{target.environment}")
        entities: list[dict[str, Any]] = [
            {
                "uid": principal,
                "parents": [_uid("Role", who.role)],
                "attrs": {
                    "name": who.name,
                    "tenant": who.tenant,
                    "level": {"__entity": _uid("Level", who.level or "")},
                    "scope": {"__entity": _uid("Scope", who.scope or "")},
                },
            },
            {
                "uid": resource,
                "parents": [],
                "attrs": {
                    "tenant": target.tenant,
                    "service": target.service,
                    "environment": target.environment,
                    "kind": {"__entity": _uid("Kind", target.kind or "none")},
                },
            },
        ]
        request = {
            "principal": principal,
            "action": _uid("Action", question.action),
            "resource": resource,
            "context": {"approved": approved, "destroys": question.destroys},
        }
        answer = cedarpy.is_authorized(request, self._policies, entities, _schema())
        # A rule that cannot be evaluated is left out by Cedar: if it was a forbid, what it forbids would be allowed.
        return answer.allowed and not answer.diagnostics.errors, tuple(sorted(answer.diagnostics.reasons))


def compile_policies(texts: Sequence[tuple[str, str]]) -> PolicySet:
    """The default policies and `texts`, pairs of a file's name and its text.

    Raises PlatformError(INVALID_ARGUMENT), beginning `FILE:LINE: `, for what is not Cedar, not of the schema, or has
    no id of its own.
    """
    import cedarpy

    found: dict[str, Any] = {}
    rules: dict[str, str] = {}
    approvers: dict[str, Role] = {}
    for where, text in [(DEFAULT, _own(DEFAULT)), *texts]:
        for statement in _statements(text, where):
            policy = _parsed(statement)
            rule = policy["annotations"]["id"]
            if rule in found:
                raise statement.error(f"there is a policy {rule} already: each has an @id of its own")
            approver = policy["annotations"].get("approver")
            if approver is not None:
                if approver not in set(Role):
                    raise statement.error(f"@approver({json.dumps(approver)}) is no role: {', '.join(Role)}")
                approvers[rule] = Role(approver)
            found[rule] = policy
            rules[rule] = "" if where == DEFAULT else where
    whole = {"staticPolicies": found, "templates": {}, "templateLinks": []}
    version = fingerprint({"rules": found})
    return PolicySet(cedarpy.PolicySet.from_json_str(json.dumps(whole)), rules, approvers, version)


def _parsed(statement: _Statement) -> Any:
    import cedarpy

    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement.text))
    except ValueError as exc:
        raise statement.error(f"it is not a policy: {str(exc)[:300]}") from exc
    policies = list(parsed["staticPolicies"].values())
    if len(policies) != 1:
        raise statement.error("it is a template: name the principal and the resource, or leave them open")
    if not policies[0].get("annotations", {}).get("id"):
        raise statement.error('the policy has no @id("..."), by which decisions name it')
    checked = cedarpy.validate_policies(statement.text, _schema())
    if not checked.validation_passed:
        problems = (error.error.replace("for policy `policy0`", "").lstrip(":, ") for error in checked.errors)
        raise statement.error("; ".join(problems)[:500])
    return policies[0]


def _statements(text: str, where: str) -> Iterator[_Statement]:
    """The policies of a file, each up to its semicolon: Cedar itself says of an error not where it is."""
    begin = at = 0
    quoted = commented = False
    while at < len(text):
        sign = text[at]
        if commented:
            commented = sign != "\n"
        elif quoted:
            at += sign == "\\"
            quoted = sign != '"'
        elif text.startswith("//", at):
            commented = True
        elif sign == '"':
            quoted = True
        elif sign == ";":
            yield _statement(text, begin, at + 1, where)
            begin = at + 1
        at += 1
    rest = _statement(text, begin, len(text), where)
    if rest.text:
        yield rest


def _statement(text: str, begin: int, end: int, where: str) -> _Statement:
    """Without the comments before it."""
    lines = text[begin:end].split("\n")
    line = text[:begin].count("\n") + 1
    while lines and (not lines[0].strip() or lines[0].strip().startswith("//")):
        lines.pop(0)
        line += 1
    return _Statement("\n".join(lines).strip(), where, line)


def _uid(kind: str, id: str) -> dict[str, str]:
    return {"type": kind, "id": id}


def _own(name: str) -> str:
    return (files(__package__) / name).read_text()


@cache
def _schema() -> cedarpy.Schema:
    import cedarpy

    return cedarpy.Schema.from_str(_own("schema.cedarschema"))
