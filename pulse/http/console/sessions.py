"""Authentication of the console: sessions of people, as cookies, and CSRF tokens.

A person signs in with a service token. The session cookie has the name of the service, an expiry
and a nonce, with a message authentication code whose key derives from that token. So every process
with the same tokens accepts it without a table, the session ends when the token is removed from
PULSE_SERVICE_TOKENS, and the rights are those that the service has now. A single session
cannot be revoked: signing out only deletes the cookie.

Before sign-in, and where no tokens are set, the cookie is only a nonce. The CSRF token derives from
the cookie, which no script and no other site can read.
"""

import hmac
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final, cast
from urllib.parse import quote

import msgspec

from pulse.errors import PulseError
from pulse.http.asgi import CALLER_KEY, ASGIApp, Message, Receive, Scope, Send
from pulse.http.auth import THIS_MACHINE, ServiceTokens, bearer_token, require_this_machine
from pulse.http.errors import Forbidden, Unauthorized
from pulse.http.rights import SERVICE_KEY, Service
from pulse.rights import GATEWAY_NAME
from pulse.secret import ServiceToken

CONSOLE_PATH: Final = "/console"
COOKIE: Final = "pulse_session"
MAX_SESSION_SECONDS: Final = 12 * 3600
MAX_NEXT_CHARACTERS: Final = 4096
"""The maximum length of the path to open after signing in. A longer one opens the overview."""
SESSION_KEY: Final = "pulse.console_session"
"""The `ConsoleSession`, set by the auth middleware of the console."""

FRAGMENT_HEADER: Final = b"x-console-fragment"
"""Sent by the console's script with the requests that refresh a page."""

_OPEN_PATHS: Final = ("/sign-in", "/static/")
_CONTEXT: Final = b"pulse console session v1"
_SALT_CHARACTERS: Final = 16
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_OWN_SITES: Final = (b"same-origin", b"none")
_OTHER_SITES: Final = (b"same-site", b"cross-site")
_ANY_SITE: Final = _OWN_SITES + _OTHER_SITES
_NO_SESSION: Final = "this page needs a session: sign in with a service token"
_EXPIRED_FORM: Final = (
    "the form is not from this session: the page is older than the session, or the browser blocks "
    "cookies"
)


class CrossSiteNavigation(PulseError):
    """A link on another site opened a page, so the browser did not send the session cookie."""


class ConsoleSession(msgspec.Struct, frozen=True, kw_only=True):
    """The session of a request. `service` is None before sign-in.

    `by_cookie` is whether the cookie proved the service: only such a session can be signed out.
    `needs_csrf_token` is false if it was proved by a header that no other site can send.
    """

    service: Service | None
    csrf_token: str
    by_cookie: bool = False
    needs_csrf_token: bool = True
    new_cookie: str | None = None


def session_in(scope: Mapping[str, object]) -> ConsoleSession:
    """The session of a request.

    Raises:
        KeyError: the auth middleware does not cover this path, which is a bug.
    """
    return cast("ConsoleSession", scope[SESSION_KEY])


