"""`pulse orders`: finds orders, and lists those that need a person."""

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text

from pulse.application.failures import FAILED_IS_FINAL, what_to_do
from pulse.application.in_process import InProcessOrders
from pulse.cli.exits import run_with_tools
from pulse.cli.queries import query_of
from pulse.cli.terminal import AsJson, add_command, display_time, echo, group, output
from pulse.http.api.lists import OrderParameters, order_query
from pulse.printable import printable
from pulse.projections.lists import MAX_ORDERS_PER_PAGE, OrderQuery
from pulse.projections.order_view import OrderView
from pulse.wording import counted

_MAX_LISTED: Final = 10_000
_OPTIONS: Final = {"order_unique_key": "--key", "order_queue_status": "--status"}


class _Found(msgspec.Struct, frozen=True):
    """Orders, newest first, as of a position of the log; `more` is whether there are others."""

    as_of_position: int
    orders: tuple[OrderView, ...]
    more: bool


def failed(
    *,
    reason: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Only this reason: TIMED_OUT, TOO_LATE, ..."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=_MAX_LISTED, help="List at most this many.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List the failed orders, newest first: why each failed, and what to do.

    Shows id, key, instrument, the times of creation and failure, the reason and
    what to do. FAILED is final: no slice of such an order is ever released.
    `pulse replay ID` shows its whole history. The list is read from the
    projection, as of the position that it prints.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 listed, even if none has failed, 2 wrong usage or settings,
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse orders failed
      pulse orders failed --reason TOO_LATE --limit 10
    """
    query = OrderQuery(limit=MAX_ORDERS_PER_PAGE, order_queue_status="FAILED")
    found = run_with_tools(lambda tools: _find(tools.orders, query, reason, limit))
    if not as_json:
        for line in _render(found, reason):
            output().print(line)
        return
    listed = [
        {
            "order_id": order.order_id,
            "order_unique_key": order.order_unique_key,
            "instrument": order.instrument,
            "placed_by": order.placed_by,
            "created_at": order.created_at,
            "failed_at": order.updated_at,
            "failure_reason": order.failure_reason,
            "failure_message": order.failure_message,
            "what_to_do": what_to_do(order.failure_reason),
        }
        for order in found.orders
    ]
    answer = {"as_of_position": found.as_of_position, "orders": listed, "more": found.more}
    echo(msgspec.json.encode(answer))


KeyScope = Annotated[
    str | None,
    typer.Option(metavar="SCOPE", help="The scope of the key; default: internal."),
]
_Text = str | None


def list_orders(  # noqa: PLR0913 - one for each filter
    *,
    key: Annotated[_Text, typer.Option(metavar="KEY", help="With this key.")] = None,
    key_scope: KeyScope = None,
    placed_by: Annotated[_Text, typer.Option(metavar="NAME", help="With this placed_by.")] = None,
    trace_id: Annotated[_Text, typer.Option(metavar="ID", help="With this trace id.")] = None,
    status: Annotated[
        _Text, typer.Option(metavar="STATUS", help="PENDING, IN_PROGRESS, COMPLETED, ...")
    ] = None,
    instrument: Annotated[_Text, typer.Option(metavar="NAME", help="Such as NSE:RELIANCE.")] = None,
    created_from: Annotated[
        _Text, typer.Option(metavar="TIME", help="Created at this time or later.")
    ] = None,
    created_before: Annotated[
        _Text, typer.Option(metavar="TIME", help="Created earlier than this time.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=_MAX_LISTED, help="List at most this many.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first: all of them, or those that match every filter.

    Values are compared exactly; there are no wildcards. A time is RFC 3339 with
    its offset, such as 2026-01-05T09:15:00+05:30, and is compared with
    created_at. A key belongs to a scope: `internal`, or for an order from the
    gateway its placed_by. Shows id, status, time of creation, key, instrument and
    caller. The list is read from the projection, as of the position that it
    prints.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 listed, even if no order matches. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse orders list --key ouk_first
      pulse orders list --placed-by oms --status FAILED --limit 10
      pulse orders list --created-from 2026-01-05T09:15:00+05:30 --json
    """
    query = order_query_of(
        order_unique_key=key,
        key_scope=key_scope,
        placed_by=placed_by,
        trace_id=trace_id,
        order_queue_status=status,
        instrument=instrument,
        created_from=created_from,
        created_before=created_before,
    )
    found = run_with_tools(lambda tools: _find(tools.orders, query, None, limit))
    if as_json:
        echo(msgspec.json.encode(found))
        return
    for order in found.orders:
        output().print(Text.assemble(f"{order.order_id}  ", (order.order_queue_status, "bold")))
        output().print(
            _line(f"key {order.order_unique_key}, {order.instrument}, from {order.placed_by}")
        )
        output().print(_line(f"created {display_time(order.created_at)}"))
    rest = "; there are more: raise --limit" if found.more else ""
    count = counted(len(found.orders), "order") if found.orders else "No order"
    output().print(f"{count}, as of position {found.as_of_position:,}{rest}.")


def order_query_of(**parameters: str | None) -> OrderQuery:
    """The query with these parameters of `GET /internal/orders`, under the same rules.

    Raises:
        typer.BadParameter: a parameter breaks a rule.
    """
    return query_of(parameters, _OPTIONS, OrderParameters, order_query)


orders = group(
    "orders",
    "Find orders, and list those that need a person.",
    "Exit codes: 0 listed, 2 wrong usage or settings, 3 could not start.",
    (failed,),
)
add_command(orders, list_orders, "list")


async def _find(
    queries: InProcessOrders, query: OrderQuery, reason: str | None, limit: int
) -> _Found:
    found: list[OrderView] = []
    before: int | None = None
    as_of_position: int | None = None
    while len(found) <= limit:
        page = await queries.orders(
            msgspec.structs.replace(query, limit=MAX_ORDERS_PER_PAGE, before=before)
        )
        as_of_position = page.as_of_position if as_of_position is None else as_of_position
        found += [order for order in page.orders if reason in {None, order.failure_reason}]
        before = page.next_before
        if before is None:
            break
    return _Found(as_of_position or 0, tuple(found[:limit]), more=len(found) > limit)


def _render(found: _Found, reason: str | None) -> Iterator[Text]:
    with_reason = "" if reason is None else f" with {printable(reason)}"
    if not found.orders:
        yield Text(f"No order has failed{with_reason}, as of position {found.as_of_position:,}.")
        return
    for order in found.orders:
        yield from _order(order)
        yield Text("")
    count = counted(len(found.orders), "order")
    rest = "; there are more: raise --limit" if found.more else ""
    yield Text(f"{count} failed{with_reason}, as of position {found.as_of_position:,}{rest}.")
    yield Text(FAILED_IS_FINAL)


def _order(order: OrderView) -> Iterator[Text]:
    yield Text(f"{order.order_id}  ").append(printable(order.failure_reason or ""), "bold red")
    yield _line(f"key {order.order_unique_key}, {order.instrument}, from {order.placed_by}")
    yield _line(
        f"created {display_time(order.created_at)}, failed {display_time(order.updated_at)}"
    )
    yield _line(f"why: {order.failure_message}.")
    yield _line(f"what to do: {what_to_do(order.failure_reason)}")


def _line(text: str) -> Text:
    return Text(f"  {printable(text)}")
