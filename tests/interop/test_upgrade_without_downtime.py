"""Upgrades without downtime: released code on the new schema, alongside new processes."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg.conninfo import conninfo_to_dict

from pulse.application.grants import GRANTS
from pulse.eventstore import EventMapper
from pulse.postgres import Database, PostgresLimits
from pulse.postgres.apply_revision import OlderCodeRuns
from pulse.postgres.migrations import Migrations
from pulse.process.revisions import REVISIONS
from pulse.projections.projector import Projected, Projector
from tests.support.cli import write
from tests.support.database import (
    are_completed,
    as_runtime,
    cloned_database,
    temporary_database,
)
from tests.support.later_revisions import LaterRevisions
from tests.support.orders import order
from tests.support.processes import (
    DEADLINE_SECONDS,
    PLAIN_HTTP,
    PulseProcess,
    environment,
    pulse,
    until,
    url_of,
)
from tests.support.released import unpack_released

FEW, MOST = 50, 20_000
PAUSE_SECONDS = 0.01
INDEX = "order_queue_placed_by_idx"
NEWER_TOPIC = "pulse.domain:OrderAmended"
AMENDED = b'{"timestamp":"2027-01-01T00:00:00Z","by":7}'
COUNTS = """
SELECT count(DISTINCT originator_id) FILTER (WHERE originator_version = 1),
       count(*) FILTER (WHERE originator_version = 1 AND topic LIKE '%:OrderCreated'),
       count(*) FILTER (WHERE topic LIKE '%:SlicesScheduled')
  FROM stored_events"""
AUTHORS = """
SELECT DISTINCT convert_from(state, 'UTF8')::json -> 'recorded_by' ->> 'code_version'
  FROM stored_events WHERE topic LIKE %s"""


pytestmark = pytest.mark.timeout(300)  # four starts of processes


class Load:
    """Posts one order after the other to a process, from a thread, until it is stopped."""

    def __init__(self, process: PulseProcess) -> None:
        self.accepted: dict[str, str] = {}
        self.refused: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self._url = process.url
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        with httpx.Client(timeout=30, trust_env=False, verify=PLAIN_HTTP) as http:
            while not self._stopped.wait(PAUSE_SECONDS) and len(self.requests) < MOST:
                request = order(total_quantity=5 + len(self.requests))
                self.requests.append(request)
                answer = http.post(f"{self._url}/internal/orders", json=request)
                if answer.status_code == httpx.codes.CREATED:
                    self.accepted[request["order_unique_key"]] = answer.json()["order_id"]
                else:
                    self.refused.append(answer.text)

    def until_more(self, count: int = FEW) -> None:
        """Wait until `count` more orders are accepted."""
        target = len(self.accepted) + count
        until(lambda: len(self.accepted) >= target or not self._thread.is_alive(), "orders")
        assert not self.refused

    def stop(self) -> None:
        """Stop after the order that is being posted."""
        self._stopped.set()
        self._thread.join()


def is_ready(process: PulseProcess) -> bool:
    return process.http.get("/health/ready").status_code == httpx.codes.OK


def count_streams(conninfo: str) -> tuple[int, int, int]:
    """How many streams, orders and schedules the log has."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(COUNTS.encode()).fetchone()
    assert row is not None
    return row


def authors(conninfo: str, event_type: str) -> set[str]:
    """The versions of the code that recorded events of this type."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(AUTHORS.encode(), (f"%:{event_type}",)).fetchall()
    return {version for (version,) in rows}


def assert_known(
    process: PulseProcess, requests: list[dict[str, Any]], accepted: dict[str, str]
) -> None:
    """Check that each request, posted again, is answered with the same order."""
    for first in range(0, len(requests), 1000):
        answer = process.http.post("/internal/orders/batch", json=requests[first : first + 1000])
        for result in answer.json()["results"]:
            assert result["status"] == httpx.codes.OK, result
            placed = result["body"]
            assert accepted[placed["order_unique_key"]] == placed["order_id"]


def amend(conninfo: str, order_id: str, version: int) -> int:
    """Append an event of a type that only newer code has; returns its position."""
    write(conninfo, StoredEvent(UUID(order_id), version + 1, NEWER_TOPIC, AMENDED))
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT notification_id FROM stored_events WHERE topic = %s", (NEWER_TOPIC,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def projected(conninfo: str) -> int:
    """The position up to which the log is projected."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT notification_id FROM notification_tracking"
            " WHERE application_name = 'order_queue'"
        ).fetchone()
    assert row is not None
    return int(row[0])


class NewerMapper(EventMapper):
    """Newer code, which knows the event: for the queue it changes nothing."""

    def owns(self, topic: str) -> bool:
        return topic != NEWER_TOPIC and super().owns(topic)


