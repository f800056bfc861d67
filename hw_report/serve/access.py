"""Access control: `Access` checks every request before the application gets it."""

import ipaddress
import re
import secrets
import socket
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "try_it_token"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    # Everything comes from this server. The book's formulas and figures need styles inside the page and data URLs.
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-store",
}


class Access:
    """An ASGI application that passes the allowed requests on to `app` and adds security headers to all answers.

    Args:
        app: the application.
        host: the address at which the server listens.
        token: a secret that every request must contain; None if only this machine reaches the server.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app = app
        self._hosts = {*_LOOPBACK, host} if token is None else {*_LOOPBACK, host, socket.gethostname().lower()}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._refuse(Request(scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        """The answer to a request that must not reach the application; None if it may."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            # A foreign page can make its own name point to this machine (DNS rebinding); the browser sends that name.
            return _refusal(400, "this server does not answer to the host in the address; use the printed address")
        origins = (f"http://{host}", f"https://{host}")
        if request.method == "POST" and (
            request.headers.get("origin", origins[0]) not in origins
            or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        ):
            return _refusal(403, "uploads are only accepted from this server's own pages")
        return None if self._token is None else self._check_token(request, self._token)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        return name in self._hosts or (self._token is not None and _is_address(name))  # an IP address cannot be rebound

    @staticmethod
    def _check_token(request: Request, token: str) -> Response | None:
        [given, *_] = parse_qs(request.url.query).get("token", [""])
        if given and _equal(given, token):
            # The browser's history keeps addresses, so the redirect removes the token; a cookie holds it from then on.
            answer = RedirectResponse("/" + request.url.path.lstrip("/"), 303)
            answer.set_cookie(COOKIE, token, httponly=True, samesite="lax")
            return answer
        if _equal(request.cookies.get(COOKIE, ""), token):
            return None
        return _refusal(403, "this server needs a token; open the address that it printed when it started")


def make_token() -> str:
    """A new secret."""
    return secrets.token_urlsafe(16)


def _equal(given: str, token: str) -> bool:
    # The time of this comparison does not depend on the number of equal characters, so it reveals none of them.
    return secrets.compare_digest(given.encode(errors="replace"), token.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
