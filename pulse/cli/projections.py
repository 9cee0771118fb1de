"""`pulse projections`: orders that were set aside, and their way back."""

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from pulse.application import OrderNotFound
from pulse.bootstrap import settings_from_environment
from pulse.bootstrap.maintenance import Tools
from pulse.cli.exits import NOT_WELL, open_tools_or_stop, run_to_end
from pulse.cli.replay import order_id_of
from pulse.cli.terminal import add_command, counted, echo, help_if_alone, output, printable
from pulse.eventstore import EventTooNew
from pulse.projections import Lag, ParkedOrder, read_lag
from pulse.settings import Settings

projections = typer.Typer(
    name="projections",
    help="Orders that the projection has set aside, and their way back.",
    epilog="Exit codes: 0 no order is parked, 1 some are, 2 wrong usage or settings, "
    "3 could not start.",
    rich_markup_mode=None,
)


@projections.callback(invoke_without_command=True)
def _alone(context: typer.Context) -> None:
    help_if_alone(context)


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """List the parked orders, and where the projection stands.

    An event that cannot be applied parks its own order and stops no other: the
    order's row stays as it was before that event, and no worker claims it. Each
    is listed with the event's position, since when, and why.

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Changes nothing.

    Exit codes: 0 no order is parked, 1 some are, 2 wrong usage or settings,
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse projections status
    """
    lag, parked = run_to_end(_look(settings_from_environment()))
    if as_json:
        found = {"position": lag.position, "behind_seconds": lag.behind_seconds, "parked": parked}
        echo(msgspec.json.encode(found))
    else:
        _print(lag, parked)
    if parked:
        raise typer.Exit(NOT_WELL)


def retry(
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="Which parked orders.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every parked order.")] = False,
) -> None:
    """Take parked orders up again, after what parked them is mended.

    Builds each order anew from its events, alone and in one transaction: it
    stands again, or it stays parked and says why. Run it once the code that reads
    the event is mended; a stream that is wrong in itself stays parked.

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Ctrl-C leaves each order either done or
    as it was.

    Exit codes: 0 each one stands, 1 some order stays parked or does not exist,
    2 wrong usage or settings, 3 Postgres cannot be reached or its schema is not
    current.

    Example:
      pulse projections retry --all
    """
    if every == bool(order_ids):
        raise typer.BadParameter("name the orders or say --all, not both", param_hint="ORDER_ID")
    faults = run_to_end(_retry_each(settings_from_environment(), order_ids))
    if faults:
        raise typer.Exit(NOT_WELL)


add_command(projections, status)
add_command(projections, retry)


async def _look(settings: Settings) -> tuple[Lag, list[ParkedOrder]]:
    async with open_tools_or_stop(settings) as tools:
        return await read_lag(tools.database), await tools.parked.all()


def _print(lag: Lag, parked: Sequence[ParkedOrder]) -> None:
    console = output()
    console.print(f"projection at position {lag.position:,}, {lag.behind_seconds:.1f} s behind")
    console.print(f"{counted(len(parked), 'order')} parked")
    for order in parked:
        since = order.parked_at.astimezone(UTC).isoformat(timespec="seconds")
        console.print(
            f"{order.order_id}  position {order.position:,}  "
            f"since {since.replace('+00:00', 'Z')}  {printable(order.reason)}"
        )
    if parked:
        console.print("Once the fault is mended: `pulse projections retry --all`.")


async def _retry_each(settings: Settings, order_ids: Sequence[str] | None) -> int:
    """Retry these, or all of them; returns how many do not stand afterwards."""
    console, faults = output(), 0
    async with open_tools_or_stop(settings) as tools:
        parked = [order.order_id for order in await tools.parked.all()]
        wanted = [order_id_of(text) for text in order_ids] if order_ids else parked
        if not wanted:
            console.print("no order is parked")
        for order_id in wanted:
            take_up = _retry if order_id in parked else _leave
            fault, sentence = await take_up(tools, order_id)
            console.print(f"{order_id}  {printable(sentence)}")
            faults += fault
    return faults


async def _retry(tools: Tools, order_id: UUID) -> tuple[bool, str]:
    """Whether it stays parked, and a word on it."""
    try:
        retried = await tools.parked.retry(order_id)
    except EventTooNew as error:
        return True, f"stays parked until newer code takes it up: {error}"
    if retried.fault is not None:
        return True, f"stays parked: {retried.fault}"
    return False, "stands again"


async def _leave(tools: Tools, order_id: UUID) -> tuple[bool, str]:
    try:
        await tools.orders.history(order_id)
    except OrderNotFound:
        return True, "no order has this id"
    return False, "is not parked"
