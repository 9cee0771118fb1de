"""Who asks, as a door found out: laid into the request's scope, and read there by all behind it."""

from collections.abc import Mapping
from typing import Any, Final, cast

from litestar.types import Scope

from pulse.application import Caller
from pulse.http.errors import Unauthorized

CALLER_KEY: Final = "pulse.caller"
"""Where in a request's scope its `Caller` lies once a door has let it through."""

RawHeaders = list[tuple[bytes, bytes]]
_ANYONE: Final = Caller()

_SCHEME: Final = b"bearer "
_WANTED: Final = "this call needs a token: send it once, as Authorization: Bearer <token>"


def caller_in(scope: Scope) -> Caller:
    """The caller whom the door let through.

    Raises:
        KeyError: no door stood before this path, which is a bug; nobody is let through.
    """
    return cast("dict[str, Any]", scope)[CALLER_KEY]  # type: ignore[no-any-return]


def caller_name(scope: Mapping[str, Any]) -> str:
    """What a caller is counted under: its name, or its address where callers have no names."""
    caller = scope.get(CALLER_KEY)
    if caller is not None and caller != _ANYONE:
        return str(caller.placed_by)
    client = scope.get("client")
    return str(client[0]) if client else ""


def bearer_token(headers: RawHeaders) -> str:
    """The token of the one Authorization header; a token anywhere else is none.

    Raises:
        Unauthorized: there is no such header, or more than one, or it holds something else.
    """
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1 or given[0][: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthorized(_WANTED)
    token = given[0][len(_SCHEME) :].strip(b" ")
    if not token or not token.isascii():
        raise Unauthorized(_WANTED)
    return token.decode("ascii")
