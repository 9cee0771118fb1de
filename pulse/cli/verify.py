"""`pulse verify`: checks the log, and the order queue against it."""

import time
from collections import Counter
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text

from pulse.cli.exits import FAILURE, run_with_tools
from pulse.cli.terminal import AsJson, counted, echo, errors, order_id_of, output, progress_on
from pulse.eventstore import BEFORE_LOG
from pulse.evidence.findings import Fault, Finding
from pulse.evidence.verification import Verification
from pulse.printable import printable
from pulse.process.startup import tune_gc
from pulse.process.tools import Tools

_MAX_PRINTED: Final = 1_000
_SENTENCES: Final[dict[Fault, str]] = {
    "VERSIONS": "a version or position is wrong",
    "UNREADABLE": "the event cannot be read",
    "NEWER_CODE": "not verified: this needs newer code",
    "WRONG_ID": "the order's id is wrong",
    "NEVER_ACCEPTED": "the order was altered",
    "CANNOT_FOLLOW": "the event cannot follow the ones before it",
    "SCHEDULE": "the schedule differs from the one derived from its creation",
    "RULE": "the schedule breaks a rule",
    "ENCODING": "the event was altered",
    "PARKED": "not verified: the order is parked",
    "QUEUE": "the order queue differs from the log",
    "SLICES": "the slices in the queue differ from the log",
    "PENDING": "the pending orders differ from the log",
    "CLAIM": "the claim is impossible",
    "DUE": "the time of the next release differs from the log",
    "POSITION": "the position of the projection is wrong",
}


class VerificationTotals(msgspec.Struct):
    """What has been verified, up to `position`; `faults` counts the findings by fault."""

    position: int = 0
    events: int = 0
    orders: int = 0
    schedules: int = 0
    slices: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    findings: list[Finding] = msgspec.field(default_factory=list)


def verify(
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="Only these orders.")
    ] = None,
    *,
    since: Annotated[
        int | None,
        typer.Option(min=0, help="Only events after this position, and their orders."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the log, and the order queue against it.

    Checks that versions have no gaps and are in the order of the positions; that
    ids belong to their keys; that each event can follow the ones before it and
    has the bytes that Pulse writes; that every schedule is the one derived from
    its order's seed and splitter version; that every row of the queue, with its
    slices, pending and due orders, is what the log gives, column by column; and
    the position of the projection. Parked orders and events of newer code are
    findings, because they could not be verified. Shows progress in positions of
    the log on standard error.

    It cannot find a history that was replaced as a whole, in the log and in the
    queue, by another valid one: nothing there contradicts it.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing. Orders may be placed
    meanwhile.

    Exit codes: 0 nothing was found. 1 something was found, or no order has the
    id. 2 wrong usage or settings. 3 Postgres cannot be reached or its schema is
    not current. 130 stopped by Ctrl-C.

    Example:
      pulse verify
      pulse verify 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
    """
    if order_ids and since is not None:
        raise typer.BadParameter("give either ORDER_ID or --since", param_hint="--since")
    totals, started = VerificationTotals(), time.monotonic()
    after = BEFORE_LOG if since is None else since

    async def verify_parts(tools: Tools) -> None:
        tune_gc()
        verification = Verification(tools.database, tools.store.mapper, since=after)
        asked = [order_id_of(text) for text in order_ids or ()]
        parts = verification.orders(asked) if asked else verification.whole_log()
        async for part in parts:
            totals.events += part.events
            totals.orders += part.orders
            totals.schedules += part.schedules
            totals.slices += part.slices
            totals.position = part.end if asked else part.position
            totals.faults.update(finding.fault for finding in part.findings)
            for finding in part.findings:
                if as_json:
                    totals.findings.append(finding)
                elif totals.faults.total() <= _MAX_PRINTED:
                    _print_finding(finding, in_full=bool(asked))
            on_progress(part.position, part.end)

    with progress_on(errors(), "position") as on_progress:
        run_with_tools(verify_parts)
    if as_json:
        echo(msgspec.json.encode(totals))
    else:
        output().print(_summary(totals, time.monotonic() - started))
    if totals.faults:
        raise typer.Exit(FAILURE)


def _print_finding(finding: Finding, *, in_full: bool) -> None:
    """Print one line per finding; `in_full` adds a line for each breach of a rule."""
    line = Text()
    if finding.position is not None:
        line.append(f"position {finding.position:,}: ")
    if finding.order_id is not None:
        line.append(f"order {finding.order_id}: ")
    line.append(_SENTENCES[finding.fault], "bold red").append(f": {printable(finding.detail)}")
    rules = dict.fromkeys(breach.rule for breach in finding.broken_rules)
    if finding.fault == "SCHEDULE" and rules:
        line.append(f"; breaks {', '.join(rules)}")
    output().print(line)
    for breach in finding.broken_rules if in_full else ():
        output().print(f"  {breach.rule}: {printable(breach.breach)}")


def _summary(totals: VerificationTotals, seconds: float) -> Text:
    verified = (
        f"{counted(totals.events, 'event')} of {counted(totals.orders, 'order')} verified up to "
        f"position {totals.position:,} in {seconds:.1f} s, {counted(totals.schedules, 'schedule')} "
        f"of {counted(totals.slices, 'slice')} derived again: "
    )
    found = totals.faults.total()
    if not found:
        return Text(verified).append("nothing was found", "green")
    by_fault = ", ".join(f"{count:,} {fault}" for fault, count in sorted(totals.faults.items()))
    line = Text(verified).append(f"{counted(found, 'finding')} ({by_fault})", "bold red")
    if found > _MAX_PRINTED:
        line.append(f"; the first {_MAX_PRINTED:,} are listed above, --json has all")
    return line
