"""Cancels race the release of a slice, or the split, from several callers at once."""

import asyncio
import time
from collections import Counter
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg

from pulse.domain import INTERNAL_SCOPE
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import Deployment

_ORDERS_PER_SECOND: Final = 25.0
_GATEWAY_SHARE: Final = 0.15
"""The share of orders at the gateway, whose calls cost several times as much CPU time."""

_UNSPLIT_SHARE: Final = 0.1
"""The share of cancels that are sent right after the order, so that they race its split."""

_LAST_SHARE: Final = 0.2
"""The share of the others that race the last slice, after which nothing can be cancelled."""

_SPLITS: Final = (2, 30)
_AROUND_SECONDS: Final = (-0.05, 0.03)
"""When a cancel is sent, relative to the time of its slice. Cancel and release arrive later."""

_MAX_CALLERS: Final = 3
_SPLIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05

Connection = psycopg.AsyncConnection[Any]


class _Race(msgspec.Struct, frozen=True):
    """A cancel of one order, sent by several callers; `slice_number` is None for the split."""

    order_id: UUID
    slice_number: int | None
    statuses: tuple[int, ...]


async def run(case_run: CaseRun) -> None:
    """Place orders, and cancel each when it is split or when one of its slices is released."""
    races: list[_Race] = []
    async with (
        case_run.deployment(
            apis=2,
            workers=2,
            gateways=1,
            settings={"batch_size": 50, "rate_limit_per_second": 0},
            caller={"abandon_share": 0.0},
        ) as deployment,
        await psycopg.AsyncConnection.connect(
            deployment.server.conninfo, autocommit=True
        ) as connection,
    ):
        begun = time.monotonic()
        async with asyncio.TaskGroup() as racing:
            for number in range(case_run.times):
                at = begun + number / _ORDERS_PER_SECOND
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                racing.create_task(_race(case_run, deployment, connection, races))
        await deployment.settle()
        await _check(case_run, deployment, races)


async def _race(
    case_run: CaseRun, deployment: Deployment, connection: Connection, races: list[_Race]
) -> None:
    random = case_run.random
    splits = random.randint(*_SPLITS)
    request = deployment.caller.request(
        total_quantity=random.randint(splits, 10_000),
        split_config={"num_splits": splits, "duration_minutes": 1, "randomize": True},
    )
    at_gateway = random.random() < _GATEWAY_SHARE
    scope = next(s for s in deployment.caller.scopes if (s != INTERNAL_SCOPE) == at_gateway)
    order_id = await deployment.caller.place(request, scope)
    if order_id is None:
        return
    slice_number = None
    if random.random() >= _UNSPLIT_SHARE:
        slice_number = splits if random.random() < _LAST_SHARE else random.randint(1, splits)
        wait = await _seconds_until(connection, order_id, slice_number)
        await asyncio.sleep(max(0.0, wait + random.uniform(*_AROUND_SECONDS)))
    key = request["order_unique_key"]
    statuses = await asyncio.gather(
        *(
            deployment.caller.cancel(key, order_id, scope)
            for _ in range(random.randint(1, _MAX_CALLERS))
        )
    )
    races.append(_Race(order_id, slice_number, tuple(statuses)))
    case_run.injected()


async def _seconds_until(connection: Connection, order_id: UUID, number: int) -> float:
    """Wait until the order is split; returns the time until the slice is due (database's clock)."""
    async with asyncio.timeout(_SPLIT_SECONDS):
        while True:
            cursor = await connection.execute(
                "SELECT extract(epoch FROM scheduled_at - clock_timestamp())::float8"
                "  FROM order_slices WHERE order_id = %s AND sequence_number = %s",
                (order_id, number),
            )
            row = await cursor.fetchone()
            if row is not None:
                return float(row[0])
            await asyncio.sleep(_POLL_SECONDS)


async def _check(case_run: CaseRun, deployment: Deployment, races: list[_Race]) -> None:
    """Check that both sides won races, and that every caller got an answer.

    The check of the ledger, which follows every case, compares the answers with the log.
    """
    statuses: Counter[Any] = Counter(status for race in races for status in race.statuses)
    unanswered = sum(count for status, count in statuses.items() if status not in {200, 409})
    case_run.require(not unanswered, f"{unanswered} cancels without 200 or 409: {statuses}")
    settled = dict(
        await deployment.server.fetch(
            "SELECT order_id, settled FROM order_queue WHERE order_id = ANY (%s)",
            [race.order_id for race in races],
        )
    )
    unsplit = sum(race.slice_number is None for race in races)
    cancelled_unsplit = sum(
        race.slice_number is None and not settled[race.order_id] for race in races
    )
    states = Counter(
        settled[race.order_id][race.slice_number - 1]
        for race in races
        if race.slice_number is not None and settled[race.order_id]
    )
    case_run.fact(
        f"{len(races):,} races, {statuses.total():,} cancels: 200 {statuses[200]:,}, "
        f"409 {statuses[409]:,}"
    )
    case_run.fact(
        f"{unsplit:,} races with the split, {cancelled_unsplit:,} won by the cancel; of the slices "
        f"{states['R']:,} were released, {states['C']:,} cancelled, {states['E']:,} expired"
    )
    for what, count in (
        ("slice was released", states["R"]),
        ("slice was cancelled", states["C"]),
        ("cancel was refused", statuses[409]),
    ):
        case_run.require(count > 0, f"no {what}, so this case cannot fail")


CASE: Final = Case(
    name="cancels",
    promise="Cancels, each from up to three callers at once, race the release of a slice or the "
    "split: each slice is settled once, each cancel is answered 200 or 409 as the log confirms, an "
    "order has at most one cancel, and nothing is released after a 200",
    at_least=10_000,
    short=160,
    run=run,
    waits=True,
)
