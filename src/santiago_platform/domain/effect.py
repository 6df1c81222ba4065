"""What a change of a deployment claims to have done, as probes can check it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .proof import Claim
from .rollout import Desired
from .route import Match, Mirror

RETRIES_STAY = "retries stay with their version"


def weights_text(weights: Mapping[str, int]) -> str:
    """Weights as canonical text: `VERSION=SHARE%` sorted by version, shares rounded to a tenth; `none` when empty."""
    total = sum(weights.values())
    if total == 0:
        return "none"
    shares = [f"{v}={100 * w / total:.1f}%" for v, w in sorted(weights.items()) if w > 0]
    return " ".join(shares)


def rules_text(matches: Sequence[Match], mirror: Mirror | None, *, sticky: bool, retries_elsewhere: bool = True) -> str:
    """What a route does besides its weights, as canonical text; `none` without any. Matches are in their order."""
    rules = [match_text(m.version, header=m.header, cookie=m.cookie, query=m.query) for m in matches]
    rules += ["sticky"] if sticky else []
    rules += [] if retries_elsewhere else [RETRIES_STAY]
    rules += [mirror_text(mirror.version, mirror.percent, all_methods=mirror.all_methods)] if mirror else []
    return "; ".join(rules) or "none"


def match_text(version: str, **conditions: tuple[str, str] | None) -> str:
    """conditions: (name, value) by kind. `VERSION if header NAME is "VALUE" and query ...`."""
    given = [f"{kind} {c[0]} is {json.dumps(c[1])}" for kind, c in sorted(conditions.items()) if c is not None]
    return f"{version} if {' and '.join(given)}"


def mirror_text(version: str, percent: float, *, all_methods: bool) -> str:
    return f"copies of {percent:g}% of {'all' if all_methods else 'safe'} requests to {version}"


def claims(service: str, environment: str, desired: Desired) -> list[Claim]:
    """Route, instances and answers of a service, as `desired` wants them.

    Only versions that get requests are counted: what is kept warm or is going away may change at any moment.
    """
    where = f"{service}/{environment}"
    out = [Claim(subject=f"route {where}", expected=weights_text(desired.weights))]
    rules = rules_text(
        desired.matches, desired.mirror, sticky=desired.sticky, retries_elsewhere=desired.retries_elsewhere
    )
    out.append(Claim(subject=f"rules {where}", expected=rules))
    asked = {version for version, weight in desired.weights.items() if weight > 0}
    asked |= {match.version for match in desired.matches} | ({desired.mirror.version} if desired.mirror else set())
    for version, count in desired.replicas:
        if version.name in asked:
            out.append(Claim(subject=f"instances {where} {version.name}", expected=str(count)))
    serving = sorted(v for v, w in desired.weights.items() if w > 0)
    speaks = " h2c" if any(v.template.protocol == "h2c" for v, _ in desired.replicas if v.name in serving) else ""
    out.append(Claim(subject=f"serves {where}{speaks}", expected=",".join(serving) or "none"))
    return out
