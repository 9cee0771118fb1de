"""Shutdown of one process among others: its claims end, and nothing delays it."""

import asyncio

import pytest

from pulse.postgres import Database
from pulse.process import node as wiring
from pulse.process.node import Node, WorkerLocation
from pulse.process.server import Server
from pulse.projections.claims import read_workers
from pulse.projections.projector import Busy, Projected, Projector
from pulse.settings import Settings
from tests.support.database import as_runtime
from tests.support.events import orders_created
from tests.support.log import running_store
from tests.support.waiting import until


async def workers_present(database: Database) -> int:
    return (await database.read(lambda connection: read_workers(connection, 300))).present


async def test_a_process_that_stops_does_not_project_later_appends_of_others(
    conninfo: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_once = Projector.run_once
    orders = iter(orders_created(300))
    async with running_store(database) as others:

        async def run_once_after_an_append(projector: Projector) -> Projected | Busy:
            await others.append(next(orders))
            return await run_once(projector)

        monkeypatch.setattr(wiring, "MAX_CATCH_UP_SECONDS", 3600.0)
        async with asyncio.timeout(40):
            async with Node(
                Settings(), Server(as_runtime(conninfo)), workers=WorkerLocation.ELSEWHERE
            ).running():
                monkeypatch.setattr(Projector, "run_once", run_once_after_an_append)


async def test_a_worker_is_present_until_its_last_outcomes_are_projected(
    conninfo: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    present_at_the_end: list[int] = []

    async def look(*_: object) -> None:
        present_at_the_end.append(await workers_present(database))

    monkeypatch.setattr(Projector, "run_until", look)
    async with Node(
        Settings(), Server(as_runtime(conninfo)), workers=WorkerLocation.HERE
    ).running():

        async def is_present() -> bool:
            return await workers_present(database) == 1

        await until(is_present, "the worker is present")
    assert present_at_the_end == [1]
