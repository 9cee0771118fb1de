"""The door of the gateway: a token proves who asks and what it may ask."""

from typing import Any, Final, cast

from litestar.types import Scope as LitestarScope

from pulse.http.callers import CALLER_KEY, bearer_token
from pulse.http.errors import Forbidden
from pulse.http.gateway.tokens import TokenChecker
from pulse.http.root import ASGIApp, Receive, Scope, Send

_SCOPES_KEY: Final = "pulse.token_scopes"
_GUARDED: Final = "orders"


class GatewayDoor:
    """Checks the token of whoever asks about orders and lays its `Caller` into the scope."""

    def __init__(self, app: ASGIApp, tokens: TokenChecker) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Only a path that holds the word nowhere is open: health, hello, explanations.

        Raises:
            Unauthorized: no token, or none that is good here and now.
            KeysUnavailable: tokens cannot be checked now.
        """
        if _GUARDED in scope["path"]:
            identity = await self._tokens.check(bearer_token(scope["headers"]))
            scope[CALLER_KEY] = identity.caller
            scope[_SCOPES_KEY] = identity.scopes
        await self._app(scope, receive, send)


def require_scope(scope: LitestarScope, wanted: str) -> None:
    """Go on only where the caller's token grants this.

    Raises:
        Forbidden: it does not.
        KeyError: no door stood before this path, which is a bug; nobody is let through.
    """
    require_granted(cast("dict[str, Any]", scope)[_SCOPES_KEY], wanted)


def require_granted(granted: frozenset[str], wanted: str) -> None:
    """Go on only where this is among what a token grants.

    Raises:
        Forbidden: it is not.
    """
    if wanted not in granted:
        raise Forbidden(f"the token does not grant {wanted}", required_scope=wanted)
