"""The API alone and workers alone, as real processes on one embedded server."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pulse.postgres.embedded import EmbeddedServer
from tests.support.fleet import api_alone, workers_alone
from tests.support.processes import PulseProcess, postmaster_id, until

Connection = psycopg.Connection[tuple[Any, ...]]
RELEASED_SECONDS = 2.0


@contextmanager
def connection_to(data_dir: Path) -> Iterator[Connection]:
    with (
        EmbeddedServer.acquire(data_dir) as server,
        psycopg.connect(server.conninfo, autocommit=True) as connection,
    ):
        yield connection


def placed(api: PulseProcess, key: str) -> str:
    answer = api.post(
        {
            "order_unique_key": key,
            "instrument": "NSE:RELIANCE",
            "side": "BUY",
            "total_quantity": 100,
            "split_config": {"num_splits": 5, "duration_minutes": 60},
        }
    )
    assert answer.status_code in {200, 201}, answer.text
    order_id: str = answer.json()["order_id"]
    return order_id


def queued(connection: Connection, order_id: str) -> None:
    until(
        lambda: connection.execute(
            "SELECT 1 FROM order_queue WHERE order_id = %s", (order_id,)
        ).fetchone(),
        "the API projects by itself",
    )


def claim(connection: Connection) -> tuple[Any, ...] | None:
    return connection.execute("SELECT claimed_by FROM order_claims").fetchone()


def test_an_api_without_workers_answers_pending_until_workers_come(
    tmp_path: Path, data_dir: Path
) -> None:
    with api_alone(tmp_path, data_dir=data_dir) as api:
        order_id = placed(api, "k1")
        assert api.order(order_id)["order_queue_status"] == "PENDING"
        with connection_to(data_dir) as connection:
            queued(connection, order_id)
        with workers_alone(tmp_path, data_dir=data_dir):
            api.until_completed(order_id)


def test_the_first_process_starts_the_server_and_the_last_one_stops_it(
    tmp_path: Path, data_dir: Path
) -> None:
    with api_alone(tmp_path, data_dir=data_dir) as api:
        order_id = placed(api, "k1")
        server = postmaster_id(data_dir)
        assert server is not None
        with workers_alone(tmp_path, data_dir=data_dir) as workers:
            api.stop()
            assert postmaster_id(data_dir) == server
            assert workers.stop() == 0
        assert postmaster_id(data_dir) is None
    with api_alone(tmp_path, data_dir=data_dir) as again:
        assert again.order(order_id)["order_id"] == order_id


def test_the_server_survives_a_killed_process(tmp_path: Path, data_dir: Path) -> None:
    with (
        api_alone(tmp_path, data_dir=data_dir) as api,
        workers_alone(tmp_path, data_dir=data_dir) as first,
    ):
        server = postmaster_id(data_dir)
        first.stop(signal.SIGKILL)
        order_id = placed(api, "k1")
        with workers_alone(tmp_path, data_dir=data_dir):
            api.until_completed(order_id)
        assert postmaster_id(data_dir) == server


def test_a_dead_server_is_restarted_and_orders_complete(tmp_path: Path, data_dir: Path) -> None:
    with api_alone(tmp_path, data_dir=data_dir) as api, workers_alone(tmp_path, data_dir=data_dir):
        before = placed(api, "before")
        api.until_completed(before)
        server = postmaster_id(data_dir)
        assert server is not None
        os.kill(server, signal.SIGKILL)
        until(lambda: postmaster_id(data_dir) not in {None, server}, "the server is started again")
        until(lambda: api.http.get("/health/ready").status_code == 200, "the API is ready again")
        api.until_completed(placed(api, "after"))
        assert api.order(before)["order_queue_status"] == "COMPLETED"


@contextmanager
def worker_frozen_with_a_claim(
    tmp_path: Path, data_dir: Path, connection: Connection, **settings: object
) -> Iterator[PulseProcess]:
    """A worker process that has claimed the pending order and is frozen before it splits the order.

    The order's row is locked while the worker starts, so that it is not claimed. Then the log is
    locked, so the worker gets as far as the claim and waits to read the order's stream.
    """
    connection.execute("BEGIN")
    connection.execute("SELECT FROM pending_orders FOR UPDATE")
    with (
        workers_alone(tmp_path, data_dir=data_dir, poll_interval_seconds=0.1, **settings) as worker,
        connection_to(data_dir) as locking,
        connection_to(data_dir) as reading,
    ):
        locking.execute("BEGIN")
        locking.execute("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE")
        connection.execute("ROLLBACK")
        until(lambda: claim(reading), "the worker claims the order")
        worker.send_signal(signal.SIGSTOP)
        locking.execute("ROLLBACK")
        try:
            yield worker
        finally:
            worker.send_signal(signal.SIGCONT)


@pytest.mark.timing
def test_the_order_of_a_killed_worker_is_pending_again_within_two_seconds(
    tmp_path: Path, data_dir: Path
) -> None:
    with (
        api_alone(tmp_path, data_dir=data_dir, release_slices="false") as api,
        connection_to(data_dir) as connection,
    ):
        order_id = placed(api, "k1")
        queued(connection, order_id)
        with worker_frozen_with_a_claim(tmp_path, data_dir, connection) as worker:
            assert api.order(order_id)["order_queue_status"] == "IN_PROGRESS"
            worker.stop(signal.SIGKILL)
            until(
                lambda: claim(connection) == (None,),
                "the claim is released",
                seconds=RELEASED_SECONDS,
            )
        assert api.order(order_id)["order_queue_status"] == "PENDING"
        with workers_alone(tmp_path, data_dir=data_dir):
            assert api.until_completed(order_id)["version"] == 2


def test_a_worker_frozen_beyond_the_timeout_changes_nothing_when_it_resumes(
    tmp_path: Path, data_dir: Path
) -> None:
    with api_alone(tmp_path, data_dir=data_dir) as api, connection_to(data_dir) as connection:
        order_id = placed(api, "k1")
        queued(connection, order_id)
        with worker_frozen_with_a_claim(tmp_path, data_dir, connection) as frozen:
            connection.execute(
                "UPDATE order_claims SET first_claimed_at = first_claimed_at - interval '301 s'"
            )
            with workers_alone(tmp_path, data_dir=data_dir):
                until(
                    lambda: api.order(order_id)["order_queue_status"] == "FAILED",
                    "the order times out",
                )
                until(lambda: claim(connection) is None, "its claim has ended")
            frozen.send_signal(signal.SIGCONT)
            api.until_completed(placed(api, "k2"))
            failed = api.order(order_id)
            assert (failed["failure_reason"], failed["version"]) == ("TIMED_OUT", 2)
            assert frozen.stop() == 0
        assert claim(connection) is None


def test_the_workers_of_two_processes_split_each_order_once(tmp_path: Path, data_dir: Path) -> None:
    with api_alone(tmp_path, data_dir=data_dir, release_slices="false") as api:
        order_ids = [placed(api, f"k{number}") for number in range(60)]
        with (
            workers_alone(tmp_path, data_dir=data_dir, batch_size=3),
            workers_alone(tmp_path, data_dir=data_dir, batch_size=3),
        ):
            for order_id in order_ids:
                assert api.until_completed(order_id)["version"] == 2
        with connection_to(data_dir) as connection:
            (settled,) = connection.execute(
                "SELECT count(*) FROM stored_events WHERE originator_version = 2"
            ).fetchall()
            assert settled == (60,)
            assert claim(connection) is None


def test_workers_alone_release_slices_and_the_api_cancels_the_rest(
    tmp_path: Path, data_dir: Path
) -> None:
    with api_alone(tmp_path, data_dir=data_dir) as api:
        waiting = placed(api, "k1")
        cancelled = api.http.post(f"/internal/orders/{waiting}/cancel").json()
        assert (cancelled["order_queue_status"], cancelled["version"]) == ("CANCELLED", 2)
        released = placed(api, "k2")
        with (
            workers_alone(tmp_path, data_dir=data_dir),
            workers_alone(tmp_path, data_dir=data_dir),
        ):
            first, *_ = api.until_first_released(released)["slices"]
            answer = api.http.post(f"/internal/orders/{released}/cancel", json={"reason": "test"})
            assert answer.json()["quantities"] == {
                "remaining": 0,
                "released": first["quantity"],
                "cancelled": 100 - first["quantity"],
                "expired": 0,
            }
        events = api.http.get(f"/internal/orders/{released}/events").json()["events"]
        assert [event["type"] for event in events] == [
            "OrderCreated",
            "SlicesScheduled",
            "SlicesReleased",
            "OrderCancelled",
        ]
        assert api.order(waiting)["order_queue_status"] == "CANCELLED"
