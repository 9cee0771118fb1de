"""The log: pages in JSON, and the whole log as NDJSON or CSV."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.event_feed import EventFeed
from pulse.application.event_view import EventType, EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.log_reader import EventQuery
from pulse.eventstore import MAX_SCANNED, PositionBeyondLog
from pulse.http.api.export import (
    CSV,
    END_POSITION,
    LOG_ID,
    NDJSON,
    OFFERED,
    LogExport,
    Rows,
    format_of,
)
from pulse.http.api.lists import LAST_POSITION
from pulse.http.errors import beyond_log
from pulse.http.negotiation import accepts_gzip
from pulse.http.parameters import ZonedTime, parameter_error, require_times_in_order
from pulse.http.rights import needs

MAX_EVENTS_PER_PAGE: Final = 1000
_DEFAULT_EVENTS_PER_PAGE: Final = 100
_LIMIT_TEXT: Final = (
    f"a page in JSON: 1 to {MAX_EVENTS_PER_PAGE}, by default {_DEFAULT_EVENTS_PER_PAGE}; NDJSON "
    "and CSV: the maximum number of events or, with rows=slices, of orders; by default no limit"
)


class EventParameters(msgspec.Struct, frozen=True):
    """The query parameters of the log."""

    after: Annotated[int, Meta(ge=0, description="exclusive; 0 is the start of the log")] = 0
    limit: Annotated[int, Meta(ge=1, le=LAST_POSITION, description=_LIMIT_TEXT)] | None = None
    type: EventType | None = None
    order_id: Annotated[UUID, Meta(description="the id of an order")] | None = None
    recorded_from: ZonedTime | None = None
    recorded_before: ZonedTime | None = None
    rows: Annotated[Rows, Meta(description="with CSV: a row for each event, or for each slice")] = (
        "events"
    )


class EventPage(msgspec.Struct, frozen=True):
    """A page of the log."""

    log_id: Annotated[
        UUID,
        Meta(
            description="identifies the log; `pulse log fork` changes it, after a restore to an "
            "earlier point: a reader that receives another one must stop"
        ),
    ]
    events: tuple[EventView, ...]
    next_after: Annotated[
        int,
        Meta(
            ge=0,
            description="the last position scanned: send it as `after` for the next page. If it "
            "equals the `after` that was sent, the log ends here for now",
        ),
    ]


_DESCRIPTION: Final = f"""
To read the whole log in pages, start with `after=0` and send each page's `next_after` as the next
`after`. A reader that stores `next_after` misses no event and reads none twice. The log ends, for
now, where `next_after` equals the `after` that was sent: poll again from there.

Filters combine. `recorded_from` is inclusive and `recorded_before` exclusive; both need an offset
and are compared with the latest `recorded_at` among each event and all events before it. So they
give a part of the log without gaps, even if the database's clock was set back.

**An empty page is not the end**: with `type` one call scans at most {MAX_SCANNED:,} events, so a
page may have few events of that type or none, and `next_after` still advances.

To read up to a fixed point, stop once `next_after` has reached the `as_of_position` of
`GET /internal/orders`, the position that the list reflects. `after` beyond the end of the log is
400 `POSITION_BEYOND_LOG`: this is not the log that was read before. The same is true if `log_id` is
not that of earlier pages: stop. To receive events as they are committed, read
`GET /internal/events/stream`.

**The whole log in one response**: with `Accept: {NDJSON}` the same event objects, one a line; with
`Accept: {CSV}` one event a row, or with `rows=slices` one slice a row with its state and times.
Both formats stream from `after` to the end of the log as it is at the request, or to the last event
before `recorded_before`. `{END_POSITION}` has the position of that end, `{LOG_ID}` the `log_id`.
With `Accept-Encoding: gzip` they are compressed. A response that ends without the end of its body
is incomplete: to continue, send the position of its last whole line as `after`. With `rows=slices`,
delete all rows of the last order, and send its `created_position` minus 1. An export counts as a
stream: a process has at most PULSE_MAX_STREAMS; one more is 503. An `Accept` that allows none of
{", ".join(OFFERED)} is 406 `NOT_ACCEPTABLE`.
"""


def event_query(parameters: EventParameters) -> EventQuery:
    """The requested events.

    Raises:
        BadRequest: the times are in the wrong order, or `type` is combined with slices.
    """
    require_times_in_order(parameters, "recorded_from", "recorded_before")
    if parameters.rows == "slices" and parameters.type is not None:
        raise parameter_error("type", "cannot be combined with rows=slices", "only one of them")
    return EventQuery(
        limit=parameters.limit,
        after=min(parameters.after, LAST_POSITION),  # no position is larger
        type=parameters.type,
        order_id=parameters.order_id,
        recorded_from=parameters.recorded_from,
        recorded_before=parameters.recorded_before,
    )


def page_limit(parameters: EventParameters) -> int:
    """The maximum number of events in a page in JSON.

    Raises:
        BadRequest: the limit is too high for a page.
    """
    limit = _DEFAULT_EVENTS_PER_PAGE if parameters.limit is None else parameters.limit
    if limit > MAX_EVENTS_PER_PAGE:
        expected = f"a whole number from 1 to {MAX_EVENTS_PER_PAGE}, or Accept: {NDJSON} or {CSV}"
        raise parameter_error("limit", "is too high for a page", expected)
    return limit


def event_routes(queries: InProcessOrders, feed: EventFeed) -> list[HTTPRouteHandler]:
    """The route of the log over these queries. Exports count as streams of the feed."""

    @get(
        "/internal/events",
        opt=needs("read"),
        summary="Read the log in commit order",
        tags=["events"],
        response_description="A page.",
    )
    async def list_events(
        request: Request[Any, Any, Any], parameters: NamedDependency[EventParameters]
    ) -> EventPage:
        log_format = format_of(request.headers.getall("accept", []), parameters.rows)
        query = event_query(parameters)
        try:
            if log_format is None:
                page = await queries.events(query, page_limit(parameters))
                return EventPage(page.log_id, page.events, page.next_after)
            wanted = await queries.log_range(query)
        except PositionBeyondLog as error:
            raise beyond_log(error) from None
        gzip = accepts_gzip(request.headers.getall("accept-encoding", []))
        export: Any = LogExport(queries.log, feed, wanted, log_format, gzip=gzip)
        return export  # type: ignore[no-any-return] # Litestar sends a response as it is

    list_events.fn.__doc__ = _DESCRIPTION
    return [list_events]
