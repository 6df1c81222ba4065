"""What a change of a deployment claims to have done, as probes can check it."""

from __future__ import annotations

from collections.abc import Mapping

from .proof import Claim
from .rollout import Desired


def weights_text(weights: Mapping[str, int]) -> str:
    """Weights as canonical text: `VERSION=SHARE%` sorted by version, shares rounded to a tenth; `none` when empty."""
    total = sum(weights.values())
    if total == 0:
        return "none"
    shares = [f"{v}={100 * w / total:.1f}%" for v, w in sorted(weights.items()) if w > 0]
    return " ".join(shares)


def claims(service: str, environment: str, desired: Desired) -> list[Claim]:
    """Route, instances and answers of a service, as `desired` wants them.

    Only versions with traffic are counted: what is kept warm or is going away may change at any moment.
    """
    where = f"{service}/{environment}"
    out = [Claim(subject=f"route {where}", expected=weights_text(desired.weights))]
    for version, count in desired.replicas:
        if desired.weights.get(version.name):
            out.append(Claim(subject=f"instances {where} {version.name}", expected=str(count)))
    serving = sorted(v for v, w in desired.weights.items() if w > 0)
    speaks = " h2c" if any(v.template.protocol == "h2c" for v, _ in desired.replicas if v.name in serving) else ""
    out.append(Claim(subject=f"serves {where}{speaks}", expected=",".join(serving) or "none"))
    return out
