"""`pulse replay`: an order's whole history, for people or as JSON."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from pulse.application import Caller, EventView, OrderNotFound
from pulse.cli.exits import open_tools_or_stop, run_to_end
from pulse.cli.history_text import History, render
from pulse.cli.terminal import columns, echo, has_blocks, output
from pulse.errors import PulseError
from pulse.postgres import DatabaseUnavailable
from pulse.process.startup import settings_from_environment
from pulse.projections.order_view import OrderView
from pulse.settings import Settings

_MOST_ECHOED_CHARACTERS = 72


def replay(
    order_id: Annotated[str, typer.Argument(help="The order's id, as its POST answered it.")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="The events as the API answers them.")
    ] = False,
) -> None:
    """Tell an order's history, from its events alone.

    What happened, when by the clock of the process and by the database's (and how
    far apart they are), who recorded it and for which call; the request; the
    schedule as a drawing, with its sum. A FAILED order says why and what to do.
    An order that no projection can read is told as it is stored.

    Needs the Postgres of the order: PULSE_DATABASE_URL, or the embedded one of
    PULSE_DATA_DIR, which is started if it does not run. Changes nothing.

    Exit codes: 0 told, 1 no order has this id, 2 wrong usage or settings,
    3 Postgres cannot be reached or its schema is not current.

    Example, with the order that `pulse up` suggests:
      pulse replay 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
    """
    settings = settings_from_environment()
    events, order = run_to_end(_read(settings, order_id))
    if as_json:
        answer = msgspec.json.encode({"order_id": events[0].order_id, "events": events})
        echo(answer)
        return
    console = output()
    for line in render(History(events, order), columns(console), blocks=has_blocks(console)):
        console.print(line)


async def _read(settings: Settings, order_id: str) -> tuple[Sequence[EventView], OrderView | str]:
    """Its events, and the order they make or why they make none."""
    async with open_tools_or_stop(settings) as tools:
        known_id = order_id_of(order_id)
        try:
            events = await tools.orders.history(known_id)
        except OrderNotFound:
            raise _not_found(order_id) from None
        try:
            return events, await tools.orders.order(known_id, Caller())
        except DatabaseUnavailable:
            raise
        except OrderNotFound:
            return events, "its stream holds no event of Pulse's"
        except PulseError as error:
            return events, str(error)


def order_id_of(text: str) -> UUID:
    """The id a person typed.

    Raises:
        PulseError: it is no id, so no order has it.
    """
    try:
        return UUID(text)
    except ValueError:
        raise _not_found(text) from None


def _not_found(order_id: str) -> PulseError:
    return PulseError(
        f"no order has the id {order_id[:_MOST_ECHOED_CHARACTERS]}: take it from the answer to its "
        "POST, or from order_queue_status by its order_unique_key"
    )
