"""The pages of one order: the request, slices and history, now or in the past; cancellation."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta

from pulse.application.callers import Caller
from pulse.application.event_view import LogEntry
from pulse.application.halts import ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.known_halts import NO_HALTS, read_halts
from pulse.application.orders import OrderNotFound
from pulse.application.past import AsOfQuery, Past
from pulse.domain import NothingToCancel, OrderCreated, OrderRefused
from pulse.errors import PulseError
from pulse.eventstore import EventTooNew, PositionBeyondLog
from pulse.http.api.past import OrderAsOfParameters, as_of_query
from pulse.http.asgi import caller_in, trace_in
from pulse.http.bodies import read_cancel_request
from pulse.http.console.charts.quantities import parts_of, quantities_chart
from pulse.http.console.charts.schedule import even_share, schedule_chart
from pulse.http.console.order_facts import (
    cancellation_of,
    commands_for,
    facts_of,
    reason_not_recorded,
    slice_rows,
    state_sentences,
    versions_of,
)
from pulse.http.console.order_filters import ORDERS_PATH
from pulse.http.console.order_history import raw_json, step_of, steps_of
from pulse.http.console.own_writes import position_cookie
from pulse.http.console.pages import NAVIGATION, AnyRequest, page, prepare_page, redirect
from pulse.http.console.sessions import is_over_https, session_in
from pulse.http.errors import answer_for, beyond_log
from pulse.http.parameters import parse_query
from pulse.http.responses import order_id_of
from pulse.http.rights import needs
from pulse.postgres import DatabaseUnavailable
from pulse.projections.order_view import OrderView

_MAX_TEXT_CHARACTERS: Final = 4_096
_OPEN_SLICES: Final = 20
"""The table of slices is initially open if it has at most this many rows."""
_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_NOT_THEN: Final = "This order did not exist then. The page shows it as it is now."
_FOREIGN: Final = (
    "Another program wrote to the stream of this order, so Pulse neither splits nor releases it: "
    "report it to the operator of Pulse."
)
_UNREADABLE: Final = (
    "This order cannot be read ({why}), so Pulse neither splits nor releases it: report it to the "
    "operator of Pulse. Its events are below, as they are stored."
)
_NEWER: Final = (
    "This order was written by newer code than this process runs. Its events are below, as they "
    "are stored; a process with the newer code shows the order."
)
_NOT_READABLE: Final = "the events of this order cannot be read"
_PARKED: Final = (
    "This order is parked: its event at position {position:,} could not be applied, so Pulse "
    "neither splits nor releases it. The operator of Pulse sees the reason with `pulse projections "
    "status`."
)


class CancelForm(msgspec.Struct, frozen=True):
    """Why the order is cancelled. The API's rules apply to the reason."""

    reason: Annotated[str, Meta(max_length=_MAX_TEXT_CHARACTERS)] | None = None


class _Shown(NamedTuple):
    """The order as of `as_of`; None if it cannot be read, and `problem` says why.

    If the request is invalid, `fault` says why, `status` is its HTTP status, and `order` is the
    order now.
    """

    order: OrderView | None
    problem: str | None
    as_of: AsOfQuery
    fault: str | None = None
    status: int = 200


