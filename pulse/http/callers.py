"""Who asks, as a door found out: laid into the request's scope, and read there by all behind it."""

from typing import Any, Final, cast

from litestar.types import Scope

from pulse.application import Caller
from pulse.http.errors import Unauthorized

CALLER_KEY: Final = "pulse.caller"
"""Where in a request's scope its `Caller` lies once a door has let it through."""

RawHeaders = list[tuple[bytes, bytes]]

_SCHEME: Final = b"bearer "
_WANTED: Final = "this call needs a token: send it once, as Authorization: Bearer <token>"


def caller_in(scope: Scope) -> Caller:
    """The caller whom the door let through.

    Raises:
        KeyError: no door stood before this path, which is a bug; nobody is let through.
    """
    return cast("dict[str, Any]", scope)[CALLER_KEY]  # type: ignore[no-any-return]


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
