"""`pulse splitter verify`: every stored schedule derived again and compared."""

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
from pulse.cli.exits import NOT_WELL, on_postgres
from pulse.cli.terminal import AsJson, counted, echo, errors, order_id_of, output, progress_on
from pulse.printable import printable
from pulse.process.startup import tune_gc
from pulse.process.tools import Tools

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
_OBSTACLES: Final = {
    "PARKED": "parked",
    "UNREADABLE": "cannot be read",
    "NEWER_CODE": "of newer code",
}


class Proof(msgspec.Struct):
    """What has been looked through so far; `faults` counts schedules by what is wrong with them.

    `unverified` are the orders that nothing is proved about.
    """

    schedules: int = 0
    slices: int = 0
    position: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    findings: list[ScheduleFinding] = msgspec.field(default_factory=list)
    unverified: dict[UUID, Unverified] = msgspec.field(default_factory=dict)


def verify(
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="These orders alone.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Derive every stored schedule again and compare it, byte for byte.

    A schedule is a function of its order's creation: the recorded seed and the
    recorded splitter version. This reads the log, derives each schedule again in
    this process and names, for every order that differs, the first slice that
    does and the rules that it breaks (with ORDER_ID, every breach). It cannot see
    what was taken out of the log, or a history that was replaced as a whole.
    Orders that it cannot verify are named and counted: parked ones, and those
    without a schedule whose events cannot be read, or are of newer code.
    Shows its way in positions of the log on standard error.

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Changes nothing; orders may come and go.

    Exit codes: 0 every schedule is byte for byte what it must be. 1 some is not,
    or could not be derived, or some order was not verified, or no order has the
    id. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current. 130 stopped by
    Ctrl-C.

    Example:
      pulse splitter verify
      pulse splitter verify 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
    """
    proof = Proof()
    tell = proof.findings.append if as_json else partial(_tell, in_full=bool(order_ids))

    async def prove(tools: Tools) -> None:
        tune_gc()
        asked = [order_id_of(text) for text in order_ids or ()]
        for parked in await tools.parked.all():
            if not asked or parked.order_id in asked:
                proof.unverified[parked.order_id] = Unverified.parked(parked)
        async for verified in _orders(tools, asked) if asked else verify_log(tools.store):
            proof.schedules += verified.schedules
            proof.slices += verified.slices
            proof.position = verified.position
            proof.faults.update(finding.fault for finding in verified.findings)
            for finding in verified.findings:
                tell(finding)
            for order in verified.unverified:
                proof.unverified.setdefault(order.order_id, order)
            on_progress(verified.position, verified.end)

    with progress_on(errors(), "position") as on_progress:
        on_postgres(prove)
    if as_json:
        unverified = list(proof.unverified.values())
        echo(msgspec.json.encode(msgspec.structs.asdict(proof) | {"unverified": unverified}))
    else:
        for order in proof.unverified.values():
            line = Text(f"order {order.order_id} at position {order.position:,} ")
            line.append("was not verified", "bold red")
            output().print(
                line.append(f": {_OBSTACLES[order.obstacle]}: {printable(order.detail)}")
            )
        output().print(_summed_up(proof))
    if proof.faults or proof.unverified:
        raise typer.Exit(NOT_WELL)


async def _orders(tools: Tools, order_ids: Sequence[UUID]) -> AsyncIterator[Verified]:
    for order_id in order_ids:
        yield await verify_order(tools.store, order_id)


def _tell(finding: ScheduleFinding, *, in_full: bool) -> None:
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
    if not proof.schedules and proof.unverified:
        return Text(f"no schedule is stored here; {_unverified_counted(proof)}", "bold red")
    if not proof.schedules:
        return Text("no schedule is stored here: nothing was proved", "yellow")
    schedules, slices = counted(proof.schedules, "schedule"), counted(proof.slices, "slice")
    if not proof.faults and not proof.unverified:
        told = Text(f"{schedules} of {slices} derived again: ")
        return told.append("every one is identical, byte for byte", "green")
    identical = proof.schedules - proof.faults.total()
    faults = ", ".join(f"{count:,} {_COUNTED[fault]}" for fault, count in proof.faults.items())
    rest = [faults] if faults else []
    rest += [_unverified_counted(proof)] if proof.unverified else []
    outcome = f"of {schedules} {identical:,} are identical, byte for byte; {'; '.join(rest)}"
    return Text(outcome, "bold red")


def _unverified_counted(proof: Proof) -> str:
    """`3 orders were not verified (2 parked, 1 of newer code)`."""
    by_obstacle = Counter(order.obstacle for order in proof.unverified.values())
    why = ", ".join(f"{count:,} {_OBSTACLES[what]}" for what, count in by_obstacle.items())
    were = "was" if len(proof.unverified) == 1 else "were"
    return f"{counted(len(proof.unverified), 'order')} {were} not verified ({why})"
