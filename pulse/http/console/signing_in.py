"""The pages for signing in and out."""

import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from pulse.http.asgi import Scope
from pulse.http.auth import ServiceTokens
from pulse.http.console.pages import AnyRequest, page, redirect
from pulse.http.console.sessions import (
    CONSOLE_PATH,
    MAX_NEXT_CHARACTERS,
    MAX_SESSION_SECONDS,
    ConsoleSessions,
    cookie_header,
)
from pulse.http.errors import Forbidden, Unauthorized
from pulse.http.limits import RateLimiter, TooManyRequests
from pulse.http.rights import needs

MAX_ATTEMPTS_PER_MINUTE: Final = 10
"""How often one address may send a wrong token; the RateLimiter counts in this process.

Valid tokens are not limited: behind a proxy all people may share an address.
"""

_MINUTE_SECONDS: Final = 60.0
_OWN_PATH: Final = re.compile(rf"{CONSOLE_PATH}(?:[/?][!-\[\]-~]*)?")
_REFUSED: Final = "this is not a service token of this Pulse"
_TOO_OFTEN: Final = (
    f"{_REFUSED}, and more than {MAX_ATTEMPTS_PER_MINUTE} wrong ones came from this address within "
    "a minute: wait a minute and try again"
)


class SignInParameters(msgspec.Struct, frozen=True):
    """The page to open after signing in."""

    next: Annotated[str, msgspec.Meta(max_length=MAX_NEXT_CHARACTERS)] = CONSOLE_PATH


class SignInForm(msgspec.Struct, frozen=True):
    """The form of the sign-in page."""

    token: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    next: Annotated[str, msgspec.Meta(max_length=MAX_NEXT_CHARACTERS)] = CONSOLE_PATH


def signing_in_routes(tokens: ServiceTokens, sessions: ConsoleSessions) -> list[HTTPRouteHandler]:
    """The routes for signing in and out."""
    attempts = RateLimiter(MAX_ATTEMPTS_PER_MINUTE / _MINUTE_SECONDS, _MINUTE_SECONDS)

    @get("/sign-in", opt=needs(None))
    async def show_sign_in(
        request: AnyRequest, parameters: NamedDependency[SignInParameters]
    ) -> Response[str] | Response[bytes]:
        if not tokens:
            return redirect(CONSOLE_PATH)
        return _sign_in_page(request, _own_path(parameters.next))

    @post("/sign-in", opt=needs(None), status_code=303)
    async def sign_in(
        request: AnyRequest, form: NamedDependency[SignInForm]
    ) -> Response[str] | Response[bytes]:
        """Check the token and start a session."""
        scope: Any = request.scope
        next_path = _own_path(form.next)
        try:
            cookie = sessions.sign_in(form.token.strip())
        except Unauthorized:
            return _refused(request, next_path, attempts)
        except Forbidden as error:
            return _sign_in_page(request, next_path, fault=str(error), status=HTTPStatus.FORBIDDEN)
        header = cookie_header(scope, cookie, max_age_seconds=MAX_SESSION_SECONDS)
        return redirect(next_path, header)

    @post("/sign-out", opt=needs(None), status_code=303)
    async def sign_out(request: AnyRequest) -> Response[bytes]:
        scope: Any = request.scope
        return redirect(CONSOLE_PATH, cookie_header(scope, "", max_age_seconds=0))

    return [show_sign_in, sign_in, sign_out]


def _refused(request: AnyRequest, next_path: str, attempts: RateLimiter) -> Response[str]:
    """The answer to a wrong token."""
    scope: Any = request.scope
    try:
        attempts.admit(_address(scope))
    except TooManyRequests as error:
        seconds = math.ceil(error.wait_seconds)
        return _sign_in_page(
            request,
            next_path,
            fault=_TOO_OFTEN,
            status=HTTPStatus.TOO_MANY_REQUESTS,
            headers={"retry-after": str(seconds)},
        )
    return _sign_in_page(
        request,
        next_path,
        fault=_REFUSED,
        status=HTTPStatus.UNAUTHORIZED,
        headers={"www-authenticate": "Bearer"},
    )


def _sign_in_page(
    request: AnyRequest,
    next_path: str,
    *,
    fault: str | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response[str]:
    return page(
        request,
        "sign_in.html",
        title="Sign in",
        status=status,
        headers=headers,
        next_path=next_path,
        fault=fault,
        hours=MAX_SESSION_SECONDS // 3600,
    )


def _own_path(path: str) -> str:
    """The path, if it is one of the console: a link must not lead to another site."""
    return path if _OWN_PATH.fullmatch(path) else CONSOLE_PATH


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