async def project_with_newer_code(conninfo: str) -> None:
    """Project to the end of the log, as a process of newer code does."""
    database = Database(as_runtime(conninfo), pool_size=2)
    await database.open()
    try:
        projector = Projector(database, NewerMapper())
        while not isinstance(await projector.run_once(), Projected):  # noqa: ASYNC110 - or Busy
            await asyncio.sleep(0.01)
    finally:
        await database.close()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before."""
    return unpack_released(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def released_template(template_database: str, postgres: str, released: Path) -> Iterator[str]:
    """The name of a database that the released code has migrated, with roles, for clones."""
    del template_database  # it creates the roles, which may log in
    with temporary_database(postgres) as conninfo:
        ended = subprocess.run(
            [sys.executable, "-m", "pulse.cli", "migrate", "--roles"],
            cwd=released,
            env=environment({"database_url": url_of(conninfo)}),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        yield str(conninfo_to_dict(conninfo)["dbname"])


@pytest.fixture
def of_released(released_template: str, postgres: str) -> Iterator[str]:
    """A clone of that database; the superuser's conninfo."""
    with cloned_database(postgres, released_template) as conninfo:
        yield conninfo


@contextlib.contextmanager
def old(home: Path, released: Path, conninfo: str) -> Iterator[PulseProcess]:
    """A process of the released code."""
    settings = {"database_url": url_of(conninfo), "migrate": False}
    with pulse(home, root=released, **settings) as process:
        until(lambda: is_ready(process), "the released code is ready")
        yield process


@contextlib.contextmanager
def new(home: Path, conninfo: str) -> Iterator[PulseProcess]:
    """A process of this code."""
    with pulse(home, database_url=url_of(conninfo), migrate=False) as process:
        until(lambda: is_ready(process), "this code is ready")
        yield process


def migrated(later: LaterRevisions, conninfo: str, *, after: bool = False) -> None:
    """Migrate as `pulse migrate` does, to revisions of a later release."""
    migrations = Migrations(later.all, GRANTS)
    limits = PostgresLimits()
    asyncio.run(migrations.migrate(conninfo, limits, after=after, max_lock_wait_seconds=60))


def test_orders_are_accepted_and_split_while_schema_and_processes_are_replaced(
    of_released: str,
    released: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conninfo = of_released
    later = LaterRevisions(tmp_path, monkeypatch)
    oldest = REVISIONS[-1].oldest_code
    later.add("note", "ALTER TABLE order_queue ADD COLUMN note text;\n", oldest_code=oldest)
    index = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON order_queue (placed_by);\n"
    later.add("index_placed_by", index, index=INDEX, oldest_code=oldest)
    later.add("drop_note", "ALTER TABLE order_queue DROP COLUMN note;\n", phase="after")

    with old(tmp_path, released, conninfo) as before, Load(before) as load_before:
        load_before.until_more()
        migrated(later, conninfo)
        load_before.until_more()
        with new(tmp_path, conninfo) as after, Load(after) as load_after:
            load_before.until_more()
            load_after.until_more()
            assert is_ready(before), before.http.get("/health/ready").text
            assert is_ready(after), after.http.get("/health/ready").text
            with pytest.raises(OlderCodeRuns, match=f"process {before.pid} of") as refused:
                migrated(later, conninfo, after=True)
            assert str(after.pid) not in str(refused.value)
            load_before.stop()
            assert before.stop() == 0
            load_after.until_more()
            migrated(later, conninfo, after=True)
            load_after.until_more()
            load_after.stop()
            assert is_ready(after), after.http.get("/health/ready").text

            requests = [*load_before.requests, *load_after.requests]
            accepted = load_before.accepted | load_after.accepted
            assert len(accepted) == len(requests)
            assert not load_before.refused + load_after.refused
            order_ids = [*accepted.values()]
            until(lambda: are_completed(conninfo, order_ids), f"all of {len(accepted)} are split")
            assert count_streams(conninfo) == (len(accepted),) * 3
            assert_known(after, requests, accepted)
    assert len(authors(conninfo, "OrderCreated")) == 2, "both versions of the code took orders"


def test_the_released_code_runs_again_after_newer_code_has_written(
    of_released: str, released: Path, tmp_path: Path
) -> None:
    conninfo = of_released
    asyncio.run(Migrations(REVISIONS, GRANTS).migrate(conninfo, PostgresLimits()))
    with new(tmp_path, conninfo) as newer:
        request = order()
        placed = newer.post(request).json()["order_id"]
        written = newer.until_first_released(placed)  # then it stays so for minutes
        assert newer.stop() == 0

    with old(tmp_path, released, conninfo) as process:
        answered = process.order(placed)
        assert {name: answered[name] for name in written} == written
        assert process.post(request).status_code == 200
        own = process.post(order()).json()["order_id"]
        process.until_completed(own)

        position = amend(conninfo, placed, written["version"])
        waiting = process.post(order()).json()["order_id"]
        until(lambda: "newer code" in process.http.get("/health/ready").text, "it says so")
        until(lambda: projected(conninfo) >= position - 1, "it has projected all that it can read")
        assert projected(conninfo) == position - 1
        assert process.order(waiting)["order_queue_status"] == "PENDING"
        asyncio.run(project_with_newer_code(conninfo))
        process.until_completed(waiting)
        until(lambda: is_ready(process), "it is ready again")
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM parked_orders").fetchone() == (0,)
        left = connection.execute(
            "SELECT topic, state FROM stored_events WHERE notification_id = %s", (position,)
        )
        assert left.fetchone() == (NEWER_TOPIC, AMENDED)
