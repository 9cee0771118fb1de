"""`pulse status`: shows queue, claims, projection and audit, and what needs a person."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from pulse.application.halts import halt_view
from pulse.application.known_halts import read_halts
from pulse.application.notices import (
    HealthSnapshot,
    Notice,
    notices_of,
    read_health_snapshot,
    target_text,
)
from pulse.cli.exits import FAILURE, WrongSettings, run_with_tools
from pulse.cli.projections import finding_text
from pulse.cli.terminal import AsJson, display_time, echo, output
from pulse.cli.watch import watch
from pulse.eventstore import AppendFault, probe_append
from pulse.printable import printable
from pulse.process.startup import settings_from_environment
from pulse.process.tools import Tools
from pulse.projections.audit import Audit, AuditFinding
from pulse.projections.claims import Workers
from pulse.projections.order_view import OrderQueueStatus
from pulse.projections.overview import QueueCounts, read_queue_counts
from pulse.settings import Settings
from pulse.wording import counted, format_duration

_STATES: Final[tuple[OrderQueueStatus, ...]] = (
    "PENDING",
    "IN_PROGRESS",
    "COMPLETED",
    "CANCELLED",
    "FAILED",
)
_BAD: Final = "bold red"
_EVERY_SECONDS: Final = 2.0
_MAX_NAMED: Final = 10
_MAX_AUDIT_SECONDS: Final = 3.0
_MAX_KEPT_FINDINGS: Final = 100


class _Audited(msgspec.Struct, frozen=True):
    """The differences between log and queue, compared now from `from_position` on."""

    from_position: int
    findings: tuple[AuditFinding, ...]


class _Status(msgspec.Struct, frozen=True):
    """Everything that the command reads."""

    append_fault: AppendFault | None
    queue: QueueCounts
    snapshot: HealthSnapshot
    audited: _Audited

    @property
    def notices(self) -> tuple[Notice, ...]:
        """The notices, with the current result of the audit."""
        found = Counter(finding.fault for finding in self.audited.findings)
        audit = self.snapshot.audit
        if audit is not None:
            audit = msgspec.structs.replace(audit, findings=dict(found))
        found_notices = notices_of(msgspec.structs.replace(self.snapshot, audit=audit))
        if self.append_fault is None:
            return found_notices
        return (_append_refused(self.append_fault), *found_notices)

    @property
    def needs(self) -> tuple[str, ...]:
        """What needs a person, each with what to do; empty if healthy."""
        return tuple(notice.message for notice in self.notices if notice.needs_person)


def status(
    *,
    as_json: AsJson = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="Repeat it, with rates per second.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=3600, help="Seconds between two updates, with --watch. Default: 2."
        ),
    ] = None,
) -> None:
    """Show the state of the queue, and what needs a person.

    Shows orders by state (FAILED ones by reason) with the age of the oldest;
    orders with slices that are due; the halts in force; the workers with claims,
    and whether each is present; the position of the projection; the seal; and the
    audit, which compares the queue with the log: the newest events, for up to
    3 s, and what processes with workers found in the background. Ages are by the
    database's clock.

    Counting reads every row, a fraction of a second for a million orders. If it
    takes longer than 5 s, COMPLETED, FAILED and CANCELLED are estimated from a
    sample, and the output says so.

    --watch shows a live table with rates per second, without the audit: in a pipe
    a line each time, with --json a JSON object each time. A large queue is read
    less often, so that reading takes at most a tenth of the time. It continues
    while Postgres is unavailable; Ctrl-C ends it, with exit code 0.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 healthy. 1 a person is needed, and each reason is printed
    with what to do, such as: orders wait for 10 s without a worker, or for
    60 s with workers; slices are due for 10 s without a worker, or for 5 s
    with workers and no halt; 5 or more FAILED in the last 15 min; orders are
    parked, or missing from the queue; the projection is more than 10 s
    behind; workers that are gone hold claims older than
    PULSE_TIMEOUT_SECONDS; the log ends before the projected position; the
    log's sequence is behind that position or the log's end; sealed events are
    missing; the seal is more than 10 s behind and no process seals. 2 wrong
    usage or settings. 3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse status
      pulse status --json | python3 -m json.tool
      pulse status --watch
    """
    settings = settings_from_environment()
    if watching:
        _watch(settings, every_seconds=_EVERY_SECONDS if every is None else every, as_json=as_json)
        return
    if every is not None:
        raise WrongSettings("--every needs --watch: add --watch, or leave --every out")

    async def read(tools: Tools) -> _Status:
        timeout_seconds, database = settings.timeout_seconds, tools.database
        halts = await read_halts(tools.halts)
        snapshot = await database.read(
            lambda connection: read_health_snapshot(connection, timeout_seconds, halts)
        )
        return _Status(
            append_fault=await database.read(probe_append),
            queue=await read_queue_counts(database),
            snapshot=snapshot,
            audited=await _audited(tools.audit, snapshot),
        )

    found = run_with_tools(read, settings)
    if as_json:
        echo(msgspec.json.encode(_as_json(found)))
    else:
        for line in _render(found):
            output().print(line)
    if found.needs:
        raise typer.Exit(FAILURE)


def _watch(settings: Settings, *, every_seconds: float, as_json: bool) -> None:
    """Watch until Ctrl-C, which is the normal end."""

    async def show(tools: Tools) -> None:
        await watch(
            tools,
            timeout_seconds=settings.timeout_seconds,
            every_seconds=every_seconds,
            as_json=as_json,
        )

    with suppress(KeyboardInterrupt):
        run_with_tools(show, settings)


async def _audited(audit: Audit, snapshot: HealthSnapshot) -> _Audited:
    """Audit the newest windows now, and confirm what the background audit found."""
    found: dict[AuditFinding, None] = {}
    from_position = snapshot.lag.position
    async for window in audit.newest_windows(max_seconds=_MAX_AUDIT_SECONDS):
        found |= dict.fromkeys(window.findings)
        from_position = window.after
    if snapshot.audit is not None and snapshot.audit.findings:
        kept = await audit.kept_findings(_MAX_KEPT_FINDINGS)
        found |= dict.fromkeys(await audit.confirmed(finding.position for finding in kept))
    findings = tuple(sorted(found, key=lambda finding: finding.position))
    return _Audited(from_position=from_position, findings=findings)


def _append_refused(fault: AppendFault) -> Notice:
    """The notice that no order is accepted.

    It needs no person if this role lacks a right, which the role of the processes may have.
    """
    if fault.lacks_privilege:
        message = f"if Pulse's processes run under this role, no order is accepted: {fault.reason}"
    else:
        message = f"no order is accepted: {fault.reason}"
    return Notice("append_refused", message, needs_person=not fault.lacks_privilege)


def _render(status: _Status) -> Iterator[Text]:
    """The text output, line by line."""
    yield from _queue(status.queue)
    yield from _releases(status.snapshot)
    yield from _claims(status.snapshot.workers)
    yield from _projection(status)
    yield from _audit(status)
    yield from _seal(status.snapshot)
    yield Text("")
    for notice in status.notices:
        if notice.needs_person:
            yield Text(f"Needs a person: {notice.message}. [{notice.code}]", _BAD)
        else:
            yield Text(f"Notice: {notice.message}. [{notice.code}]")
    if not status.needs:
        yield Text("Healthy.", "bold green")


def _as_json(status: _Status) -> dict[str, Any]:
    """The JSON output."""
    queue, workers, lag = status.queue, status.snapshot.workers, status.snapshot.lag
    return {
        "healthy": not status.needs,
        "needs": status.needs,
        "notices": status.notices,
        "queue": {
            "orders": {state: queue.orders(state) for state in _STATES},
            "failed_by_reason": queue.failed_by_reason,
            "exact": queue.exact,
            "oldest_pending_seconds": queue.oldest_seconds("PENDING"),
            "oldest_in_progress_seconds": queue.oldest_seconds("IN_PROGRESS"),
        },
        "releases": {
            "due_orders": status.snapshot.queue.due,
            "oldest_due_seconds": status.snapshot.queue.oldest_due_seconds,
            "halts": [halt_view(halt) for halt in status.snapshot.halts.in_force],
        },
        "claims": {"workers_present": workers.present, "by_worker": workers.claims},
        "projection": {
            "position": lag.position,
            "log_end": status.snapshot.log.end,
            "behind_seconds": lag.behind_seconds,
        },
        "parked_orders": lag.parked_orders,
        "seal": _seal_as_json(status.snapshot),
        "audit": {
            "from_position": status.audited.from_position,
            "findings": status.audited.findings,
            "background": status.snapshot.audit,
        },
    }


def _queue(queue: QueueCounts) -> Iterator[Text]:
    yield Text("Orders", "bold")
    rows = [(state, queue.orders(state), queue.oldest_seconds(state), "") for state in _STATES]
    reasons = [
        (f"  {reason}", orders, None, "red") for reason, orders in queue.failed_by_reason.items()
    ]
    width = max(len(name) for name, _, _, _ in rows + reasons)
    digits = max(len(f"{orders:,}") for _, orders, _, _ in rows)
    for name, orders, oldest, style in rows + reasons:
        line = Text(f"  {printable(name):<{width}}  {orders:>{digits},}", style)
        yield line if oldest is None else line.append(f"  the oldest for {format_duration(oldest)}")
    if not queue.exact:
        estimated = "COMPLETED, FAILED and CANCELLED are estimated from a sample"
        yield Text(f"  {estimated}: counting took too long.")


def _releases(snapshot: HealthSnapshot) -> Iterator[Text]:
    queue = snapshot.queue
    yield Text("")
    line = Text("Releases", "bold").append(f"  {counted(queue.due, 'order')} due")
    oldest = f", the oldest for {format_duration(queue.oldest_due_seconds)}"
    yield line.append(oldest) if queue.due else line
    for halt in snapshot.halts.in_force[:_MAX_NAMED]:
        since = display_time(halt.halted_at)
        what = f"  halted: {target_text(halt.target)}, since {since} by {halt.halted_by}"
        yield Text(printable(what), "yellow")
    if len(snapshot.halts.in_force) > _MAX_NAMED:
        yield Text(
            f"  and {len(snapshot.halts.in_force) - _MAX_NAMED} more: `pulse halts` lists them"
        )


def _claims(workers: Workers) -> Iterator[Text]:
    yield Text("")
    yield Text("Workers", "bold").append(f"  {workers.present} present")
    width = max((len(held.worker) for held in workers.claims), default=0)
    for held in workers.claims:
        line = Text(f"  {printable(held.worker):<{width}}  {counted(held.orders, 'order')}, ")
        line.append(f"the oldest for {format_duration(held.oldest_seconds)}, ")
        yield line.append("present") if held.present else line.append("gone", _BAD)


def _projection(status: _Status) -> Iterator[Text]:
    lag, log_end = status.snapshot.lag, status.snapshot.log.end
    yield Text("")
    yield Text("Projection", "bold")
    if lag.position > log_end:
        yield Text(f"  position {lag.position:,}, beyond the log's end at {log_end:,}", _BAD)
    elif lag.position < log_end:
        behind = f"{format_duration(lag.behind_seconds)} behind"
        yield Text(f"  position {lag.position:,} of {log_end:,}, {behind}")
    else:
        yield Text(f"  position {lag.position:,} of {log_end:,}, all read")
    yield Text(f"  {counted(lag.parked_orders, 'order')} parked", _BAD if lag.parked_orders else "")


def _audit(status: _Status) -> Iterator[Text]:
    audited, background, position = (
        status.audited,
        status.snapshot.audit,
        status.snapshot.lag.position,
    )
    yield Text("")
    yield Text("Audit", "bold")
    compared = counted(max(0, position - audited.from_position), "position")
    whole = audited.from_position == 0
    yield Text(
        f"  {'the whole log' if whole else f'the newest {compared}'} compared with the queue"
    )
    if background is not None and not whole:
        seconds_ago = background.last_pass_seconds_ago
        ended = (
            "has not ended yet"
            if seconds_ago is None
            else f"ended {format_duration(seconds_ago)} ago"
        )
        yield Text(f"  the last pass over the whole log {ended}")
    for finding in audited.findings[:_MAX_NAMED]:
        yield Text(f"  {finding_text(finding)}", _BAD)
    if len(audited.findings) > _MAX_NAMED:
        more = counted(len(audited.findings) - _MAX_NAMED, "order")
        yield Text(f"  and {more} more: `pulse status --json` names them", _BAD)


def _seal(snapshot: HealthSnapshot) -> Iterator[Text]:
    seal, log_end = snapshot.seal, snapshot.log.end
    if seal is None or seal.verifier_key is None:
        return
    yield Text("")
    yield Text("Seal", "bold").append(f"  {counted(seal.size, 'event')} sealed")
    line = f"  position {seal.position:,} of {log_end:,}, "
    if seal.behind_seconds:
        yield Text(f"{line}{format_duration(seal.behind_seconds)} behind")
    else:
        yield Text(f"{line}all sealed")
    yield Text(printable(f"  key {seal.verifier_key}"))


def _seal_as_json(snapshot: HealthSnapshot) -> dict[str, Any] | None:
    seal = snapshot.seal
    if seal is None or seal.verifier_key is None:
        return None
    return {
        "verifier_key": seal.verifier_key,
        "size": seal.size,
        "position": seal.position,
        "behind_seconds": seal.behind_seconds,
        "checkpoint": seal.checkpoint,
    }
