"""`pulse splitter compare` and `rules`: test another splitter by the rules and laws."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from pulse.application.recorded_terms import newest_terms
from pulse.cli.exits import FAILURE, require_extra, run_with_tools
from pulse.cli.schedule_text import draw
from pulse.cli.splitter.show import title
from pulse.cli.terminal import AsJson, echo, errors, output, progress_on
from pulse.domain import (
    CURRENT_SPLITTER_VERSION,
    SCHEDULE_RULES,
    SPLITTERS,
    Splitter,
    SplitTerms,
    rule_sentence,
)
from pulse.errors import PulseError
from pulse.printable import printable, printable_lines
from pulse.process.tools import Tools
from pulse.wording import counted

if TYPE_CHECKING:
    from pulse.testing.comparing import Comparison, Failure

_MAX_BREACHES: Final = 3


def compare(
    candidate: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="Your splitter, as my_splits:split.")
    ],
    *,
    orders: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Maximum number of orders.")
    ] = 1000,
    stored: Annotated[
        bool, typer.Option("--stored", help="Use the newest stored orders, not generated ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Test your own splitter against every rule and law.

    Runs it over generated orders (the whole accepted range with many edge cases;
    the same ones at every run) or stored ones, and checks the slices by every
    rule of a schedule. Then runs six more orders with 2,000 seeds each, to check
    that it favours no position. The first order that fails is shrunk to a minimal
    one. Without --json the output also has the results of the current splitter.

    The function takes a pulse.domain.SplitTerms and returns a sequence of
    pulse.domain.Slice. Its module is searched in the working directory first.
    Only --stored needs Postgres (PULSE_DATABASE_URL or PULSE_DATA_DIR). Writes
    nothing; what the function prints goes to standard error.

    Exit codes: 0 every rule and law holds. 1 some rule or law is broken. 2 wrong
    usage or settings, no such function, or the extra pulse[testing] is missing.
    3 Postgres cannot be reached.

    Example, with a naive splitter:
      pulse splitter compare pulse.testing:last_takes_the_rest
    """
    with require_extra():
        from pulse.testing import comparing  # noqa: PLC0415 - needs an extra
    function = _function(candidate)

    async def read(tools: Tools) -> Sequence[SplitTerms]:
        return await newest_terms(tools.store, tools.orders, orders)

    terms = run_with_tools(read) if stored else comparing.generated_orders(orders)
    if not terms:
        raise PulseError("there are no stored orders to test it with: omit --stored")
    with progress_on(errors(), "order") as on_progress, redirect_stdout(_EscapedErrors()):
        found = comparing.compare(function, terms, on_progress)
        smallest = None if found.first is None else comparing.shrink(function, found.first)
    if as_json:
        echo(msgspec.json.encode({**msgspec.structs.asdict(found), "smallest": smallest}))
    else:
        current = comparing.compare(SPLITTERS[CURRENT_SPLITTER_VERSION], terms, lambda *_: None)
        for line in _render(candidate, found, smallest, current):
            output().print(line)
    if not found.holds:
        raise typer.Exit(FAILURE)


def rules() -> None:
    """List the rules of every schedule, and the laws of a splitter.

    The rules are the functions of `pulse.domain.SCHEDULE_RULES`: workers check
    them before they append a schedule, `pulse verify` afterwards. The
    laws hold over many seeds. Needs no database, but the extra pulse[testing].

    Exit codes: 0 listed, 2 wrong usage, or the extra is missing.

    Example:
      pulse splitter rules
    """
    with require_extra():
        from pulse.testing import SPLITTER_LAWS  # noqa: PLC0415 - needs an extra
    console = output()
    width = max(len(rule.__name__) for rule in (*SCHEDULE_RULES, *SPLITTER_LAWS))
    for heading, group in (("Of a schedule", SCHEDULE_RULES), ("Over many seeds", SPLITTER_LAWS)):
        console.print(heading, style="bold")
        for rule in group:
            console.print(f"  {rule.__name__:<{width}}  {rule_sentence(rule)}")


class _EscapedErrors(TextIOBase):
    """Standard error for a candidate that prints, with control characters escaped."""

    def write(self, text: str) -> int:
        sys.stderr.write(printable_lines(text))
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _function(name: str) -> Splitter:
    """Import MODULE:FUNCTION, searched in the working directory first."""
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise _wrong(f"{name!r} is not of the form MODULE:FUNCTION, as in my_splits:split")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _wrong(f"no module {error.name} in {here} or installed") from None
    except (Exception, SystemExit) as error:
        raise _wrong(f"importing {module_name} fails: {type(error).__name__}: {error}") from error
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        raise _wrong(f"{module_name} has no function {function_name}")
    splitter: Splitter = function
    return splitter


def _wrong(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="MODULE:FUNCTION")


def _render(
    name: str, found: "Comparison", smallest: "Failure | None", current: "Comparison"
) -> Iterator[Text]:
    """A table of rules and laws, for the candidate and the current splitter; then failures."""
    orders, version = counted(found.orders, "order"), f"version {CURRENT_SPLITTER_VERSION}"
    width = max(map(len, [*found.broken, *found.laws]))

    def row(rule: str, count: int | None, of_current: int | None) -> Text:
        shown, shown_current = ("-" if n is None else f"{n:,}" for n in (count, of_current))
        line = Text(f"  {rule:<{width}}  ")
        line.append(f"{shown:>9}", "green" if count == 0 else "red")
        return line.append(f"  {shown_current:>9}", "dim")

    yield Text(f"{printable(name)} over {orders}, compared with splitter {version}", "bold")
    yield Text(f"  {'orders that break a rule':<{width}}  {'candidate':>9}  {version:>9}", "dim")
    for rule, count in found.broken.items():
        yield row(rule, count, current.broken[rule])
    yield Text("  breaches of a law over many seeds", "dim")
    for law, breaches in found.laws.items():
        of_current = current.laws[law]
        yield row(
            law,
            None if breaches is None else len(breaches),
            None if of_current is None else len(of_current),
        )
        for breach in (breaches or [])[:_MAX_BREACHES]:
            yield Text(f"    {breach}", "red")
        if breaches is not None and len(breaches) > _MAX_BREACHES:
            yield Text(f"    and {len(breaches) - _MAX_BREACHES} more", "red")
    if smallest is not None:
        yield from _smallest(smallest)
    yield Text("")
    if found.holds:
        holds = (
            f"Every rule holds for each of {orders}, and in the samples no position is favoured."
        )
        yield Text(holds, "green")
        return
    broken = sum(bool(count) for count in found.broken.values())
    laws = sum(breaches != [] for breaches in found.laws.values())
    verdict = f"{counted(broken, 'rule')} and {counted(laws, 'law')} are broken"
    yield Text(f"{found.failed:,} of {orders} fail: {verdict}. Nothing was written.", "bold red")


def _smallest(failure: "Failure") -> Iterator[Text]:
    terms = failure.terms
    yield Text("")
    yield Text("The smallest order found that fails", "bold")
    yield Text(f"  {title(terms)}, started at {msgspec.to_builtins(terms.starts_at)}")
    yield Text(f"  {msgspec.json.encode(terms).decode()}")
    drawable = all(breach.rule != "slices_are_well_formed" for breach in failure.broken)
    if failure.slices and drawable:
        yield from draw(failure.slices, terms)
        return
    for breach in failure.broken:
        yield Text(printable(f"  {breach.rule}: {breach.breach}"), "red")
