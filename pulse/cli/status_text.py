"""What `pulse status` found: what a person must see to, as text and as JSON."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from rich.text import Text

from pulse.application.readiness import MOST_BEHIND_SECONDS
from pulse.cli.terminal import counted, duration, printable
from pulse.projections import Lag
from pulse.projections.queue_overview import QueueOverview
from pulse.workers.overview import ClaimsOverview

_STATES: Final = ("PENDING", "IN_PROGRESS", "COMPLETED", "FAILED")
_BAD: Final = "bold red"


class Status(msgspec.Struct, frozen=True):
    """Everything that was looked at."""

    queue: QueueOverview
    claims: ClaimsOverview
    lag: Lag
    timeout_seconds: float

    @property
    def needs(self) -> tuple[str, ...]:
        """What needs a person, each with what to do; empty where all is well."""
        needs: list[str] = []
        if self.lag.parked_orders:
            needs.append(
                f"{counted(self.lag.parked_orders, 'order')} parked: "
                "`pulse projections status` says why"
            )
        if self.lag.behind_seconds > MOST_BEHIND_SECONDS:
            needs.append(
                f"the projection is {duration(self.lag.behind_seconds)} behind: see that a process "
                "of Pulse runs (`pulse up`) and what its log says"
            )
        if self.claims.overdue_orphans:
            needs.append(
                f"gone workers hold {counted(self.claims.overdue_orphans, 'claim')} older than "
                f"{self.timeout_seconds:g} s: start workers (`pulse background`), they end them"
            )
        return tuple(needs)


def render(status: Status) -> Iterator[Text]:
    """For people, line by line."""
    yield from _queue(status.queue)
    yield from _claims(status.claims)
    yield from _projection(status)
    yield Text("")
    if not status.needs:
        yield Text("Healthy.", "bold green")
    for need in status.needs:
        yield Text(f"Needs a person: {need}.", _BAD)
    if not status.claims.workers_present and status.queue.orders("PENDING"):
        yield Text("No worker is present: orders stay PENDING until `pulse background` runs.")


def machine_form(status: Status) -> dict[str, Any]:
    """For scripts."""
    queue, claims, lag = status.queue, status.claims, status.lag
    return {
        "healthy": not status.needs,
        "needs": status.needs,
        "queue": {
            "orders": {state: queue.orders(state) for state in _STATES},
            "failed_by_reason": queue.failed_by_reason,
            "exact": queue.exact,
            "oldest_pending_seconds": queue.oldest_seconds("PENDING"),
            "oldest_in_progress_seconds": queue.oldest_seconds("IN_PROGRESS"),
        },
        "claims": {"workers_present": claims.workers_present, "by_worker": claims.by_worker},
        "projection": {
            "position": lag.position,
            "log_end": queue.log_end,
            "behind_seconds": lag.behind_seconds,
        },
        "parked_orders": lag.parked_orders,
    }


def _queue(queue: QueueOverview) -> Iterator[Text]:
    yield Text("Orders", "bold")
    rows = [(state, queue.orders(state), queue.oldest_seconds(state), "") for state in _STATES]
    reasons = [
        (f"  {reason}", orders, None, "red") for reason, orders in queue.failed_by_reason.items()
    ]
    width = max(len(name) for name, _, _, _ in rows + reasons)
    digits = max(len(f"{orders:,}") for _, orders, _, _ in rows)
    for name, orders, oldest, style in rows + reasons:
        line = Text(f"  {printable(name):<{width}}  {orders:>{digits},}", style)
        yield line if oldest is None else line.append(f"  the oldest for {duration(oldest)}")
    if not queue.exact:
        yield Text("  COMPLETED and FAILED are estimated from a sample: counting took too long.")


def _claims(claims: ClaimsOverview) -> Iterator[Text]:
    yield Text("")
    yield Text("Workers", "bold").append(f"  {claims.workers_present} present")
    width = max((len(held.worker) for held in claims.by_worker), default=0)
    for held in claims.by_worker:
        line = Text(f"  {printable(held.worker):<{width}}  {counted(held.orders, 'order')}, ")
        line.append(f"the oldest for {duration(held.oldest_seconds)}, ")
        yield line.append("present") if held.present else line.append("gone", _BAD)


def _projection(status: Status) -> Iterator[Text]:
    lag, log_end = status.lag, status.queue.log_end
    yield Text("")
    yield Text("Projection", "bold")
    behind = f", {duration(lag.behind_seconds)} behind" if lag.position < log_end else ", all read"
    yield Text(f"  position {lag.position:,} of {log_end:,}{behind}")
    yield Text(f"  {counted(lag.parked_orders, 'order')} parked", _BAD if lag.parked_orders else "")
