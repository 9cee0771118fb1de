"""The page of failed and parked orders: why, and what to do."""

import asyncio
from collections import Counter
from typing import Annotated, Final, NamedTuple

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.failures import FAILED_IS_FINAL, FAILURE_REASONS, Failures, what_to_do
from pulse.http.api.lists import Position
from pulse.http.console.pages import AnyRequest, link, page
from pulse.http.console.sessions import CONSOLE_PATH
from pulse.http.rights import needs
from pulse.projections.order_view import OrderView

FAILED_PATH: Final = f"{CONSOLE_PATH}/failed"
_ORDERS_A_PAGE: Final = 50
_MAX_PARKED: Final = 100
_MAX_REASON_CHARACTERS: Final = 100


class FailedParameters(msgspec.Struct, frozen=True):
    """Which FAILED orders are shown: of one reason, created before a position."""

    reason: Annotated[str, Meta(min_length=1, max_length=_MAX_REASON_CHARACTERS)] | None = None
    before: Position | None = None


class Remedy(NamedTuple):
    """How many orders of the page failed for a reason, and what to do about them."""

    reason: str
    orders: int
    text: str


def failed_routes(failures: Failures) -> list[HTTPRouteHandler]:
    """The route of the page."""

    @get("/failed", opt=needs("read"))
    async def show_failed(
        request: AnyRequest, parameters: NamedDependency[FailedParameters]
    ) -> Response[str]:
        reason, before = parameters.reason, parameters.before
        found, parked = await asyncio.gather(
            failures.failed(reason=reason, before=before, limit=_ORDERS_A_PAGE),
            failures.parked(_MAX_PARKED),
        )
        next_page = None
        if found.next_before is not None:
            next_page = link(FAILED_PATH, reason=reason, before=found.next_before)
        return page(
            request,
            "failed.html",
            title="Failed and parked",
            active="failed",
            position=found.as_of_position,
            reason=reason,
            reasons=FAILURE_REASONS,
            before=before,
            orders=found.orders,
            remedies=_remedies(found.orders),
            is_final=FAILED_IS_FINAL,
            next_page=next_page,
            parked=parked,
        )

    return [show_failed]


def _remedies(orders: tuple[OrderView, ...]) -> list[Remedy]:
    counts = Counter(order.failure_reason or "" for order in orders)
    return [Remedy(reason, count, what_to_do(reason)) for reason, count in counts.most_common()]
