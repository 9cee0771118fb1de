"""`pulse splitter verify`: derives every stored schedule again and compares it."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Final
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from pulse.application.verification import (
    ScheduleFinding,
    Unverified,
    Verified,
    verify_log,
    verify_order,
)
from pulse.cli.exits import FAILURE, run_with_tools
from pulse.cli.terminal import AsJson, counted, echo, errors, order_id_of, output, progress_on
from pulse.printable import printable
from pulse.process.startup import tune_gc
from pulse.process.tools import Tools

_SENTENCES: Final = {
    "DIFFERS": "differs from the schedule derived from its creation",
    "BREAKS_RULE": "breaks a rule",
    "CANNOT_FOLLOW": "has an event that cannot follow the ones before it",
    "UNREADABLE": "cannot be derived",
    "NEWER_CODE": "needs newer code than this, so it was not verified",
}
_COUNTED: Final = {
    "DIFFERS": "differ",
    "BREAKS_RULE": "break a rule",
    "CANNOT_FOLLOW": "have an event that cannot follow",
    "UNREADABLE": "cannot be derived",
    "NEWER_CODE": "need newer code",
}
_OBSTACLES: Final = {
    "PARKED": "parked",
    "UNREADABLE": "cannot be read",
    "NEWER_CODE": "of newer code",
}


class VerificationTotals(msgspec.Struct):
    """What has been verified so far; `faults` counts schedules by fault.

    `unverified` has the orders that could not be verified.
    """

    schedules: int = 0
    slices: int = 0
    position: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    findings: list[ScheduleFinding] = msgspec.field(default_factory=list)
    unverified: dict[UUID, Unverified] = msgspec.field(default_factory=dict)


def verify(
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="Only these orders.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Derive every stored schedule again and compare it, byte for byte.

    A schedule is a function of its order's creation with the recorded seed and
    splitter version. This command reads the log, derives each schedule again and
    lists, for every order that differs, the first different slice and the broken
    rules (with ORDER_ID, every breach). Releases, expiries and cancellations must
    concern the slices and shares that were left, and every event of the order
    must have the bytes that Pulse writes. It cannot detect events that were
    deleted from the log, or a history that was replaced as a whole. Orders that
    it cannot verify are listed and counted: parked ones, and those without a
    schedule that have unreadable events or events of newer code. Shows progress
    in positions of the log on standard error.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing. Orders may be placed
    meanwhile.

    Exit codes: 0 every schedule is identical, byte for byte. 1 some schedule is
    not, or could not be derived, or some order was not verified, or no order has
    the id. 2 wrong usage or settings. 3 Postgres cannot be reached or its schema
    is not current. 130 stopped by Ctrl-C.

    Example:
      pulse splitter verify
      pulse splitter verify 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
    """
    totals = VerificationTotals()
    tell = totals.findings.append if as_json else partial(_print_finding, in_full=bool(order_ids))

    async def prove(tools: Tools) -> None:
        tune_gc()
        asked = [order_id_of(text) for text in order_ids or ()]
        for parked in await tools.parked.all():
            if not asked or parked.order_id in asked:
                totals.unverified[parked.order_id] = Unverified.parked(parked)
        async for verified in _orders(tools, asked) if asked else verify_log(tools.store):
            totals.schedules += verified.schedules
            totals.slices += verified.slices
            totals.position = verified.position
            totals.faults.update(finding.fault for finding in verified.findings)
            for finding in verified.findings:
                tell(finding)
            for order in verified.unverified:
                totals.unverified.setdefault(order.order_id, order)
            on_progress(verified.position, verified.end)

    with progress_on(errors(), "position") as on_progress:
        run_with_tools(prove)
    if as_json:
        unverified = list(totals.unverified.values())
        echo(msgspec.json.encode(msgspec.structs.asdict(totals) | {"unverified": unverified}))
    else:
        for order in totals.unverified.values():
            line = Text(f"order {order.order_id} at position {order.position:,} ")
            line.append("was not verified", "bold red")
            output().print(
                line.append(f": {_OBSTACLES[order.obstacle]}: {printable(order.detail)}")
            )
        output().print(_summary(totals))
    if totals.faults or totals.unverified:
        raise typer.Exit(FAILURE)


async def _orders(tools: Tools, order_ids: Sequence[UUID]) -> AsyncIterator[Verified]:
    for order_id in order_ids:
        yield await verify_order(tools.store, order_id)


def _print_finding(finding: ScheduleFinding, *, in_full: bool) -> None:
    """Print one line per order; `in_full` adds a line for each breach of a rule."""
    console = output()
    line = Text(f"order {finding.order_id} at position {finding.position:,} ")
    line.append(_SENTENCES[finding.fault], "bold red").append(f": {printable(finding.detail)}")
    rules = dict.fromkeys(breach.rule for breach in finding.broken_rules)
    if finding.fault == "DIFFERS" and rules:
        line.append(f"; breaks {', '.join(rules)}")
    console.print(line)
    for breach in finding.broken_rules if in_full else ():
        console.print(f"  {breach.rule}: {printable(breach.breach)}")


def _summary(totals: VerificationTotals) -> Text:
    if not totals.schedules and totals.unverified:
        return Text(f"no schedule is stored here; {_unverified_counted(totals)}", "bold red")
    if not totals.schedules:
        return Text("no schedule is stored here: nothing was verified", "yellow")
    schedules, slices = counted(totals.schedules, "schedule"), counted(totals.slices, "slice")
    if not totals.faults and not totals.unverified:
        line = Text(f"{schedules} of {slices} derived again: ")
        return line.append("every one is identical, byte for byte", "green")
    identical = totals.schedules - totals.faults.total()
    faults = ", ".join(f"{count:,} {_COUNTED[fault]}" for fault, count in totals.faults.items())
    rest = [faults] if faults else []
    rest += [_unverified_counted(totals)] if totals.unverified else []
    outcome = f"of {schedules} {identical:,} are identical, byte for byte; {'; '.join(rest)}"
    return Text(outcome, "bold red")


def _unverified_counted(totals: VerificationTotals) -> str:
    """`3 orders were not verified (2 parked, 1 of newer code)`."""
    by_obstacle = Counter(order.obstacle for order in totals.unverified.values())
    why = ", ".join(f"{count:,} {_OBSTACLES[what]}" for what, count in by_obstacle.items())
    were = "was" if len(totals.unverified) == 1 else "were"
    return f"{counted(len(totals.unverified), 'order')} {were} not verified ({why})"
