"""Templates and static files of the console. All text is escaped; no template and no file is anybody's but ours."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_KEY_MARK = f"key-{secrets.token_hex(16)}"  # stands for the form key in what is compared with what was shown before
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
SECTIONS = (
    ("/", "services", "Services"),
    ("/console/operations", "operations", "Operations"),
    ("/console/slos", "slos", "SLOs"),
    ("/console/incidents", "incidents", "Incidents"),
    ("/console/messages", "messages", "Messages"),
    ("/console/budget", "budget", "AI budget"),
    ("/console/log", "log", "Ship's log"),
)


@cache
def statics() -> Mapping[str, bytes]:
    """By name, all that a browser may load."""
    folder = resources.files(__package__) / "static"
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name.rpartition(".")[2] in TYPES}


def static_url(name: str) -> str:
    """With the content's hash, so that a browser may keep it for ever."""
    return f"/console/static/{name}?{hashlib.sha256(statics()[name]).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"static": static_url, "sections": SECTIONS}
    made.filters |= {"time": _time, "short": _short, "words": _words, "duration": _duration}
    return made


def fragment(template: str, values: Mapping[str, Any]) -> str:
    """What a page shows, without what is around it, and with a mark where its forms have their key."""
    return _environment().get_template(template).render(values, form_key=_KEY_MARK)


def document(live: str, form_key: str, **around: Any) -> str:
    """A whole page around a fragment."""
    shown = Markup(live.replace(_KEY_MARK, form_key))  # noqa: S704 - the fragment's template has escaped it
    return _environment().get_template("layout.html").render(around, live=shown, form_key=form_key)


def _time(at: datetime | None) -> Markup:
    if at is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}Z")


def _short(digest: str) -> str:
    """A digest by what tells it apart at a glance."""
    return digest.removeprefix("sha256:")[:12]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
