"""`pulse status`: how the queue stands, and whether a person is needed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event
from pulse.postgres import Database
from pulse.projections import queue_overview
from pulse.projections.queue_overview import read_queue_overview
from pulse.workers.presence import PRESENCE_CLASS
from tests.support.cli import claim, projected, run_pulse, write
from tests.support.events import (
    order_created,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)


@contextmanager
def present(conninfo: str, worker: str) -> Iterator[None]:
    """That worker is present, as one that lives is."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "SELECT pg_advisory_lock_shared(%s::integer, hashtext(%s))", (PRESENCE_CLASS, worker)
        )
        yield


def fill(conninfo: str) -> None:
    """Seven orders: two PENDING, one IN_PROGRESS, one COMPLETED, three FAILED."""
    created = orders_created(7)
    write(conninfo, *stored(created))
    outcomes: list[Event] = [
        slices_scheduled(created[3]),
        splitting_failed(created[4], "TOO_LATE"),
        splitting_failed(created[5], "TOO_LATE"),
        timed_out(created[6]),
    ]
    write(conninfo, *stored(outcomes))
    projected(conninfo)
    claim(conninfo, created[2].originator_id, "host:1:abc", seconds_ago=100)


def park(conninfo: str) -> None:
    write(
        conninfo, StoredEvent(order_created().originator_id, 1, "pulse.domain:OrderCreated", b"{}")
    )
    projected(conninfo)


def status_json(conninfo: str, exit_code: int, **settings: object) -> dict[str, Any]:
    ended = run_pulse("status", "--json", conninfo=conninfo, **settings)
    assert (ended.exit_code, ended.err) == (exit_code, "")
    assert ended.out.count("\n") == 1
    found: dict[str, Any] = json.loads(ended.out)
    assert found["healthy"] is (exit_code == 0)
    return found


def test_an_empty_queue_is_healthy(conninfo: str) -> None:
    ended = run_pulse("status", conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "Healthy."
    assert "position 0 of 0, all read" in ended.out


def test_every_state_is_counted_and_failures_by_reason(conninfo: str) -> None:
    fill(conninfo)
    found = status_json(conninfo, 0)
    queue = found["queue"]
    assert queue["orders"] == {"PENDING": 2, "IN_PROGRESS": 1, "COMPLETED": 1, "FAILED": 3}
    assert queue["failed_by_reason"] == {"TOO_LATE": 2, "TIMED_OUT": 1}
    assert queue["exact"] is True
    assert 0 < queue["oldest_pending_seconds"] < 60
    assert 100 <= queue["oldest_in_progress_seconds"] < 160
    assert found["projection"]["position"] == found["projection"]["log_end"] > 0
    assert found["parked_orders"] == 0


def test_the_same_in_text(conninfo: str) -> None:
    fill(conninfo)
    with present(conninfo, "host:1:abc"), present(conninfo, "host:2:def"):
        lines = run_pulse("status", conninfo=conninfo).out.splitlines()
    assert lines[:3] == ["Orders", lines[1], lines[2]]
    assert lines[1].startswith("  PENDING      2  the oldest for ")
    assert lines[2].startswith("  IN_PROGRESS  1  the oldest for 1 min 40 s")
    assert lines[3:7] == [
        "  COMPLETED    1",
        "  FAILED       3",
        "    TOO_LATE   2",
        "    TIMED_OUT  1",
    ]
    assert "Workers  2 present" in lines
    assert "  host:1:abc  1 order, the oldest for 1 min 40 s, present" in lines
    assert lines[-1] == "Healthy."


def test_a_gone_worker_needs_nobody_before_the_timeout_and_somebody_after(conninfo: str) -> None:
    fill(conninfo)
    text = run_pulse("status", conninfo=conninfo, timeout_seconds=200).out
    assert "the oldest for 1 min 40 s, gone" in text
    assert "No worker is present" in text
    status_json(conninfo, 0, timeout_seconds=200)

    found = status_json(conninfo, 1, timeout_seconds=50)
    assert found["claims"]["by_worker"][0]["overdue"] == 1
    (need,) = found["needs"]
    assert need.startswith("gone workers hold 1 claim older than 50 s: start workers")
    with present(conninfo, "host:1:abc"):
        status_json(conninfo, 0, timeout_seconds=50)


def test_a_parked_order_needs_a_person(conninfo: str) -> None:
    park(conninfo)
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "Needs a person: 1 order parked: `pulse projections status` says why." in ended.out


def test_a_projection_far_behind_needs_a_person_and_one_just_behind_does_not(
    conninfo: str,
) -> None:
    now = datetime.now(UTC)
    write(conninfo, *stored(orders_created(3)), recorded_at=now)
    found = status_json(conninfo, 0)
    assert (found["projection"]["position"], found["projection"]["log_end"]) == (0, 3)
    projected(conninfo)
    write(conninfo, *stored(orders_created(2)), recorded_at=now - timedelta(seconds=90))
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "position 3 of 5, 1 min 30 s behind" in ended.out
    assert "Needs a person: the projection is 1 min 30 s behind" in ended.out


async def test_where_counting_takes_too_long_the_settled_are_estimated(
    conninfo: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            """
            INSERT INTO order_queue
            SELECT gen_random_uuid(), i::text, '', '', '', 'BUY', 1, 2, 1, true, 1, s.state,
                   CASE s.state WHEN 'FAILED' THEN 'TOO_LATE' END, NULL, 2, i, i,
                   now(), now(), NULL
              FROM generate_series(1, 900) i,
           LATERAL (SELECT (ARRAY['PENDING', 'COMPLETED', 'FAILED'])[i %% 3 + 1] AS state) s
        """.replace("%%", "%")
        )
    exact = await read_queue_overview(database)
    monkeypatch.setattr(queue_overview, "_SELECT_QUEUE_COUNTS", "SELECT pg_sleep(30)")
    estimated = await read_queue_overview(database, most_exact_seconds=0.05)
    assert (exact.exact, estimated.exact) == (True, False)
    for overview in (exact, estimated):  # a table this small is its own sample
        assert [overview.orders(s) for s in ("PENDING", "COMPLETED", "FAILED")] == [300] * 3
        assert overview.failed_by_reason == {"TOO_LATE": 300}


def test_where_there_is_no_data_it_says_so_and_makes_none(tmp_path: Path) -> None:
    ended = run_pulse("status", data_dir=tmp_path / "nowhere")
    assert ended.exit_code == 3
    assert "there is no data of Pulse" in ended.err
    assert not (tmp_path / "nowhere").exists()
