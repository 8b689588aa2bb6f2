"""Who may ask the review server, and for what: everything that a request can be refused for before it is looked into.

A server without a token listens on the loopback device only. Pages of other sites, which a browser on this machine may
show, must neither read from it nor write to it: a name that such a site has made to mean this machine is neither a
loopback name nor the one that the server was given (`Host`), and what changes something comes from the server's own
pages (`Origin`).
"""

import hashlib
import hmac
import ipaddress
import os
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caption_assets.errors import ConfigError, StoreError
from caption_assets.names import actual, is_remote
from caption_assets.store.store import Store

COOKIE = "caption_assets_review"
LOGIN = "/login"
_LEAST_TOKEN = 16
_CHANGES_NOTHING = ("GET", "HEAD")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, browsers would not say where a form comes from
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_PAGE_POLICY = "frame-ancestors 'none'"  # a page has the rest of it in itself
_FILE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


def check_listening(host: str, token: str | None) -> None:
    """Raises ConfigError where others could reach the server who have not been given a token."""
    asked = f"listen on {host}"
    if token is not None and len(token) < _LEAST_TOKEN:
        fix = "take what `openssl rand -hex 24` prints"
        raise ConfigError("the token", f"it has fewer than {_LEAST_TOKEN} characters and could be guessed", fix)
    if token is None and not _is_loopback(host):
        fix = "give a token by CAPTION_ASSETS_REVIEW_TOKEN, or listen on 127.0.0.1 and forward the port with ssh -L"
        raise ConfigError(asked, "everybody on the network could read and judge", fix)


def _is_loopback(host: str) -> bool:
    """Whether all that a name or address means is this machine only."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host or None, 0, flags=socket.AI_PASSIVE)}
    except OSError as err:
        raise ConfigError(f"listen on {host}", f"no such name or address ({err})", "try 127.0.0.1") from err
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def is_inside(store: Store, rel: str) -> bool:
    """Whether a path below the output root stays there, also by its links."""
    try:
        url, root = store.url(rel), store.url()
    except StoreError:
        return False
    if is_remote(root):
        return True
    real, top = os.path.realpath(actual(url)), os.path.realpath(actual(root))
    return real.startswith(top.rstrip("/") + "/")


class Guard:
    """Refuses what is not to be answered, and puts the headers that browsers heed on every answer."""

    def __init__(self, token: str | None = None, host: str = "") -> None:
        """`host` is the name that the server was told to listen on, by which it may be asked for."""
        self._token, self._host = token, host.lower()

    def around(self, app: ASGIApp) -> ASGIApp:
        """An application that asks `app` only what may be asked."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            answer = self._refusal(scope, Headers(scope=scope)) if scope["type"] == "http" else None
            await (answer or app)(scope, receive, _with_headers(send))

        return guarded

    def session(self) -> str:
        """What the cookie of somebody holds who has given the token."""
        return hmac.new((self._token or "").encode(), b"caption_assets review", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self._token is None and not self._is_own_name(host):
            return PlainTextResponse("This server is asked for by a name that is not this machine's.\n", 421)
        if scope["method"] not in _CHANGES_NOTHING and not _is_own(headers, host):
            return PlainTextResponse("This does not come from a page of this server.\n", 403)
        if self._token is not None and scope["path"] != LOGIN and not self._is_known(headers):
            if scope["method"] in _CHANGES_NOTHING and "text/html" in headers.get("accept", ""):
                return RedirectResponse(LOGIN, 303)
            return PlainTextResponse("Log in first: open this server's page, and give the token.\n", 401)
        return None

    def _is_own_name(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return (name != "" and name in ("localhost", self._host)) or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def _is_known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.session().encode())


def _is_own(headers: Headers, host: str) -> bool:
    """Whether a request comes from a page of this server, by what browsers say and pages cannot change."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    scheme, _, origin = headers.get("origin", "").partition("://")
    return scheme in ("http", "https") and bool(host) and origin == host


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            is_page = headers.get("content-type", "").startswith("text/html")
            headers["Content-Security-Policy"] = _PAGE_POLICY if is_page else _FILE_POLICY
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
