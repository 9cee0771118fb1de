"""`pulse status --watch`: repeats the state, with rates; as a table on a terminal."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pulse.application.halts import halt_view
from pulse.application.known_halts import read_halts
from pulse.application.notices import (
    HealthSnapshot,
    Notice,
    notices_of,
    read_health_snapshot,
)
from pulse.cli.terminal import display_time, echo, output
from pulse.postgres import DatabaseUnavailable
from pulse.process.tools import Tools
from pulse.projections.overview import QueueCounts, read_queue_counts
from pulse.wording import counted, format_duration

MAX_SHARE_READING: Final = 0.1
"""Reading takes at most this share of the time: a large queue is read less often."""

_STATES: Final = ("PENDING", "IN_PROGRESS", "COMPLETED", "CANCELLED", "FAILED")
_DONE: Final = ("COMPLETED", "CANCELLED", "FAILED")
_BAD: Final = "bold red"


class Sample(msgspec.Struct, frozen=True):
    """The state at one time; `at` is by the monotonic clock."""

    at: float
    time: datetime
    queue: QueueCounts
    snapshot: HealthSnapshot


class Rates(msgspec.Struct, frozen=True):
    """What happened per second between two samples; None if that is not known."""

    accepted_orders: float | None = None
    finished_orders: float | None = None
    appended_events: float | None = None
    projected_events: float | None = None


Show = Callable[[Sample, Rates], None]


async def watch(
    tools: Tools, *, timeout_seconds: float, every_seconds: float, as_json: bool
) -> None:
    """Show the state every `every_seconds`, until it is cancelled.

    While Postgres is unavailable it shows that, and continues.
    """
    console = output()
    if as_json:
        await _repeat(tools, timeout_seconds, every_seconds, _print_json, _print_fault_json)
    elif console.is_terminal:
        with Live(Text("reading"), console=console, auto_refresh=False) as live:
            await _repeat(
                tools,
                timeout_seconds,
                every_seconds,
                lambda sample, rates: live.update(_table(sample, rates), refresh=True),
                lambda fault: live.update(Text(fault, _BAD), refresh=True),
            )
    else:
        await _repeat(
            tools,
            timeout_seconds,
            every_seconds,
            lambda sample, rates: console.print(_one_line(sample, rates)),
            lambda fault: console.print(f"{_now()}  {fault}"),
        )


async def _repeat(
    tools: Tools,
    timeout_seconds: float,
    every_seconds: float,
    show: Show,
    show_fault: Callable[[str], None],
) -> None:
    before: Sample | None = None
    while True:
        started_at = time.monotonic()
        try:
            sample = await _read(tools, timeout_seconds)
        except DatabaseUnavailable as error:
            show_fault(f"Postgres is unavailable: {error}")
        else:
            show(sample, _rates(before, sample))
            before = sample
        taken = time.monotonic() - started_at
        await asyncio.sleep(max(every_seconds - taken, taken / MAX_SHARE_READING - taken, 0.0))


async def _read(tools: Tools, timeout_seconds: float) -> Sample:
    halts = await read_halts(tools.halts)
    snapshot = await tools.database.read(
        lambda connection: read_health_snapshot(connection, timeout_seconds, halts)
    )
    queue = await read_queue_counts(tools.database)
    return Sample(time.monotonic(), datetime.now(UTC), queue, snapshot)


def _rates(before: Sample | None, now: Sample) -> Rates:
    """The rates since the sample before. Estimated counts have none."""
    if before is None:
        return Rates()
    seconds = now.at - before.at
    a, b = before.snapshot, now.snapshot
    appended = (b.log.end - a.log.end) / seconds
    projected = (b.lag.position - a.lag.position) / seconds
    if not (before.queue.exact and now.queue.exact):
        return Rates(appended_events=appended, projected_events=projected)

    def change(states: tuple[str, ...]) -> float:
        return sum(now.queue.orders(s) - before.queue.orders(s) for s in states) / seconds

    return Rates(change(_STATES), change(_DONE), appended, projected)


def _print_json(sample: Sample, rates: Rates) -> None:
    echo(msgspec.json.encode(_as_json(sample, rates)))


def _print_fault_json(fault: str) -> None:
    echo(msgspec.json.encode({"time": _now(), "error": fault}))


def _as_json(sample: Sample, rates: Rates) -> dict[str, Any]:
    snapshot = sample.snapshot
    notices = notices_of(snapshot)
    return {
        "time": display_time(sample.time),
        "healthy": not _needs(notices),
        "notices": notices,
        "per_second": rates,
        "orders": {state: sample.queue.orders(state) for state in _STATES},
        "exact": sample.queue.exact,
        "oldest_pending_seconds": sample.queue.oldest_seconds("PENDING"),
        "due_orders": snapshot.queue.due,
        "oldest_due_seconds": snapshot.queue.oldest_due_seconds,
        "halts": [halt_view(halt) for halt in snapshot.halts.in_force],
        "workers_present": snapshot.workers.present,
        "position": snapshot.lag.position,
        "log_end": snapshot.log.end,
        "behind_seconds": snapshot.lag.behind_seconds,
        "parked_orders": snapshot.lag.parked_orders,
    }


def _one_line(sample: Sample, rates: Rates) -> Text:
    """What a pipe gets: one line for each sample."""
    snapshot = sample.snapshot
    needs = _needs(notices_of(snapshot))
    parts = [
        display_time(sample.time),
        f"accepted {_rate(rates.accepted_orders)}",
        f"finished {_rate(rates.finished_orders)}",
        *(f"{state} {sample.queue.orders(state):,}" for state in _STATES),
        f"behind {format_duration(snapshot.lag.behind_seconds)}",
        f"due {snapshot.queue.due:,}",
        f"workers {snapshot.workers.present}",
        f"halts {len(snapshot.halts.in_force)}",
        f"needs a person: {', '.join(notice.code for notice in needs)}" if needs else "healthy",
    ]
    return Text("  ".join(parts))


def _table(sample: Sample, rates: Rates) -> Group:
    """What a terminal shows."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, shown in _rows(sample, rates):
        table.add_row(name, shown)
    return Group(
        Text(f"Pulse at {display_time(sample.time)}. Ctrl-C ends."), table, *_notice_lines(sample)
    )