def order_routes(
    orders: InProcessOrders,
    past: Past,
    halts: ReleaseHalts,
    api_prefix: str,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[HTTPRouteHandler]:
    """The routes of one order. `api_prefix` is where the internal API is mounted."""

    @get("/orders/{order_id:str}", opt=needs("read"), before_request=prepare_page)
    async def show_order(request: AnyRequest, order_id: FromPath[str]) -> Response[str]:
        """The order now, or with `version`, `position` or `at` as it was."""
        known_id, caller = order_id_of(order_id), caller_in(request.scope)
        entries = await orders.entries(known_id, caller)
        shown = await _read(orders, past, known_id, caller, request.scope["query_string"])
        parked_position = await orders.parked_position(known_id)
        known = NO_HALTS if shown.as_of != AsOfQuery() else await read_halts(halts)
        return page(
            request,
            "order.html",
            title=f"Order {known_id}",
            active="orders",
            status=shown.status,
            **_context(known_id, entries, shown, parked_position, clock()),
            sentences=state_sentences(shown.order, known) if shown.order else [],
            commands=commands_for(
                known_id,
                shown.as_of,
                f"{_origin(request)}{api_prefix}",
                with_token=session_in(request.scope).by_cookie,
            ),
        )

    @get("/orders/{order_id:str}/events/{version:int}", opt=needs("read"))
    async def show_event(
        request: AnyRequest, order_id: FromPath[str], version: FromPath[int]
    ) -> Response[str]:
        """One event as the API answers it.

        Raises:
            NotFoundException: the order has no such version.
        """
        known_id = order_id_of(order_id)
        entries = await orders.entries(known_id, caller_in(request.scope))
        found = next((entry for entry in entries if entry.view.version == version), None)
        if found is None:
            raise NotFoundException
        return page(
            request,
            "event.html",
            title=f"{found.view.type} of order {known_id}",
            active="orders",
            order_id=known_id,
            order_path=f"{ORDERS_PATH}/{known_id}",
            step=step_of(known_id, found),
            raw=raw_json(found.view),
        )

    @get("/orders/{order_id:str}/cancel", opt=needs("write"))
    async def confirm_cancel(request: AnyRequest, order_id: FromPath[str]) -> Response[str]:
        """Ask for confirmation, and say what a cancellation does."""
        known_id, caller = order_id_of(order_id), caller_in(request.scope)
        await orders.history(known_id, caller)
        order = await _readable(orders, known_id, caller)
        return _cancel_page(request, order, known_id, why_not=None if order else _NOT_READABLE)

    @post("/orders/{order_id:str}/cancel", opt=needs("write"), status_code=303)
    async def cancel_order(
        request: AnyRequest, order_id: FromPath[str], form: NamedDependency[CancelForm]
    ) -> Response[str] | Response[bytes]:
        """Cancel the scheduled slices and show the order; if there are none, show why not."""
        scope: Any = request.scope
        known_id, caller = order_id_of(order_id), caller_in(scope)
        try:
            wanted = read_cancel_request(msgspec.json.encode(form))
        except OrderRefused as error:
            order = await _readable(orders, known_id, caller)
            return _cancel_page(request, order, known_id, form, fault=f"{error}", status=400)
        try:
            cancelled = await orders.cancel(known_id, wanted.reason, caller, trace_in(scope))
        except NothingToCancel as error:
            why_not: str | None = answer_for(error)[1].message
        else:
            entries = await orders.entries(known_id, caller)
            why_not = reason_not_recorded(entries, wanted.reason)
        if why_not is None:
            written = position_cookie(scope, cancelled.position)
            return redirect(f"{ORDERS_PATH}/{known_id}", written)
        order = await _readable(orders, known_id, caller)
        return _cancel_page(request, order, known_id, why_not=why_not, status=409)

    return [show_order, show_event, confirm_cancel, cancel_order]


async def _read(
    orders: InProcessOrders, past: Past, order_id: UUID, caller: Caller, query_string: bytes
) -> _Shown:
    """The order as of the query's version, position or time; if that is invalid, the order now."""
    fault, status = None, 200
    try:
        as_of = _as_of_in(query_string)
        if as_of != AsOfQuery():
            return _Shown(await past.order(order_id, as_of, caller), None, as_of)
    except DatabaseUnavailable:
        raise
    except OrderNotFound:
        fault, status = _NOT_THEN, 404
    except PulseError as error:
        status, body = answer_for(
            beyond_log(error, "position") if isinstance(error, PositionBeyondLog) else error
        )
        fault = body.message
    try:
        return _Shown(await orders.order(order_id, caller), None, AsOfQuery(), fault, status)
    except DatabaseUnavailable:
        raise
    except OrderNotFound:
        problem = _UNREADABLE.format(why="its stream has no event of Pulse")
    except EventTooNew:
        problem = _NEWER
    except PulseError as error:
        problem = _UNREADABLE.format(why=error)
    return _Shown(None, problem, AsOfQuery(), fault, status)


def _as_of_in(query_string: bytes) -> AsOfQuery:
    """The version, position or time in the query. Empty fields, which a form sends, are ignored.

    Raises:
        BadRequest: a parameter is unknown, repeated or invalid, or there is more than one.
    """
    given = [pair for pair in query_string.split(b"&") if pair.partition(b"=")[2]]
    return as_of_query(parse_query(b"&".join(given), OrderAsOfParameters))


async def _readable(orders: InProcessOrders, order_id: UUID, caller: Caller) -> OrderView | None:
    try:
        return await orders.order(order_id, caller)
    except DatabaseUnavailable:
        raise
    except PulseError:
        return None


def _context(
    order_id: UUID,
    entries: Sequence[LogEntry],
    shown: _Shown,
    parked_position: int | None,
    now: datetime,
) -> dict[str, Any]:
    """What the template of an order shows."""
    order, as_of = shown.order, shown.as_of
    is_past = as_of != AsOfQuery()
    visible = [entry for entry in entries if _is_shown(entry, order, as_of)]
    first = entries[0].event
    created = first if isinstance(first, OrderCreated) else None
    is_foreign = not is_past and order is not None and entries[-1].view.version > order.version
    chart = None
    if order is not None and created is not None:
        chart = schedule_chart(order.slices, created.terms, None if is_past else now)
    return {
        "order_id": order_id,
        "order": order,
        "is_past": is_past,
        "fault": shown.fault,
        "problems": _problems(shown, is_foreign=is_foreign, parked_position=parked_position),
        "facts": facts_of(created, order.window if order else None) if created else [],
        "chart": chart,
        "even_share": even_share(created.terms) if created and chart else None,
        "has_sessions": created is not None and bool(created.sessions),
        "open_slices": _OPEN_SLICES,
        "slices": slice_rows(order, visible) if order else [],
        "parts": parts_of(order.quantities) if order else [],
        "quantities": quantities_chart(order.quantities) if order else None,
        "steps": steps_of(order_id, visible),
        "versions": versions_of(
            order_id, visible[-1].view.version, entries[-1].view.version, is_past=is_past
        ),
        "may_cancel": not is_past
        and not is_foreign
        and parked_position is None
        and order is not None
        and cancellation_of(order) is not None,
        "orders_path": ORDERS_PATH,
        "order_path": f"{ORDERS_PATH}/{order_id}",
        "log_path": _log_path(),
        "position": None if shown.fault else _position(order, entries),
    }


def _position(order: OrderView | None, entries: Sequence[LogEntry]) -> int:
    """The position of the log that the page reflects."""
    if order is not None and order.as_of:
        return order.as_of.position
    return entries[-1].view.position


def _is_shown(entry: LogEntry, order: OrderView | None, as_of: AsOfQuery) -> bool:
    """Whether the page shows the event: it is not later than the shown version or position."""
    if as_of.version is not None:
        return entry.view.version <= as_of.version
    if order is None or not order.as_of:
        return True
    return entry.view.position <= order.as_of.position


def _problems(shown: _Shown, *, is_foreign: bool, parked_position: int | None) -> list[str]:
    """Why Pulse does not process this order."""
    problems = [] if shown.problem is None else [shown.problem]
    if is_foreign:
        problems.append(_FOREIGN)
    if parked_position is not None:
        problems.append(_PARKED.format(position=parked_position))
    return problems


def _cancel_page(  # noqa: PLR0913 - what the page may differ in
    request: AnyRequest,
    order: OrderView | None,
    order_id: UUID,
    form: CancelForm | None = None,
    *,
    fault: str | None = None,
    why_not: str | None = None,
    status: int = 200,
) -> Response[str]:
    """The form that cancels, with the fault of its reason; or why there is no form.

    `order` is None if it cannot be read.
    """
    return page(
        request,
        "cancel.html",
        title="Cancel order",
        active="orders",
        status=status,
        order=order,
        order_id=order_id,
        order_path=f"{ORDERS_PATH}/{order_id}",
        cancellation=None if order is None or why_not is not None else cancellation_of(order),
        reason=form.reason if form else None,
        fault=fault,
        why_not=why_not,
    )


def _log_path() -> str | None:
    """The page of the log, if there is one."""
    return next((entry.path for entry in NAVIGATION if entry.key == "log"), None)


def _origin(request: AnyRequest) -> str:
    """The scheme and host of this request, for commands to copy."""
    host = request.headers.get("host", "")
    scope: Any = request.scope
    scheme = "https" if is_over_https(scope) else "http"
    return f"{scheme}://{host if _HOST.fullmatch(host) else 'localhost'}"
