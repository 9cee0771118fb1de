"""`pulse cancel`: cancels the slices of an order that are still scheduled."""

from typing import Annotated

import msgspec
import typer

from pulse.application.orders import CancelRequest, OrderNotFound
from pulse.cli.author import new_trace, this_user
from pulse.cli.exits import run_with_tools
from pulse.cli.terminal import display_time, echo, order_id_of, order_not_found, output
from pulse.domain import NothingToCancel, OrderCancelled
from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown, AppendRefused
from pulse.process.tools import Tools
from pulse.projections.order_view import OrderView
from pulse.wording import counted, format_quantities, numbered_slices


class _Cancelled(msgspec.Struct, frozen=True):
    """The order, the event that cancelled it, and whether this command wrote that event."""

    order: OrderView
    event: OrderCancelled
    now: bool


def cancel(
    order_id: Annotated[str, typer.Argument(help="The order's id, as returned by its POST.")],
    *,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why, in at most 255 characters.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The order as the API answers it.")
    ] = False,
) -> None:
    """Cancel what is left of an order.

    Cancels the slices that are still scheduled, or the whole order if it is not
    split yet. Slices that were released stay released, and the output says which.
    The event has the reason, and `cli:` and your user name as its author. A
    cancelled order is left unchanged, so the command can be repeated.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running.

    Exit codes: 0 cancelled, now or before. 1 not cancelled: no order has this id,
    it has nothing left to cancel, or Postgres refuses; or the outcome is unknown:
    run it again. 2 wrong usage or settings. 3 Postgres cannot be reached or its
    schema is not current.

    Example, with the order that `pulse up` suggests:
      pulse cancel 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
      pulse cancel 9ff54a4d-a8eb-5a4c-a146-a92918cb5546 --reason "fund closed"
    """
    _require_valid(reason)
    cancelled = run_with_tools(lambda tools: _cancel(tools, order_id, reason))
    if as_json:
        echo(msgspec.json.encode(cancelled.order))
        return
    for line in _lines(cancelled):
        output().print(line)


def _require_valid(reason: str | None) -> None:
    """Check the reason as the API does."""
    try:
        msgspec.convert(msgspec.json.decode(msgspec.json.encode({"reason": reason})), CancelRequest)
    except (msgspec.ValidationError, UnicodeEncodeError):
        expected = "expected at most 255 characters of UTF-8"
        raise typer.BadParameter(expected, param_hint="--reason") from None


async def _cancel(tools: Tools, order_id: str, reason: str | None) -> _Cancelled:
    known_id = order_id_of(order_id)
    trace = new_trace("cancel")
    try:
        async with tools.appending():
            order = await tools.orders.cancel(known_id, reason, this_user(), trace)
    except OrderNotFound:
        raise order_not_found(order_id) from None
    except NothingToCancel as error:
        shares = "" if error.quantities is None else f" ({format_quantities(error.quantities)})"
        raise PulseError(f"{error}{shares}") from None
    except AppendRefused as error:
        raise PulseError(f"nothing was cancelled: {error}; run this again") from None
    except AppendOutcomeUnknown as error:
        raise PulseError(
            f"it is not known whether the order is cancelled: {error}; run this again"
        ) from None
    events = tools.store.mapper.events_of(await tools.store.read_stream(known_id))
    (event,) = (event for event in events if isinstance(event, OrderCancelled))
    return _Cancelled(order, event, now=event.trace == trace)


def _lines(cancelled: _Cancelled) -> list[str]:
    order, event = cancelled.order, cancelled.event
    numbers = event.sequence_numbers
    what = f" in {numbered_slices(numbers)}" if numbers else ", before it was split"
    reason = "" if event.reason is None else f", reason: {event.reason}"
    when = "" if cancelled.now else f" before, at {display_time(event.timestamp)}"
    lines = [
        f"order {order.order_id} {'is' if cancelled.now else 'was'} cancelled{when}",
        f"cancelled: {counted(event.quantity, 'share')}{what}",
        f"by {event.cancelled_by}{reason}",
    ]
    for kind, shares in (
        ("released", order.quantities.released),
        ("expired", order.quantities.expired),
    ):
        slices = [s for s in order.slices if s.state == kind.upper()]
        if shares:
            had = f"{counted(shares, 'share')} in {counted(len(slices), 'slice')}"
            lines.append(f"{kind} before that: {had}, which stay {kind}")
    if not cancelled.now:
        lines.append("nothing was changed")
    return lines
