"""The gauges of the whole database: one process exports them, and another when that one ends."""

from typing import Any

import psycopg
import pytest

from pulse import metrics
from pulse.application.database_gauges import DatabaseGauges
from pulse.application.halts import ReleaseHalts
from pulse.application.origin import Origin, system_clock
from pulse.eventstore import EventStore
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.overview import QueueCounts
from tests.support.cli import claim, write
from tests.support.events import orders_created, slices_scheduled, splitting_failed, stored
from tests.support.read_model import project
from tests.support.waiting import until

STATUSES = ("PENDING", "IN_PROGRESS", "COMPLETED", "CANCELLED", "FAILED")


def gauges_on(database: Database) -> DatabaseGauges:
    store = EventStore(database, on_commit=lambda: None)
    halts = ReleaseHalts(store, system_clock, Origin.of_this_process())
    return DatabaseGauges(database, halts, timeout_seconds=300)


def exported() -> dict[str, Any]:
    """The values by name, or by name and labels."""
    return {
        "/".join((sample.name, *sample.labels.values())): sample.value
        for family in metrics.DATABASE_GAUGES.collect()
        for sample in family.samples
    }


async def test_one_process_is_elected_and_another_when_it_ends(database: Database) -> None:
    first, second = gauges_on(database), gauges_on(database)
    try:
        assert await first.run_once()
        assert not await second.run_once()
        assert await first.run_once()
        await first.close()
        assert exported() == {}
        await until(second.run_once, "Postgres has released the lock, and the second has it")
        assert not await first.run_once()
        assert exported()["pulse_workers"] == 0
    finally:
        await first.close()
        await second.close()


async def test_the_values_are_those_of_the_database(conninfo: str, database: Database) -> None:
    created = orders_created(6)
    write(conninfo, *stored(created))
    write(
        conninfo,
        *stored([slices_scheduled(created[3]), splitting_failed(created[4], "TOO_LATE")]),
    )
    await project(database)
    claim(conninfo, created[0].originator_id, "host:1:gone")
    write(conninfo, *stored([slices_scheduled(created[1])]))
    gauges = gauges_on(database)
    try:
        await gauges.run_once()
        found = exported()
    finally:
        await gauges.close()
    counts = {status: found[f"pulse_orders/{status}"] for status in STATUSES}
    assert counts == {
        "PENDING": 3,
        "IN_PROGRESS": 1,
        "COMPLETED": 1,
        "CANCELLED": 0,
        "FAILED": 1,
    }
    assert found["pulse_claims/gone"] == 1
    assert found["pulse_claims/present"] == 0
    assert found["pulse_projection_lag_events"] >= 1
    assert found["pulse_projection_lag_seconds"] > 0
    assert found["pulse_oldest_pending_seconds"] > 0
    assert found["pulse_slices_due"] == 1
    assert found["pulse_halts"] == 0
    assert found["pulse_seal_lag_events"] > 0  # this process has no key
    assert found["pulse_notices/no_worker/false"] == 1


async def test_a_lost_connection_ends_the_export_until_the_next_election(
    conninfo: str, database: Database
) -> None:
    gauges = gauges_on(database)
    try:
        assert await gauges.run_once()
        with psycopg.connect(conninfo) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'pulse:monitor@%' AND datname = current_database()"
            )
        with pytest.raises(DatabaseUnavailable):
            await gauges.run_once()
        assert exported() == {}
        await until(gauges.run_once, "Postgres has released the lock")
        assert exported()
    finally:
        await gauges.close()


async def test_a_count_that_takes_long_is_repeated_less_often(database: Database) -> None:
    now, counted = 0.0, 0

    async def count() -> QueueCounts:
        nonlocal now, counted
        now += 0.5
        counted += 1
        return QueueCounts((), exact=True)

    store = EventStore(database, on_commit=lambda: None)
    halts = ReleaseHalts(store, system_clock, Origin.of_this_process())
    gauges = DatabaseGauges(
        database, halts, timeout_seconds=300, count=count, monotonic=lambda: now
    )
    try:
        for _ in range(20):
            await gauges.run_once()
            now += 5
        assert counted == 2
    finally:
        await gauges.close()
