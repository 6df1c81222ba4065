"""What the proxies count of each version, and what happened between two readings: integers, never rates.

A proxy's counts begin anew with its process, and a version's with its first cluster. So a difference is taken only
where both readings are known to be of the same counters; otherwise there is none, rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from .value import Value

# (edge in seconds, how many took at most so long), edges rise. The last edge holds all that were measured.
Histogram = tuple[tuple[float, int], ...]


class Count(Value):
    """What one proxy counted of a version, requests that a match sent to it included. Live, except for `within`.

    mirrored: of the copies that a mirror sends to it, which count nowhere else.
    requests: answered by the version or, where it could not, by the proxy (503); and each try that failed and was
    repeated, though the client saw no failure of it. errors: those of them that were answered with 5xx, that were
    repeated, or whose answer broke off (in HTTP/1.1 alone; an answer that is no HTTP at all counts as two). A status of
    gRPC is no error here: its answer is a 200.
    abandoned: given up by the client before the answer was whole. These are in `requests` where the answer had begun.
    A version that hangs shows here, but users who leave and WebSockets that end do so too.
    within: of whole answers; up to a second later than the rest, since proxies collect it by that interval.
    """

    version: str
    mirrored: bool = False
    requests: int = 0
    errors: int = 0
    abandoned: int = 0
    within: Histogram = ()


class Counters(Value):
    """A reading of one live proxy. epoch: of its process; another one has begun to count anew."""

    proxy: str
    epoch: str
    counts: tuple[Count, ...] = ()


class Delta(Value):
    """What happened between two readings, all proxies together. As in `Count`; errors <= requests."""

    requests: int = 0
    errors: int = 0
    abandoned: int = 0
    within: Histogram = ()

    @property
    def measured(self) -> int:
        """How many whole answers `within` is about."""
        return self.within[-1][1] if self.within else 0

    def slower(self, edge_seconds: float) -> int | None:
        """How many of `measured` took longer. None where there is no such edge."""
        found = dict(self.within).get(edge_seconds)
        return None if found is None else self.measured - found


class Samples(Value):
    """What one proxy had counted of one instance at moments of equal distance; None where it was not looked at.

    series: an instance has several, one after the other or for a while at once, since a proxy begins to count it anew
    when the instances of its version change. requests: tries that the instance got. errors: those that it answered
    with 5xx or broke off.
    """

    instance: str
    proxy: str
    series: str
    requests: tuple[int | None, ...]
    errors: tuple[int | None, ...]


def deltas(before: Sequence[Counters], after: Sequence[Counters], *, mirrored: bool = False) -> dict[str, Delta] | None:
    """What happened to each version between two readings. mirrored: to the copies that it got instead.

    None where that cannot be known: a proxy restarted, came or vanished, a version is not counted any more, a count
    fell, or there is no proxy. A version is in it as soon as a proxy counts it, with zeros where nothing happened.
    """
    was, now = ({(c.proxy, c.epoch): _counts(c, mirrored) for c in each} for each in (before, after))
    if not now or was.keys() != now.keys():
        return None
    found: dict[str, list[Count]] = {}
    for proxy, counts in now.items():
        if not was[proxy].keys() <= counts.keys():
            return None
        for version, count in counts.items():
            gained = _gained(was[proxy].get(version) or Count(version=version), count)
            if gained is None:
                return None
            found.setdefault(version, []).append(gained)
    return {version: _sum(gained) for version, gained in found.items()}


def buckets(samples: Sequence[Samples]) -> dict[str, tuple[Delta | None, ...]]:
    """What happened to each instance between each two moments, all proxies together: one less than there are samples.

    None where that cannot be known: a series began, ended or fell, or there is none.
    """
    found: dict[str, list[list[Delta | Literal["unknown", "absent"]]]] = {}
    for one in samples:
        points = list(zip(one.requests, one.errors, strict=True))
        found.setdefault(one.instance, []).append([_between(a, b) for a, b in pairwise(points)])
    return {
        instance: tuple(_together(each) for each in zip(*series, strict=True)) for instance, series in found.items()
    }


_Point = tuple[int | None, int | None]


def _between(was: _Point, now: _Point) -> Delta | Literal["unknown", "absent"]:
    if None in was and None in now:
        return "absent"
    if was[0] is None or was[1] is None or now[0] is None or now[1] is None or now[0] < was[0] or now[1] < was[1]:
        return "unknown"
    errors = now[1] - was[1]
    return Delta(requests=max(now[0] - was[0], errors), errors=errors)


def _together(series: Sequence[Delta | Literal["unknown", "absent"]]) -> Delta | None:
    known = [each for each in series if isinstance(each, Delta)]
    if not known or "unknown" in series:
        return None
    return Delta(requests=sum(c.requests for c in known), errors=sum(c.errors for c in known))


def _counts(counters: Counters, mirrored: bool) -> dict[str, Count]:
    return {c.version: c for c in counters.counts if c.mirrored is mirrored}


def _gained(was: Count, now: Count) -> Count | None:
    """None where a count fell."""
    within = _within(was.within, now.within)
    gained = Count(
        version=now.version,
        requests=now.requests - was.requests,
        errors=now.errors - was.errors,
        abandoned=now.abandoned - was.abandoned,
        within=within or (),
    )
    fell = within is None or min(gained.requests, gained.errors, gained.abandoned, *(n for _, n in within)) < 0
    return None if fell else gained


def _within(was: Histogram, now: Histogram) -> Histogram | None:
    """None where the edges are others."""
    if not was:
        return now
    if [edge for edge, _ in was] != [edge for edge, _ in now]:
        return None
    return tuple((edge, n - m) for (edge, n), (_, m) in zip(now, was, strict=True))


def _sum(gained: Sequence[Count]) -> Delta:
    errors = sum(g.errors for g in gained)
    layouts = {tuple(edge for edge, _ in g.within) for g in gained if g.within}
    edges = layouts.pop() if len(layouts) == 1 else ()  # of different layouts there is no sum
    return Delta(
        # A failure may be seen a moment before its request is.
        requests=max(sum(g.requests for g in gained), errors),
        errors=errors,
        abandoned=sum(g.abandoned for g in gained),
        within=tuple((edge, sum(dict(g.within).get(edge, 0) for g in gained)) for edge in edges),
    )