def _rows(sample: Sample, rates: Rates) -> Iterator[tuple[str, str]]:
    snapshot, queue = sample.snapshot, sample.queue
    yield "Accepted", f"{_rate(rates.accepted_orders)} orders/s"
    yield "Finished", f"{_rate(rates.finished_orders)} orders/s"
    yield "Appended", f"{_rate(rates.appended_events)} events/s"
    yield "Projected", f"{_rate(rates.projected_events)} events/s"
    for state in _STATES:
        oldest = queue.oldest_seconds(state)
        age = "" if oldest is None else f"  the oldest for {format_duration(oldest)}"
        yield state, f"{queue.orders(state):,}{age}"
    behind = format_duration(snapshot.lag.behind_seconds)
    yield "Projection", f"{snapshot.lag.position:,} of {snapshot.log.end:,}, {behind} behind"
    since = format_duration(snapshot.queue.oldest_due_seconds)
    due = f"{counted(snapshot.queue.due, 'order')} due"
    yield "Releases", f"{due}, the oldest for {since}" if snapshot.queue.due else due
    yield "Workers", f"{snapshot.workers.present} present"
    yield "Halts", f"{len(snapshot.halts.in_force)} in force"
    yield "Parked", counted(snapshot.lag.parked_orders, "order")


def _notice_lines(sample: Sample) -> Iterator[Text]:
    notices = notices_of(sample.snapshot)
    for notice in notices:
        what = "Needs a person" if notice.needs_person else "Notice"
        style = _BAD if notice.needs_person else ""
        yield Text(f"{what}: {notice.message}. [{notice.code}]", style)
    if not _needs(notices):
        yield Text("Healthy.", "bold green")


def _needs(notices: tuple[Notice, ...]) -> list[Notice]:
    return [notice for notice in notices if notice.needs_person]


def _rate(per_second: float | None) -> str:
    return "-" if per_second is None else f"{per_second:,.1f}"


def _now() -> str:
    return display_time(datetime.now(UTC))
