"""Orders that need a person: those that FAILED, and those that are parked."""

from collections.abc import Callable
from typing import Final

import msgspec

from pulse.application.in_process import InProcessOrders
from pulse.domain import SPLITTING_ERROR, TIMED_OUT, TOO_LATE
from pulse.postgres import Database
from pulse.projections.lists import OrderQuery
from pulse.projections.order_view import OrderView
from pulse.projections.parking import ParkedRow, read_first_parked

FAILED_IS_FINAL: Final = (
    "FAILED is final: the order never gets slices, so a new order cannot duplicate it."
)
FAILURE_REASONS: Final = (TIMED_OUT, TOO_LATE, SPLITTING_ERROR)
"""The reasons that this code knows."""

MAX_EXAMINED_FAILURES: Final = 1_000
"""A page of one reason reads no further once it has examined this many FAILED orders."""

_WHAT_TO_DO: Final = {
    TIMED_OUT: "A worker claimed it and did not finish: see the worker's log. If the order is "
    "still wanted, place it again under a new key.",
    TOO_LATE: "No worker claimed it in time: check with `pulse status` that workers run and keep "
    "up. If the order is still wanted, place it again under a new key; its window starts then.",
    SPLITTING_ERROR: "Pulse made a schedule that breaks its own rules: report it with "
    "`pulse replay --json`. If the order is still wanted, place it again under a new key.",
}
_PLACE_AGAIN: Final = "If the order is still wanted, place it again under a new key."


def what_to_do(failure_reason: str | None) -> str:
    """What to do about an order that failed for this reason. Newer code may have other reasons."""
    return _WHAT_TO_DO.get(failure_reason or "", _PLACE_AGAIN)


class FailedPage(msgspec.Struct, frozen=True):
    """FAILED orders, newest first, as of a position of the log.

    `next_before` is the `before` of the next page, None on the last one. A page of one reason may
    be short or empty, and not the last one.
    """

    orders: tuple[OrderView, ...]
    as_of_position: int
    next_before: int | None


class ParkedPage(msgspec.Struct, frozen=True):
    """Parked orders, the longest parked first; `more` is whether there are others."""

    orders: tuple[ParkedRow, ...]
    more: bool


class Failures:
    """Lists the orders that need a person. Every method raises DatabaseUnavailable.

    `require_served` is called before every answer, as in `InProcessOrders`.
    """

    def __init__(
        self,
        database: Database,
        orders: InProcessOrders,
        *,
        require_served: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._orders = orders
        self._require_served = require_served

    async def failed(self, *, reason: str | None, before: int | None, limit: int) -> FailedPage:
        """A page of the FAILED orders that were created before a position.

        Without a reason it costs as much as a page of the list of orders. With one, orders are read
        `limit` at a time, until `limit` are found or MAX_EXAMINED_FAILURES were examined; the page
        may have up to twice the limit.
        """
        found: list[OrderView] = []
        as_of_position = examined = 0
        while True:
            query = OrderQuery(
                limit=limit,
                order_queue_status="FAILED",
                before=before,
                min_position=as_of_position,
            )
            page = await self._orders.orders(query)
            as_of_position = as_of_position or page.as_of_position
            found += [order for order in page.orders if reason in {None, order.failure_reason}]
            before = page.next_before
            examined += limit
            if before is None or len(found) >= limit or examined >= MAX_EXAMINED_FAILURES:
                return FailedPage(tuple(found), as_of_position, before)

    async def parked(self, limit: int) -> ParkedPage:
        """Up to `limit` parked orders. The cost grows with their number, which is small."""
        self._require_served()
        found = await read_first_parked(self._database, limit + 1)
        return ParkedPage(tuple(found[:limit]), more=len(found) > limit)
