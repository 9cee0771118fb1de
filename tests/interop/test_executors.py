"""The example executors, killed at any moment, execute each slice of a real Pulse once."""

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.support.orders import order
from tests.support.processes import (
    DEADLINE_SECONDS,
    ROOT,
    PulseProcess,
    free_port,
    pulse,
    until,
    url_of,
)

ORDERS, SLICES = 24, 60
KILLS = 8
ANOTHER_LOG = 3
NODE = shutil.which("node")

Execution = tuple[str, int, int]
"""Order id, sequence number, quantity."""


class Executor(NamedTuple):
    """An example program, and how its store is read: position and executions, in order."""

    command: tuple[str, ...]
    read: Callable[[Path], tuple[int, list[Execution]]]


def read_sqlite(store: Path) -> tuple[int, list[Execution]]:
    if not store.exists():
        return 0, []
    with contextlib.closing(sqlite3.connect(store)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables[0] < 2:
            return 0, []
        place = connection.execute("SELECT position FROM place").fetchone() or (0,)
        rows = connection.execute(
            "SELECT order_id, sequence_number, quantity FROM executions ORDER BY rowid"
        )
        return place[0], rows.fetchall()


def read_lines(store: Path) -> tuple[int, list[Execution]]:
    """The complete lines: the last one may be torn."""
    text = store.read_text() if store.exists() else ""
    records = [json.loads(line) for line in text.split("\n")[:-1]]
    position = records[-1]["position"] if records else 0
    executions = [
        (done["order_id"], done["sequence_number"], done["quantity"])
        for record in records
        for done in record["executions"]
    ]
    return position, executions


EXECUTORS = [
    pytest.param(
        Executor((sys.executable, str(ROOT / "examples" / "executor.py")), read_sqlite),
        id="Python",
    ),
    pytest.param(
        Executor((NODE or "node", str(ROOT / "examples" / "executor.mjs")), read_lines),
        id="Node",
        marks=pytest.mark.skipif(NODE is None, reason="no Node on this machine"),
    ),
]


@contextlib.contextmanager
def started(executor: Executor, url: str, store: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running executor, ended by SIGKILL."""
    with (store.parent / "executor.err").open("ab") as log:
        process = subprocess.Popen([*executor.command, url, str(store)], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)


def released_in(conninfo: str) -> tuple[int, list[Execution]]:
    """The last position, and every slice of the log's SlicesReleased events, in commit order."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "SELECT notification_id, originator_id::text, convert_from(state, 'UTF8')::json"
            "  FROM stored_events WHERE topic = 'pulse.domain:SlicesReleased' ORDER BY 1"
        ).fetchall()
    slices = [
        (order_id, s["sequence_number"], s["quantity"])
        for _, order_id, state in rows
        for s in state["slices"]
    ]
    return (rows[-1][0] if rows else 0), slices


def place_orders(process: PulseProcess) -> None:
    """Orders of which a slice is released each second."""
    config = {"num_splits": SLICES, "duration_minutes": 1, "randomize": False}
    requests: list[dict[str, Any]] = [order(split_config=config) for _ in range(ORDERS)]
    answer = process.http.post("/internal/orders/batch", json=requests)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_executor_killed_at_random_moments_executes_each_slice_once(
    conninfo: str, tmp_path: Path, executor: Executor
) -> None:
    store, moments = tmp_path / "store", random.Random(7)
    port = free_port()
    with pulse(tmp_path, database_url=url_of(conninfo), port=port) as process:
        for _ in range(KILLS):
            place_orders(process)
            with started(executor, process.url, store):
                time.sleep(moments.uniform(0.05, 0.6))
        assert process.stop() == 0
    with started(executor, f"http://127.0.0.1:{port}/pulse", store) as reading:
        with pulse(tmp_path, database_url=url_of(conninfo), port=port) as process:
            until(lambda: len(released_in(conninfo)[1]) >= KILLS * ORDERS, "slices are released")
            process.send_signal(signal.SIGTERM)
            process.wait()
            last, _ = released_in(conninfo)
        with pulse(
            tmp_path, database_url=url_of(conninfo), port=port, release_slices=False
        ) as process:
            until(lambda: executor.read(store)[0] >= last, "it has read everything")
        assert reading.poll() is None, "it reconnects and continues"
    read_to, executed = executor.read(store)
    expected = released_in(conninfo)[1]
    assert len(executed) >= KILLS * ORDERS
    assert executed == expected[: len(executed)]
    assert len(set(executed)) == len(executed)
    assert read_to >= last


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_executor_stops_when_the_log_is_another_one(
    conninfo: str, tmp_path: Path, executor: Executor
) -> None:
    store = tmp_path / "store"
    with pulse(tmp_path, database_url=url_of(conninfo)) as process:
        place_orders(process)
        with started(executor, process.url, store) as reading:
            until(lambda: len(executor.read(store)[1]) >= ORDERS, "it executes")
            with psycopg.connect(conninfo) as connection:
                connection.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
            place_orders(process)
            assert reading.wait(DEADLINE_SECONDS) == ANOTHER_LOG
        with started(executor, process.url, store) as again:
            assert again.wait(DEADLINE_SECONDS) == ANOTHER_LOG
        executed = executor.read(store)[1]
        assert len(set(executed)) == len(executed)
        with psycopg.connect(conninfo) as connection:
            connection.execute("ALTER TABLE stored_events DISABLE TRIGGER ALL")
            connection.execute("DELETE FROM stored_events WHERE notification_id > 1")
        with started(executor, process.url, store) as beyond:
            assert beyond.wait(DEADLINE_SECONDS) == ANOTHER_LOG


def test_a_torn_last_record_is_removed(conninfo: str, tmp_path: Path) -> None:
    """A crash during a write leaves such a record."""
    executor = Executor((NODE or "node", str(ROOT / "examples" / "executor.mjs")), read_lines)
    if NODE is None:
        pytest.skip("no Node on this machine")
    store = tmp_path / "store"
    with pulse(tmp_path, database_url=url_of(conninfo)) as process:
        place_orders(process)
        with started(executor, process.url, store):
            until(lambda: len(executor.read(store)[1]) >= ORDERS, "it executes")
        whole = store.read_bytes()
        lines = whole.splitlines(keepends=True)
        store.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
        with started(executor, process.url, store):
            until(lambda: len(executor.read(store)[1]) >= ORDERS, "it executes the last one again")
    executed = executor.read(store)[1]
    assert executed == released_in(conninfo)[1][: len(executed)]