def csrf_token_for(session: ConsoleSession) -> str:
    """A CSRF token for the forms of one page; each call returns another one.

    Pages are compressed and contain values of the request. The size of a compressed page reveals
    whether such a value occurs twice, so a token that is the same in every page could be guessed
    (BREACH).
    """
    if not session.csrf_token:
        return ""
    return _salted(session, secrets.token_hex(_SALT_CHARACTERS // 2))


def _salted(session: ConsoleSession, salt: str) -> str:
    return salt + _mac(session.csrf_token.encode(), salt)


def require_csrf_token(scope: Mapping[str, object], sent: str) -> None:
    """Require that a form was made for the session that sends it.

    Raises:
        Forbidden: it was not.
    """
    session = session_in(scope)
    expected = _salted(session, sent[:_SALT_CHARACTERS]).encode()
    if session.needs_csrf_token and not hmac.compare_digest(expected, sent.encode()):
        raise Forbidden(_EXPIRED_FORM)


class ConsoleSessions:
    """Issues and verifies session cookies. `clock` gives seconds since 1970."""

    def __init__(self, tokens: ServiceTokens, *, clock: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._clock = clock

    def sign_in(self, sent: str) -> str:
        """The cookie of a new session.

        Raises:
            Unauthorized: this is not a service token.
            Forbidden: it is the gateway's, which only acts for its callers.
        """
        token, service = self._tokens.find(sent)
        if service.caller.placed_by == GATEWAY_NAME:
            raise Forbidden(f"the token of the {GATEWAY_NAME} cannot sign in: use another one")
        expires = int(self._clock()) + MAX_SESSION_SECONDS
        payload = f"{token.name}:{expires}:{_new_nonce()}"
        return f"{payload}:{_mac(_key(token), payload)}"

    def session_of(self, scope: Scope) -> ConsoleSession:
        """The session that the request's cookie proves, or a new one without a service."""
        cookies = cookies_named(scope, COOKIE)
        for cookie in cookies:
            if found := self._verified(cookie):
                return found
        nonce = next(filter(_NONCE.fullmatch, cookies), None)
        value = nonce or _new_nonce()
        new_cookie = None if nonce else value
        csrf_token = _mac(value.encode(), "csrf")
        return ConsoleSession(service=None, csrf_token=csrf_token, new_cookie=new_cookie)

    def _verified(self, cookie: str) -> ConsoleSession | None:
        payload, _, code = cookie.rpartition(":")
        name, _, rest = payload.partition(":")
        expires = rest.partition(":")[0]
        for token, service in self._tokens.of_service(name):
            key = _key(token)
            if hmac.compare_digest(_mac(key, payload).encode(), code.encode()):
                if int(expires) <= self._clock():
                    return None
                csrf_token = _mac(key, f"csrf:{payload}")
                return ConsoleSession(service=service, csrf_token=csrf_token, by_cookie=True)
        return None


def cookie_header(
    scope: Scope, value: str, *, max_age_seconds: int | None, name: str = COOKIE
) -> tuple[bytes, bytes]:
    """The header that sets a cookie, by default that of the session.

    Without `max_age_seconds` the cookie lasts until the browser is closed.
    """
    age = "" if max_age_seconds is None else f"; Max-Age={max_age_seconds}"
    secure = "; Secure" if is_over_https(scope) else ""
    text = f"{name}={value}; Path={CONSOLE_PATH}; HttpOnly; SameSite=Strict{age}{secure}"
    return b"set-cookie", text.encode("ascii")


def is_over_https(scope: Scope) -> bool:
    """Whether the browser used https, to this server or, by an unverified header, to a proxy.

    A false header can only add `Secure` to cookies and change the commands that pages show.
    """
    forwarded = (b"x-forwarded-proto", b"https") in scope["headers"]
    return forwarded or scope.get("scheme") == "https"


class ConsoleAuthMiddleware:
    """Middleware that authenticates requests to the console, and answers its errors as pages.

    With service tokens a request needs a session or, for programs, a bearer token; without them it
    must come from this machine, as at the internal API. A link on another site opens an
    intermediate page that links to the requested one. `send_error` answers a request with a page
    about the error.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: ServiceTokens,
        sessions: ConsoleSessions,
        send_error: Callable[[Scope, Exception, Send], Awaitable[None]],
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._sessions = sessions
        self._send_error = send_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started = False

        async def send_with_cookie(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _add_new_cookie(scope, message)
            await send(message)

        try:
            scope[SESSION_KEY] = session = self._sessions.session_of(scope)
            scope[SESSION_KEY] = session = self._authenticated(scope, session)
            if session.service is None and not _is_open(scope["path"]):
                if not _is_page_view(scope):
                    raise Unauthorized(_NO_SESSION)  # noqa: TRY301 - answered below
                await _redirect(sign_in_path(scope), send_with_cookie)
                return
            if session.service is not None:
                scope[SERVICE_KEY] = session.service
                scope[CALLER_KEY] = session.service.caller
            await self._app(scope, receive, send_with_cookie)
        except Exception as error:
            if started:
                raise
            await self._send_error(scope, error, send_with_cookie)

    def _authenticated(self, scope: Scope, session: ConsoleSession) -> ConsoleSession:
        """The session, with the service of a bearer token or of this machine if that applies."""
        is_cross_site = session.new_cookie is not None and _is_from_other_site(scope)
        if not self._tokens:
            require_this_machine(scope, sites=_ANY_SITE if is_cross_site else _OWN_SITES)
        if is_cross_site:
            raise CrossSiteNavigation
        if not self._tokens:
            return msgspec.structs.replace(session, service=THIS_MACHINE)
        if any(_is_bearer(name, value) for name, value in scope["headers"]):
            _, service = self._tokens.find(bearer_token(scope["headers"]))
            if service.caller.placed_by == GATEWAY_NAME:
                raise Forbidden(f"the token of the {GATEWAY_NAME} does not open the console")
            return ConsoleSession(service=service, csrf_token="", needs_csrf_token=False)
        return session


def _is_bearer(name: bytes, value: bytes) -> bool:
    """Whether this header has a bearer token. A proxy in front may use another scheme."""
    return name == b"authorization" and value[:7].lower() == b"bearer "


def sign_in_path(scope: Scope) -> str:
    """The path of the sign-in page that leads back to the path of this request."""
    path: str = scope["raw_path"].decode("latin-1")
    query: str = scope["query_string"].decode("latin-1")
    requested = f"{path}?{query}" if query else path
    if len(requested) > MAX_NEXT_CHARACTERS:
        return f"{CONSOLE_PATH}/sign-in"
    return f"{CONSOLE_PATH}/sign-in?next={quote(requested, safe='/')}"


def _is_open(path: str) -> bool:
    return path == _OPEN_PATHS[0] or path.startswith(_OPEN_PATHS[1])


def _is_page_view(scope: Scope) -> bool:
    """Whether the request opens a page in a browser, so that it can be redirected to sign in."""
    fragment = any(name == FRAGMENT_HEADER for name, _ in scope["headers"])
    return scope["method"] == "GET" and not fragment


def _is_from_other_site(scope: Scope) -> bool:
    """Whether a link on another site opens a page in a tab."""
    sent = dict(scope["headers"])
    return (
        scope["method"] == "GET"
        and sent.get(b"sec-fetch-site") in _OTHER_SITES
        and sent.get(b"sec-fetch-mode") == b"navigate"
        and sent.get(b"sec-fetch-dest") == b"document"
    )


async def _redirect(to: str, send: Send) -> None:
    headers = [(b"location", to.encode("ascii")), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _add_new_cookie(scope: Scope, message: Message) -> None:
    """Set the cookie of a new session, unless the response sets one or is a file.

    It is not set for a request from another site either: with such a request the browser does not
    send the cookie that it may have.
    """
    session = session_in(scope)
    headers = list(message.get("headers", ()))
    sets_one = any(name == b"set-cookie" for name, _ in headers)
    is_file = scope["path"].startswith(_OPEN_PATHS[1])
    if session.new_cookie is None or sets_one or is_file or _is_from_other_site(scope):
        return
    message["headers"] = [*headers, cookie_header(scope, session.new_cookie, max_age_seconds=None)]


def cookies_named(scope: Scope, wanted: str) -> list[str]:
    """The values of a cookie; there are several if another path set one with its name."""
    found = []
    for name, value in scope["headers"]:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, text = pair.strip().partition("=")
                if key == wanted:
                    found.append(text)
    return found


def _new_nonce() -> str:
    return secrets.token_urlsafe(32)


def _key(token: ServiceToken) -> bytes:
    return hmac.digest(token.token.reveal().encode(), _CONTEXT, sha256)


def _mac(key: bytes, text: str) -> str:
    code = hmac.digest(key, text.encode("latin-1", "replace"), sha256)
    return urlsafe_b64encode(code).decode("ascii").rstrip("=")
