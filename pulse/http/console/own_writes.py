"""Read-your-writes for the lists of the console, although a replica may lack the last write.

A cookie has the position of the last write. The cookie lasts longer than a replica may lag.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec

from pulse.application.list_reads import MAX_REPLICA_BEHIND_SECONDS, PositionNotReached
from pulse.eventstore import PositionBeyondLog
from pulse.http.api.lists import LAST_POSITION
from pulse.http.console.sessions import cookie_header, cookies_named
from pulse.http.errors import beyond_log
from pulse.projections.lists import OrderQuery, SliceQuery

COOKIE: Final = "pulse_position"
_MAX_AGE_SECONDS: Final = round(MAX_REPLICA_BEHIND_SECONDS) + 5
_MAX_DIGITS: Final = 19

Query = TypeVar("Query", OrderQuery, SliceQuery)
Page = TypeVar("Page")


def position_cookie(scope: Any, position: int) -> tuple[bytes, bytes]:  # noqa: ANN401 - ASGI
    """The header that sets the cookie to the position of a write."""
    return cookie_header(scope, str(position), max_age_seconds=_MAX_AGE_SECONDS, name=COOKIE)


async def read_list(
    scope: Any,  # noqa: ANN401 - ASGI
    query: Query,
    read: Callable[[Query], Awaitable[Page]],
) -> Page:
    """A page of the list that reflects the user's last write, unless the queue is too far behind.

    Raises:
        BadRequest: the position that the query itself names is beyond the end of the log.
        PositionNotReached: the queue does not reflect the position that the query itself names.
    """
    written = _written_position(scope)
    if written > query.min_position:
        try:
            return await read(msgspec.structs.replace(query, min_position=written))
        except (PositionNotReached, PositionBeyondLog):
            pass  # an older list is better than none; the page shows its position
    try:
        return await read(query)
    except PositionBeyondLog as error:
        raise beyond_log(error, "min_position") from None


def _written_position(scope: Any) -> int:  # noqa: ANN401 - ASGI
    """The position in the cookie; 0 if there is none, or none that is valid."""
    for text in cookies_named(scope, COOKIE):
        if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
            return min(int(text), LAST_POSITION)
    return 0
