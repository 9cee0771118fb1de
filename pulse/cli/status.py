"""`pulse status`: the queue, the claims and the projection, and whether a person is needed."""

from typing import Annotated

import msgspec
import typer

from pulse.bootstrap import settings_from_environment
from pulse.bootstrap.maintenance import Tools
from pulse.cli.exits import NOT_WELL, open_tools_or_stop, run_to_end
from pulse.cli.status_text import Status, machine_form, render
from pulse.cli.terminal import echo, output
from pulse.projections import read_lag
from pulse.projections.queue_overview import read_queue_overview
from pulse.settings import Settings
from pulse.workers.overview import read_claims_overview


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Tell how the queue stands, and whether a person is needed.

    Orders by state (FAILED ones by reason) with the age of the oldest that waits;
    who holds claims, and whether that worker is present; how far the projection
    has read the log; parked orders. Ages are by the database's clock.

    Counting reads every row, a fraction of a second for a million. Where it takes
    longer than 5 s, COMPLETED and FAILED are estimated from a sample, and the
    answer says so.

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Changes nothing.

    Exit codes: 0 healthy. 1 a person is needed: orders are parked, the projection
    is more than 10 s behind, or gone workers hold claims older than
    PULSE_TIMEOUT_SECONDS. 2 wrong usage or settings. 3 Postgres cannot be reached
    or its schema is not current.

    Example:
      pulse status
      pulse status --json | python3 -m json.tool
    """
    settings = settings_from_environment()
    found = run_to_end(_look(settings))
    if as_json:
        echo(msgspec.json.encode(machine_form(found)))
    else:
        console = output()
        for line in render(found):
            console.print(line)
    if found.needs:
        raise typer.Exit(NOT_WELL)


async def _look(settings: Settings) -> Status:
    async with open_tools_or_stop(settings) as tools:
        return await _status(tools, settings.timeout_seconds)


async def _status(tools: Tools, timeout_seconds: float) -> Status:
    return Status(
        claims=await read_claims_overview(tools.database, timeout_seconds=timeout_seconds),
        lag=await read_lag(tools.database),
        queue=await read_queue_overview(tools.database),
        timeout_seconds=timeout_seconds,
    )
