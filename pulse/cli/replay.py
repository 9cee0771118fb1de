"""`pulse replay`: shows an order's whole history from its events, as text or JSON."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from pulse.application.callers import Caller
from pulse.application.event_sentences import sentence_of
from pulse.application.event_view import EventView, event_view, readable_event
from pulse.application.failures import FAILED_IS_FINAL, what_to_do
from pulse.application.orders import OrderNotFound
from pulse.application.past import AsOfQuery, TimeInFuture, VersionBeyondStream
from pulse.cli.exits import run_with_tools
from pulse.cli.orders import KeyScope, order_query_of
from pulse.cli.queries import query_of
from pulse.cli.schedule_text import draw, window_lines
from pulse.cli.terminal import (
    display_time,
    echo,
    key_not_found,
    order_id_of,
    order_not_found,
    output,
)
from pulse.domain import (
    Event,
    OrderCreated,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
)
from pulse.errors import PulseError
from pulse.eventstore import RecordedEvent
from pulse.http.api.past import OrderAsOfParameters, as_of_query
from pulse.postgres import DatabaseUnavailable
from pulse.printable import printable
from pulse.process.tools import Tools
from pulse.projections.order_view import OrderView
from pulse.wording import clock_difference, counted, format_quantities

_STYLES: Final = {"COMPLETED": "bold green", "FAILED": "bold red", "CANCELLED": "bold red"}


_ONE_LINE: Final = (SlicesReleased, SlicesExpired)
"""Events that are shown in one line: an order can have one for each slice."""


class _History(msgspec.Struct, frozen=True):
    """The events of one order, and the order as of the last one, or why it cannot be read.

    An event is None if it is not Pulse's or this code cannot read it.
    """

    views: Sequence[EventView]
    events: Sequence[Event | None]
    order: OrderView | str


def replay(  # noqa: PLR0913 - one for each way to select an order and its past
    order_id: Annotated[
        str | None, typer.Argument(help="The order's id, as returned by its POST.")
    ] = None,
    *,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The order's key, instead of its id.")
    ] = None,
    key_scope: KeyScope = None,
    version: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="As of this version of the order.")
    ] = None,
    position: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="As of this position of the log.")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="As of this time.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The events as the API answers them.")
    ] = False,
) -> None:
    """Show an order's history, from its events alone.

    Shows each event with its times by the clock of the process and the
    database's, and their difference; which process recorded it, for which call;
    the request; and the schedule as a bar chart with its sum, each slice with its
    state. Releases and expiries are one line each. Then what is left of the
    order. For a FAILED order it shows why and what to do. Events that cannot be
    read are shown as stored.

    Give the order's id or its key. The key of an order from the gateway needs
    --key-scope too: the order's placed_by.

    With --version, --position or --at it shows the order as of that version,
    position or time, and only the events up to it. A time is RFC 3339 with its
    offset, such as 2026-01-05T09:15:00+05:30; it is compared with the times at
    which the log recorded its events.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 shown, 1 no order has this id or key, or it did not exist then,
    2 wrong usage or settings, 3 Postgres cannot be reached or its schema is not
    current.

    Example, with the order that `pulse up` suggests:
      pulse replay 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
      pulse replay --key ouk_first
      pulse replay --key ouk_first --at 2026-01-05T14:34:00+05:30
      pulse replay --key ouk_7 --key-scope "https://issuer.example/|alice"
    """
    if (order_id is None) == (key is None):
        raise typer.BadParameter("expected either an order's id or --key")
    found_by = order_query_of(order_unique_key=key, key_scope=key_scope).order_id
    given = {"version": version, "position": position, "at": at}
    as_of = query_of(given, {}, OrderAsOfParameters, as_of_query)

    async def read(tools: Tools) -> _History:
        known_id = order_id_of(order_id) if order_id is not None else found_by
        if known_id is None:
            raise AssertionError("neither an id nor a key")
        records = await tools.store.read_stream(known_id)
        if not records:
            raise order_not_found(order_id) if order_id is not None else key_not_found(key or "")
        return await _history(tools, known_id, records, as_of)

    history = run_with_tools(read)
    if as_json:
        answer = {"order_id": history.views[0].order_id, "events": history.views}
        echo(msgspec.json.encode(answer))
        return
    for line in _render(history):
        output().print(line)


async def _history(
    tools: Tools, order_id: UUID, records: Sequence[RecordedEvent], as_of: AsOfQuery
) -> _History:
    """The history as of a version, position or time; by default the whole one, with the claim.

    Raises:
        PulseError: the order did not exist then, or the log or its stream ends before that.
    """
    order: OrderView | str
    mapper = tools.store.mapper
    if as_of != AsOfQuery():
        order = await _order_as_of(tools, order_id, as_of)
        records = [record for record in records if record.position <= order.position]
    else:
        try:
            order = await tools.orders.order(order_id, Caller())
        except DatabaseUnavailable:
            raise
        except OrderNotFound:
            order = "its stream has no event of Pulse"
        except PulseError as error:
            order = str(error)
    views = [event_view(record, mapper) for record in records]
    return _History(views, [readable_event(record, mapper) for record in records], order)


async def _order_as_of(tools: Tools, order_id: UUID, as_of: AsOfQuery) -> OrderView:
    try:
        return await tools.past.order(order_id, as_of, Caller())
    except OrderNotFound:
        raise PulseError("the order did not exist then") from None
    except VersionBeyondStream as error:
        raise PulseError(f"the order has only {counted(error.version, 'version')}") from None
    except TimeInFuture as error:
        now = display_time(error.now)
        raise PulseError(
            f"the time is in the future: the clock of the database is at {now}"
        ) from None


def _render(history: _History) -> Iterator[Text]:
    created = next((event for event in history.events if isinstance(event, OrderCreated)), None)
    split = next((event for event in history.events if isinstance(event, SlicesScheduled)), None)
    yield _title(history)
    before: Event | None = None
    for number, (view, event) in enumerate(zip(history.views, history.events, strict=True), 1):
        if not (isinstance(event, _ONE_LINE) and isinstance(before, _ONE_LINE)):
            yield Text("")
        yield from _event(number, view, event)
        before = event
    if created is not None:
        yield from _request(created)
    yield from _outcome(history.order)
    if split is not None:
        terms = None if created is None else created.terms
        states = None if isinstance(history.order, str) else [s.state for s in history.order.slices]
        yield from draw(split.slices, terms, states)
    if not isinstance(history.order, str):
        yield from _what_is_left(history.order)


def _title(history: _History) -> Text:
    title = Text(f"Order {history.views[0].order_id}")
    if isinstance(history.order, str):
        return title.append(" cannot be read", _STYLES["FAILED"])
    state = history.order.order_queue_status
    if history.order.as_of:
        as_of = history.order.as_of
        moment = "" if as_of.at is None else f", {display_time(as_of.at)}"
        title.append(f" as of position {as_of.position:,}{moment}")
    title.append(" was " if history.order.as_of else " is ").append(
        state, _STYLES.get(state, "bold yellow")
    )
    cancelled_later = state == "COMPLETED" and history.order.quantities.cancelled > 0
    return title.append(", and was then cancelled") if cancelled_later else title


def _event(number: int, view: EventView, event: Event | None) -> Iterator[Text]:
    heading = Text(f"{number}. ").append(printable(view.type), "bold")
    if isinstance(event, _ONE_LINE):
        line = f"  {display_time(event.timestamp)}  {_sentence(event, view)}"
        yield heading.append(line).append(f"  position {view.position}", "dim")
        return
    yield heading.append(f"  position {view.position}, version {view.version}", "dim")
    yield _line(f"   {_sentence(event, view)}")
    occurred, difference = view.occurred_at, ""
    if event is not None:
        occurred = display_time(event.timestamp)
        difference = f"  ({clock_difference(event.timestamp, view.recorded_at)})"
    if occurred is not None:
        yield _line(f"   occurred  {occurred}")
    yield _line(f"   recorded  {display_time(view.recorded_at)}{difference}")
    if event is not None:
        by, trace = event.recorded_by, event.trace
        yield _line(f"   by        {by.component} {by.instance}, code {by.code_version}")
        yield _line(f"   trace     {trace.trace_id} from {trace.trace_source}")
        yield _line(f"   request   {trace.request_id} from {trace.request_source}")


def _sentence(event: Event | None, view: EventView) -> str:
    if event is None:
        return f"Not readable by this code; as stored: {_stored(view.data)}"
    return sentence_of(event, display_time)


def _request(created: OrderCreated) -> Iterator[Text]:
    how = "randomised" if created.randomize else "evenly"
    yield from _section("Request")
    yield _line(
        f"  {created.side} {counted(created.total_quantity, 'share')} of {created.instrument} in "
        f"{created.num_splits} slices over {created.duration_minutes} min, {how}"
    )
    yield from map(_line, _window(created))
    yield _line(f"  key {created.order_unique_key}, scope {created.key_scope}")
    yield _line(f"  seed {created.split_seed}, splitter version {created.splitter_version}")


def _window(created: OrderCreated) -> Iterator[str]:
    """The requested start and session policy, and the window; no lines if neither was requested."""
    if created.start_at is not None:
        yield f"  requested start: {display_time(created.start_at)}"
    if created.session_policy is not None or created.applied_policy != "NONE":
        requested = created.session_policy or "none, so the default applies"
        yield f"  session policy {created.applied_policy}, requested: {requested}"
    if created.start_at is not None or created.sessions:
        for line in window_lines(created.terms):
            yield f"  {line}"


def _outcome(order: OrderView | str) -> Iterator[Text]:
    if isinstance(order, str):
        yield from _section("Why it cannot be read")
        yield _line(f"  {order}")
        yield _line(
            "  Its row in the queue may be wrong: `pulse projections status` shows if it is parked."
        )
        return
    if order.order_queue_status == "FAILED":
        yield from _section("Why it failed, and what to do")
        yield _line(f"  {order.failure_reason}: {order.failure_message}.")
        yield _line(f"  {FAILED_IS_FINAL}")
        yield _line(f"  {what_to_do(order.failure_reason)}")
    elif order.order_queue_status == "PENDING":
        if order.as_of:
            yield from _section("What it waited for")
            yield _line("  A worker.")
            return
        yield from _section("What it waits for")
        yield _line("  A worker: `pulse status` says whether one is present.")
    elif order.claimed_at is not None:
        yield from _section("What it waits for")
        yield _line(
            f"  Worker {order.claimed_by}, which claimed it at {display_time(order.claimed_at)}, "
            "to split it."
        )


def _what_is_left(order: OrderView) -> Iterator[Text]:
    """The shares by state, and what Pulse still does with the remaining ones."""
    if order.order_queue_status in {"PENDING", "IN_PROGRESS", "FAILED"}:
        return
    yield from _section("What was left" if order.as_of else "What is left")
    yield _line(f"  {format_quantities(order.quantities)}")
    if order.quantities.expired:
        yield _line("  Expired shares were not released in time, and never will be.")
    scheduled = [s for s in order.slices if s.state == "SCHEDULED"]
    if not scheduled:
        yield _line("  No share remains: the order no longer changes.")
    elif order.release:
        number, due_at = scheduled[0].sequence_number, display_time(scheduled[0].scheduled_at)
        if order.as_of:
            yield _line(f"  Slice {number} was the next: due at {due_at}.")
            return
        yield _line(
            f"  Slice {number} is the next: due at {due_at}. `pulse cancel` cancels what is left."
        )
    else:
        yield _line("  Pulse does not release the slices of this order: they stay scheduled.")


def _section(title: str) -> Iterator[Text]:
    yield Text("")
    yield Text(title, "bold")


def _line(text: str) -> Text:
    return Text(printable(text))


def _stored(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
