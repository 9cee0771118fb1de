"""The routes for the past: an order and the order queue as of a version, a position or a time."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta

from pulse.application.past import AsOfQuery, Past, QueueAsOf
from pulse.eventstore import PositionBeyondLog
from pulse.http.api.lists import LAST_POSITION
from pulse.http.asgi import caller_in
from pulse.http.errors import beyond_log
from pulse.http.hot_paths import HotPaths
from pulse.http.parameters import parameter_error
from pulse.http.responses import order_id_of
from pulse.http.rights import needs
from pulse.projections.order_view import OrderView

_VERSION: Final = Meta(
    ge=1, le=LAST_POSITION, description="as of this version, the number of an event in its stream"
)
_POSITION: Final = Meta(
    ge=0, description="as of this position of the log: later events are not included"
)
_AT: Final = Meta(
    tz=True,
    description="as of this time by the log's recorded times: an RFC 3339 time with its offset, "
    "such as 2026-01-05T09:15:00+05:30",
)


class OrderAsOfParameters(msgspec.Struct, frozen=True):
    """The query parameters for the past of an order; at most one may be given."""

    version: Annotated[int, _VERSION] | None = None
    position: Annotated[int, _POSITION] | None = None
    at: Annotated[datetime, _AT] | None = None


class QueueAsOfParameters(msgspec.Struct, frozen=True):
    """The query parameters for the past of the queue; at most one may be given."""

    position: Annotated[int, _POSITION] | None = None
    at: Annotated[datetime, _AT] | None = None


def as_of_query(parameters: OrderAsOfParameters | QueueAsOfParameters) -> AsOfQuery:
    """The requested version, position or time.

    Raises:
        BadRequest: more than one is given.
    """
    values = msgspec.structs.asdict(parameters)
    first, *others = [name for name, value in values.items() if value is not None] or [""]
    if others:
        only = ", ".join(values)
        raise parameter_error(others[0], f"is given together with {first}", f"only one of {only}")
    position = values["position"]
    if position is not None:
        values["position"] = min(position, LAST_POSITION)  # no position is larger
    return AsOfQuery(**values)


def past_routes(past: Past, hot_paths: HotPaths) -> list[HTTPRouteHandler]:
    """The routes over these use cases. Without parameters an order is read as on the hot path."""

    @get(
        "/internal/orders/{order_id:str}",
        opt=needs("read"),
        summary="Read an order",
        tags=["orders"],
        response_description="The order with its slices.",
    )
    async def read_order(
        request: Request[Any, Any, Any],
        order_id: FromPath[str],
        parameters: NamedDependency[OrderAsOfParameters],
    ) -> OrderView:
        """Poll it until `order_queue_status` is final: COMPLETED, FAILED or CANCELLED.

        The status describes splitting. `quantities` and the `state` of each slice describe
        releases; they are final once nothing is `remaining`.

        The order is read from the log itself: once its POST was answered, every process finds
        it. An unknown id and a malformed one are both 404 `ORDER_NOT_FOUND`; so is another
        caller's order at the gateway.

        With `version`, `position` or `at` the response is the order as of then, computed from its
        events. `as_of` has the position of the last event that is included, and the time. The
        order is never IN_PROGRESS, because claims are not events. `at` is compared with the latest
        `recorded_at` among each event and all events before it, so an event is never included
        without the events before it.
        Before its creation the order is 404 `ORDER_NOT_FOUND`; a position beyond the end of the log
        is 400 `POSITION_BEYOND_LOG`. For a time within the last seconds an event may still be
        added: send `as_of.position` as `position` to get exactly the same response again.
        """
        as_of = as_of_query(parameters)
        if as_of == AsOfQuery():
            answer: OrderView = await hot_paths.read(request.scope, order_id)
            return answer
        scope: Any = request.scope
        try:
            return await past.order(order_id_of(order_id), as_of, caller_in(scope))
        except PositionBeyondLog as error:
            raise beyond_log(error, "position") from None

    @get(
        "/internal/queue",
        opt=needs("read"),
        summary="Count the orders of the queue, now or in the past",
        tags=["lists"],
        response_description="The counts by status, and the quantities.",
    )
    async def read_queue(parameters: NamedDependency[QueueAsOfParameters]) -> QueueAsOf:
        """The queue as of a `position` or a time `at`; by default as of the end of the log.

        `counts` are the orders by status, `quantities` their shares by state. Both are computed
        only from the events up to `as_of_position`, so the projection's lag has no effect. Claims
        are not events: no order is IN_PROGRESS, and claimed orders count as PENDING. A parked order
        counts as it was before the event that parked it. For a time within the last seconds an
        event may still be added: send `as_of_position` as `position` to get exactly the same
        response again.
        """
        try:
            return await past.queue(as_of_query(parameters))
        except PositionBeyondLog as error:
            raise beyond_log(error, "position") from None

    return [read_order, read_queue]
