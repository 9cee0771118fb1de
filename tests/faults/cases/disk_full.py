"""A full disk: first that of the log, then that of the WAL, where Postgres itself stops."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from pulse.postgres.embedded import EmbeddedServerError
from tests.faults.caller import Answer
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.faults.poller import repeated_get
from tests.faults.server import Server
from tests.faults.small_disk import SmallDisk

_ORDERS_PER_SECOND: Final = 60.0
_GETS_PER_SECOND: Final = 20.0
_FULL_SECONDS: Final = 8.0
_NOTICED_SECONDS: Final = 30.0
_POST_SECONDS: Final = 5.5
"""The deadline of an order is 5 s; the rest is a margin for a busy machine."""

_UNAVAILABLE: Final = 503
_CALLER: Final = {"abandon_share": 0.95}
_NO_CHECKPOINTS: Final = {"max_wal_size": "4GB", "checkpoint_timeout": "1h"}
"""A checkpoint would recycle old segments, so Postgres would never need a new one."""


async def run(case_run: CaseRun) -> None:
    """Fill each disk under load and free it again; each gets half of the injections."""
    await _log_full(case_run, -(-case_run.times // 2))
    if case_run.times > 1:
        await _wal_full(case_run, case_run.times // 2)


async def _log_full(case_run: CaseRun, times: int) -> None:
    """The log's disk is full: orders are refused, reads are answered."""
    home = case_run.home / "log"
    async with (
        SmallDisk.mounted(home / "disk", megabytes=64) as disk,
        Server.running(home / "postgres") as server,
    ):
        disk.give_to_owner_of(server.cluster)
        await _move_log(server, disk.path)
        async with case_run.deployment("log", server=server, caller=_CALLER) as deployment:
            lists = f"{deployment.apis[0].url}/internal/orders?limit=1"
            events = f"{deployment.apis[1].url}/internal/events?after=0&limit=1"
            async with (
                deployment.caller.load(rate=_ORDERS_PER_SECOND),
                repeated_get(lists, SERVICE_HEADERS, rate=_GETS_PER_SECOND) as list_answers,
                repeated_get(events, SERVICE_HEADERS, rate=_GETS_PER_SECOND) as log_answers,
            ):
                for _ in range(times):
                    await _fill_for_a_while(case_run, deployment, disk)
                    disk.free()
                    case_run.recovered(await deployment.until_serving_again())
            _check_orders(case_run, "log disk full", deployment)
            others = [answer for answer in (*list_answers, *log_answers) if answer.status != 200]
            case_run.require(not others, f"log disk full: {len(others)} reads refused")
            case_run.fact(f"log disk full: {len(list_answers) + len(log_answers)} reads answered")


async def _wal_full(case_run: CaseRun, times: int) -> None:
    """The WAL's disk is full: Postgres panics and may not restart until there is space."""
    home = case_run.home / "wal"
    async with (
        SmallDisk.mounted(home / "disk", megabytes=512) as disk,
        Server.running(home / "postgres", **_NO_CHECKPOINTS) as server,
    ):
        disk.give_to_owner_of(server.cluster)
        await _move_wal(server, disk.path)
        async with case_run.deployment("wal", server=server, caller=_CALLER) as deployment:
            async with deployment.caller.load(rate=_ORDERS_PER_SECOND):
                for _ in range(times):
                    using_up = asyncio.ensure_future(_use_up_segments(server))
                    try:
                        await _fill_for_a_while(case_run, deployment, disk)
                    finally:
                        using_up.cancel()
                    down = server.is_down
                    disk.free()
                    await _until_up(server)
                    case_run.fact(f"WAL disk full: Postgres {'stopped' if down else 'restarted'}")
                    case_run.recovered(await deployment.until_serving_again())
            _check_orders(case_run, "WAL disk full", deployment)


async def _fill_for_a_while(case_run: CaseRun, deployment: Deployment, disk: SmallDisk) -> None:
    """Fill the disk; returns 8 s after the first refusal."""
    await asyncio.sleep(case_run.random.uniform(0.5, 1.5))
    before = len(deployment.caller.answers)
    await asyncio.to_thread(disk.fill)
    async with asyncio.timeout(_NOTICED_SECONDS):
        while not _refused(deployment.caller.answers[before:]):
            await asyncio.to_thread(disk.fill)  # Postgres may have freed some space
            await asyncio.sleep(0.1)
    case_run.injected()
    await asyncio.sleep(_FULL_SECONDS)


def _refused(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.status == _UNAVAILABLE]


def _check_orders(case_run: CaseRun, what: str, deployment: Deployment) -> None:
    """Every order was accepted or got 503 within the deadline, and no process ended."""
    answers = deployment.caller.answers
    others = {
        status for status in deployment.caller.statuses if status not in {200, 201, _UNAVAILABLE}
    }
    case_run.require(not others, f"{what}: orders got {sorted(others)}")
    slowest = max(answer.seconds for answer in answers)
    case_run.require(slowest < _POST_SECONDS, f"{what}: an answer after {slowest:.2f} s")
    case_run.fact(
        f"{what}: {len(_refused(answers))} of {len(answers)} orders refused, "
        f"slowest answer {slowest:.2f} s"
    )
    ended = [member for member in deployment.members if member.ended]
    case_run.require(not ended, f"{what}: {len(ended)} Pulse processes ended")


async def _move_log(server: Server, disk: Path) -> None:
    """Move the log's table and its indexes to a tablespace on that disk."""
    async with await psycopg.AsyncConnection.connect(server.conninfo, autocommit=True) as admin:
        create: LiteralString = "CREATE TABLESPACE small LOCATION {}"
        await admin.execute(sql.SQL(create).format(sql.Literal(str(disk))))
        await admin.execute("ALTER TABLE stored_events SET TABLESPACE small")
        cursor = await admin.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = 'stored_events'"
        )
        for (index,) in await cursor.fetchall():
            move = sql.SQL("ALTER INDEX {} SET TABLESPACE small").format(sql.Identifier(index))
            await admin.execute(move)


async def _move_wal(server: Server, disk: Path) -> None:
    """Move the WAL to that disk, behind a symbolic link."""
    await server.stop_immediately()
    place = server.cluster / "pg_wal"
    await asyncio.to_thread(_move_directory, place, disk / "wal")
    await server.start()


def _move_directory(place: Path, target: Path) -> None:
    owner = place.stat()
    shutil.copytree(place, target)
    shutil.rmtree(place)
    place.symlink_to(target)
    for path in (target, *target.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


async def _use_up_segments(server: Server) -> None:
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            await server.fetch("SELECT pg_switch_wal()")
        await asyncio.sleep(0.1)


async def _until_up(server: Server) -> None:
    """Try to start Postgres, as an operator would, until it runs."""
    deadline = time.monotonic() + _NOTICED_SECONDS
    while True:
        try:
            await server.start()
            await server.fetch("SELECT 1")
        except (EmbeddedServerError, psycopg.OperationalError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


CASE: Final = Case(
    name="disk_full",
    promise="The disk of the log, or of the WAL, is full: orders get 503 within the deadline, "
    "reads continue while Postgres runs, and no acknowledged order is lost. Once there is space "
    "and Postgres runs, Pulse accepts orders again without a restart",
    at_least=4,
    short=1,
    run=run,
)
