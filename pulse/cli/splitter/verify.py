"""`pulse splitter verify`: every stored schedule derived again and compared."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text

from pulse.application import Finding, Verified
from pulse.bootstrap import settings_from_environment
from pulse.bootstrap.maintenance import Tools
from pulse.cli.exits import NOT_WELL, open_tools_or_stop, run_to_end
from pulse.cli.progress import OnProgress, progress_on
from pulse.cli.replay import order_id_of
from pulse.cli.terminal import counted, echo, errors, output, printable
from pulse.settings import Settings

_SENTENCES: Final = {
    "DIFFERS": "differs from what its creation derives",
    "BREAKS_RULE": "breaks a rule",
    "UNREADABLE": "cannot be derived",
    "NEWER_CODE": "asks for newer code than this, so nothing is proved",
}
_COUNTED: Final = {
    "DIFFERS": "differ",
    "BREAKS_RULE": "break a rule",
    "UNREADABLE": "cannot be derived",
    "NEWER_CODE": "ask for newer code",
}


class Proof(msgspec.Struct):
    """What has been looked through so far; `faults` counts schedules by what is wrong with them."""

    schedules: int = 0
    slices: int = 0
    position: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    findings: list[Finding] = msgspec.field(default_factory=list)


def verify(
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="These orders alone.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Derive every stored schedule again and compare it, byte for byte.

    A schedule is a function of its order's creation: the recorded seed and the
    recorded splitter version. This reads the log, derives each schedule anew in
    this process and names, for every order that differs, the first slice that
    does and the rules that it breaks (with ORDER_ID, every breach). It cannot see
    what was taken out of the log, or a history that was replaced as a whole.
    Shows its way in positions of the log on standard error.

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Changes nothing; orders may come and go.

    Exit codes: 0 every schedule is byte for byte what it must be. 1 some is not,
    or could not be derived, or no order has the id. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current. 130 stopped by
    Ctrl-C.

    Example:
      pulse splitter verify
      pulse splitter verify 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
    """
    settings, proof = settings_from_environment(), Proof()
    tell = proof.findings.append if as_json else partial(_tell, in_full=bool(order_ids))
    with progress_on(errors(), "position") as on_progress:
        run_to_end(_prove(settings, order_ids, proof, on_progress, tell))
    if as_json:
        echo(msgspec.json.encode(proof))
    else:
        output().print(_summed_up(proof))
    if proof.faults:
        raise typer.Exit(NOT_WELL)


async def _prove(
    settings: Settings,
    order_ids: list[str] | None,
    proof: Proof,
    on_progress: OnProgress,
    tell: Callable[[Finding], None],
) -> None:
    async with open_tools_or_stop(settings) as tools:
        stretches = (
            _orders(tools, order_ids) if order_ids else tools.verification().every_schedule()
        )
        async for verified in stretches:
            proof.schedules += verified.schedules
            proof.slices += verified.slices
            proof.position = verified.position
            proof.faults.update(finding.fault for finding in verified.findings)
            for finding in verified.findings:
                tell(finding)
            on_progress(verified.position, verified.end)


async def _orders(tools: Tools, order_ids: list[str]) -> AsyncIterator[Verified]:
    for text in order_ids:
        yield await tools.verification().of_order(order_id_of(text))


def _tell(finding: Finding, *, in_full: bool) -> None:
    """A line an order; `in_full` adds each breach of a rule on a line of its own."""
    console = output()
    line = Text(f"order {finding.order_id} at position {finding.position:,} ")
    line.append(_SENTENCES[finding.fault], "bold red").append(f": {printable(finding.detail)}")
    rules = dict.fromkeys(breach.rule for breach in finding.broken_rules)
    if finding.fault == "DIFFERS" and rules:
        line.append(f"; breaks {', '.join(rules)}")
    console.print(line)
    for breach in finding.broken_rules if in_full else ():
        console.print(f"  {breach.rule}: {printable(breach.breach)}")


def _summed_up(proof: Proof) -> Text:
    if not proof.schedules:
        return Text("no schedule is stored here: nothing was proved", "yellow")
    schedules, slices = counted(proof.schedules, "schedule"), counted(proof.slices, "slice")
    if not proof.faults:
        told = Text(f"{schedules} of {slices} derived again: ")
        return told.append("every one is identical, byte for byte", "green")
    identical = proof.schedules - proof.faults.total()
    faults = ", ".join(f"{count:,} {_COUNTED[fault]}" for fault, count in proof.faults.items())
    return Text(f"of {schedules} {identical:,} are identical, byte for byte; {faults}", "bold red")
