"""`pulse projections`: lists parked orders; rebuilds them, and orders that differ from the log."""

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, Final
from uuid import UUID

import msgspec
import typer

from pulse.cli.exits import FAILURE, run_with_tools
from pulse.cli.terminal import AsJson, echo, group, order_id_of, output
from pulse.eventstore import EventTooNew
from pulse.evidence.findings import QUEUE_FAULTS
from pulse.evidence.verification import NoSuchOrder, Verification
from pulse.printable import printable
from pulse.process.tools import Tools
from pulse.projections.audit import AuditFault, AuditFinding
from pulse.projections.overview import Lag, read_lag
from pulse.projections.parking import ParkedOrder
from pulse.wording import counted

_MAX_RETRIED_FINDINGS: Final = 10_000
_SENTENCES: Final[dict[AuditFault, str]] = {
    "MISSING": (
        "was created at position {position:,} and is missing from the queue, entirely or in part: "
        "`pulse projections retry {order_id}` adds it"
    ),
    "OUTDATED": (
        "was created at position {position:,}, and the queue lacks a later event of it: "
        "`pulse projections retry {order_id}` applies it"
    ),
    "UNLOGGED": (
        "is in the queue, created at position {position:,}, with an event that is not in the "
        "log: restore the log from a backup, or run `pulse rebuild` to rebuild the queue from the "
        "log"
    ),
}


def status(
    *,
    as_json: AsJson = False,
) -> None:
    """List the parked orders and the position of the projection.

    An event that cannot be applied parks its own order and stops no other: the
    order's row stays as it was before that event, and no worker claims it. Each
    is listed with the position of the event, the time, and the reason.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 no order is parked, 1 some are, 2 wrong usage or settings,
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse projections status
    """

    async def read(tools: Tools) -> tuple[Lag, list[ParkedOrder]]:
        return await tools.database.read(read_lag), await tools.parked.all()

    lag, parked = run_with_tools(read)
    if as_json:
        found = {"position": lag.position, "behind_seconds": lag.behind_seconds, "parked": parked}
        echo(msgspec.json.encode(found))
    else:
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
            console.print("After fixing the cause, run `pulse projections retry --all`.")
    if parked:
        raise typer.Exit(FAILURE)


def retry(
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="The orders to retry.")
    ] = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="All parked orders, and all orders that the audit found.")
    ] = False,
) -> None:
    """Rebuild orders from their events: parked, missing and different ones.

    Each order is rebuilt in its own transaction. If that fails, its rows stay
    unchanged (a parked order stays parked) and the reason is shown. Retry a
    parked order after fixing the code that reads the event; an invalid stream
    stays parked. An order that is not parked is rebuilt if `pulse verify` finds
    that its rows differ from the log. `--all` includes what the background audit
    has found so far; name others by ORDER_ID.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Ctrl-C leaves each order either done or
    as it was.

    Exit codes: 0 every order is in the queue, 1 some stay parked or do not
    exist, 2 wrong usage or settings, 3 Postgres cannot be reached or its schema
    is not current.

    Example:
      pulse projections retry --all
    """
    if every == bool(order_ids):
        raise typer.BadParameter("give either ORDER_ID or --all", param_hint="ORDER_ID")
    if run_with_tools(lambda tools: _retry_each(tools, order_ids)):
        raise typer.Exit(FAILURE)


projections = group(
    "projections",
    "Parked orders, orders missing from the queue, and how to repair them.",
    "Exit codes: 0 no order is parked or missing, 1 some are, 2 wrong usage or settings, 3 could "
    "not start.",
    (status, retry),
)


def finding_text(finding: AuditFinding) -> str:
    """One line: the order, its fault, and what to do."""
    sentence = _SENTENCES[finding.fault].format(
        position=finding.position, order_id=finding.order_id
    )
    return f"order {finding.order_id} {sentence}"


async def _retry_each(tools: Tools, order_ids: Sequence[str] | None) -> int:
    """Retry these orders, or all; returns how many are not in the queue afterwards."""
    console, faults = output(), 0
    parked = [order.order_id for order in await tools.parked.all()]
    wanted = [order_id_of(text) for text in order_ids] if order_ids else parked
    if not order_ids:
        wanted += await _found_by_audit(tools, but=parked)
    if not wanted:
        console.print("no order is parked or missing")
    for order_id in wanted:
        fault, sentence = await _retry(tools, order_id, parked=order_id in parked)
        console.print(f"{order_id}  {printable(sentence)}")
        faults += fault
    return faults


async def _found_by_audit(tools: Tools, *, but: Sequence[UUID]) -> list[UUID]:
    """The orders that a retry can repair: those that are in the log."""
    kept = await tools.audit.kept_findings(_MAX_RETRIED_FINDINGS)
    found = await tools.audit.confirmed(finding.position for finding in kept)
    orders = [finding.order_id for finding in found if finding.fault != "UNLOGGED"]
    return [order_id for order_id in dict.fromkeys(orders) if order_id not in but]


async def _retry(tools: Tools, order_id: UUID, *, parked: bool) -> tuple[bool, str]:
    """Rebuild the order from its stream. Returns whether that failed, and a sentence.

    An order that is not parked is rebuilt only if the queue differs from the log.
    """
    if not parked:
        try:
            differs = await _differs(tools, order_id)
        except NoSuchOrder:
            return True, "no order has this id"
        if not differs:
            return (
                False,
                "is not parked; the queue agrees with the log up to the position of the projection",
            )
    refused = "stays parked" if parked else "could not be added"
    try:
        fault = await tools.parked.retry(order_id)
    except EventTooNew as error:
        return True, f"{refused} until newer code retries it: {error}"
    if fault is not None:
        return True, f"{refused}: {fault}"
    if parked:
        return False, "is in the queue again"
    return False, "was missing or outdated in the queue, and is up to date now"


async def _differs(tools: Tools, order_id: UUID) -> bool:
    """Whether the order's rows differ from the log, up to the position of the projection."""
    parts = Verification(tools.database, tools.store.mapper).orders([order_id])
    found = [finding.fault async for part in parts for finding in part.findings]
    return not QUEUE_FAULTS.isdisjoint(found)
