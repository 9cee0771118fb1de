"""`pulse splitter compare`: a splitter of one's own, held against every rule."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Annotated, Any

import msgspec
import typer

from pulse.application import newest_terms
from pulse.cli.exits import NOT_WELL, open_tools_or_stop, run_to_end
from pulse.cli.progress import progress_on
from pulse.cli.splitter.candidate import load_candidate
from pulse.cli.splitter.kit import kit_needed
from pulse.cli.terminal import EscapedErrors, echo, errors, output
from pulse.domain import CURRENT_SPLITTER_VERSION, SPLITTERS, SplitTerms
from pulse.errors import PulseError
from pulse.process.startup import settings_from_environment
from pulse.settings import Settings


def compare(
    candidate: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="Your splitter, as my_splits:split.")
    ],
    *,
    orders: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many orders, at most.")
    ] = 1000,
    stored: Annotated[
        bool, typer.Option("--stored", help="The newest stored orders instead of generated ones.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Try a splitter of your own: what if orders were split by it?

    Runs it over orders that are generated (the whole accepted range, the edges
    favoured; the same ones at every run) or stored, and holds what it makes
    against every rule of a schedule; then over six more under 2,000 seeds each,
    to see that it favours no position. The first order that fails is shrunk to a
    minimal one. Beside it stands the splitter that new orders get.

    The function takes pulse.domain.SplitTerms and returns pulse.domain.Slice, a
    sequence of them; its module is looked for in the working directory first.
    Needs the Postgres for --stored alone (PULSE_DATABASE_URL, or PULSE_DATA_DIR).
    Writes nothing; what the function prints goes to standard error.

    Exit codes: 0 every rule and law holds. 1 some is broken. 2 wrong usage or
    settings, or no such function, or the extra pulse[testing] is missing.
    3 Postgres cannot be reached.

    Example, the splitter that most people write first:
      pulse splitter compare pulse.testing:last_takes_the_rest
    """
    with kit_needed():
        from pulse.cli.splitter.compare_text import render  # noqa: PLC0415 - needs an extra
        from pulse.testing import comparing  # noqa: PLC0415 - same
    function = load_candidate(candidate)
    terms = _stored_terms(orders) if stored else comparing.generated_orders(orders)
    if not terms:
        raise PulseError("there are no stored orders to try it on: leave out --stored")
    with progress_on(errors(), "order") as on_progress, redirect_stdout(EscapedErrors()):
        found = comparing.compare(function, terms, on_progress)
        smallest = None if found.first is None else comparing.shrink(function, found.first)
    if as_json:
        echo(msgspec.json.encode(_machine_form(found, smallest)))
    else:
        current = comparing.compare(SPLITTERS[CURRENT_SPLITTER_VERSION], terms, lambda *_: None)
        for line in render(candidate, found, smallest, current):
            output().print(line)
    if not found.holds:
        raise typer.Exit(NOT_WELL)


def _stored_terms(most: int) -> Sequence[SplitTerms]:
    return run_to_end(_read(settings_from_environment(), most))


async def _read(settings: Settings, most: int) -> Sequence[SplitTerms]:
    async with open_tools_or_stop(settings) as tools:
        return await newest_terms(tools.store, tools.orders, most)


def _machine_form(found: Any, smallest: Any) -> dict[str, Any]:  # noqa: ANN401 - the extra's types
    return {**msgspec.structs.asdict(found), "smallest": smallest}
