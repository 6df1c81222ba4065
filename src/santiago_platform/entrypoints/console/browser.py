"""What the console asks of browsers: cookies, forms that only its own pages send, and what its pages may not do."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from ...domain.errors import ErrorCode, PlatformError
from ..http_answer import sent

FORM_BYTES = 16 * 1024
KEY = "key"  # of the field by which a form shows that a page of ours made it
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none at all, browsers send forms with the Origin `null`
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def cookie_name(request: Request, what: str = "") -> str:
    """Browsers tell cookies apart by host and not by port: two workspaces of one machine must not share them."""
    name = f"santiago-{request.url.port or 443}{what}"
    return f"__Host-{name}" if request.url.scheme == "https" else name


def cookie(request: Request, what: str = "") -> str:
    return request.cookies.get(cookie_name(request, what), "")


def set_cookie(request: Request, answer: Response, value: str, what: str = "") -> None:
    """Until the browser ends. An empty value takes it away."""
    answer.set_cookie(
        cookie_name(request, what),
        value,
        max_age=None if value else 0,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


async def form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises PlatformError: INVALID_ARGUMENT, PERMISSION_DENIED where another origin sends it."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    own = urlsplit(origin).netloc == request.headers.get("host") if origin else site == "same-origin"
    if not own:
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED, "the form comes from a page of another origin", "use the console's own pages"
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "this is no form", "use the console's own pages")
    body = await sent(request, FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=100))
    except ValueError as exc:
        raise PlatformError(ErrorCode.INVALID_ARGUMENT, "this form cannot be read") from exc


def require_key(fields: Mapping[str, str], key: str) -> None:
    """Raises PERMISSION_DENIED unless the form has the key of whoever is signed in."""
    if not key or not hmac.compare_digest(fields.get(KEY, "").encode(), key.encode()):
        raise PlatformError(
            ErrorCode.PERMISSION_DENIED,
            "the form is not of this sign-in",
            "load the page again, and send it from there",
        )


def local(target: str) -> str:
    """Where to go next: a page of ours, else the first one. What comes from a link may name any place."""
    known = target == "/" or target.startswith(("/console/", "/approve/"))
    return target if known and "\\" not in target and target.isprintable() else "/"
