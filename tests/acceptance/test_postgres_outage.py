"""Postgres down at the start, or killed while Pulse runs: 503, then recovery without a restart."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict

from pulse.postgres.embedded import EmbeddedServer
from tests.support.database import are_completed
from tests.support.forwarder import forwarded
from tests.support.orders import fault, order
from tests.support.processes import (
    PulseProcess,
    free_port,
    is_alive,
    postmaster_id,
    pulse,
    until,
)


def accepted(process: PulseProcess, request: dict[str, Any]) -> httpx.Response | None:
    response = process.post(request)
    if response.status_code in {200, 201}:
        return response
    fault(response, 503, "UNAVAILABLE")
    return None


def test_a_process_started_before_postgres_waits_for_it_and_serves(
    conninfo: str, tmp_path: Path
) -> None:
    server = conninfo_to_dict(conninfo)
    if not str(server.get("host", "")).startswith("/"):
        pytest.skip("the test server has no local socket to forward to")
    port = free_port()
    url = f"postgresql://{server['user']}:s3cret@127.0.0.1:{port}/{server['dbname']}"
    with pulse(tmp_path, database_url=url) as process:
        line = until(
            lambda: [text for text in process.logged.splitlines() if "postgres.not_ready" in text],
            "the log says what is wrong",
        )[0]
        assert "cannot be reached" in line
        assert "retried" in line
        assert str(port) in line or "refused" in line
        fault(process.post(order()), 503, "UNAVAILABLE")
        fault(process.http.get("/health/ready"), 503, "UNAVAILABLE")
        assert process.http.get("/health").status_code == 200
        with forwarded(port, f"{server['host']}/.s.PGSQL.{server.get('port', 5432)}"):
            response = until(lambda: accepted(process, order()), "it serves without a restart")
            process.until_completed(response.json()["order_id"])
            # Each loop retries on its own schedule.
            until(lambda: process.http.get("/health/ready").status_code == 200, "it is ready")
            assert process.stop() == 0
        assert "s3cret" not in process.logged + process.output
        assert "Traceback" not in process.logged


def test_a_process_without_postgres_stops_on_sigterm(tmp_path: Path) -> None:
    url = f"postgresql://pulse@127.0.0.1:{free_port()}/pulse"
    with pulse(tmp_path, database_url=url) as process:
        assert process.stop() == 0
        assert "Traceback" not in process.logged


@contextmanager
def kept_down(data_dir: Path) -> Iterator[None]:
    """Kill the embedded server, and prevent its restart by holding the start lock."""
    killed = postmaster_id(data_dir)
    assert killed is not None
    with (data_dir / "postgres" / "start.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.kill(killed, signal.SIGKILL)
        until(lambda: not is_alive(killed), "it is dead")
        yield


def test_a_killed_embedded_server_is_restarted_without_data_loss(
    tmp_path: Path, data_dir: Path
) -> None:
    with pulse(tmp_path, data_dir=data_dir, poll_interval_seconds=0.5) as process:
        before = [order() for _ in range(20)]
        ids = [process.post(request).json()["order_id"] for request in before]
        shown = [process.until_first_released(order_id) for order_id in ids]
        killed = postmaster_id(data_dir)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        until(lambda: not is_alive(killed), "it is dead")
        during = order()
        response = until(lambda: accepted(process, during), "orders are accepted")
        until(lambda: postmaster_id(data_dir) not in {killed, None}, "another one runs")
        after = until(lambda: accepted(process, order()), "new ones are accepted")
        process.until_completed(after.json()["order_id"])
        assert process.post(during).content == response.content
        assert [process.order(order_id) for order_id in ids] == shown
        for request, order_id in zip(before, ids, strict=True):
            again = process.post(request)
            assert (again.status_code, again.json()["order_id"]) == (200, order_id)
        until(lambda: process.http.get("/health/ready").status_code == 200, "it is ready")
        assert process.stop() == 0


def test_while_the_embedded_server_is_down_requests_are_503(tmp_path: Path, data_dir: Path) -> None:
    with pulse(tmp_path, data_dir=data_dir) as process:
        request = order()
        order_id = process.post(request).json()["order_id"]
        process.until_completed(order_id)
        with kept_down(data_dir):
            fault(process.post(order()), 503, "UNAVAILABLE")
            fault(process.http.get(f"/internal/orders/{order_id}"), 503, "UNAVAILABLE")
            fault(process.http.get("/health/ready"), 503, "UNAVAILABLE")
            assert process.http.get("/health").status_code == 200
        until(lambda: accepted(process, request), "it is back")
        process.until_completed(order_id)


def test_orders_in_progress_when_postgres_is_killed_complete_after_the_restart(
    tmp_path: Path, data_dir: Path
) -> None:
    with pulse(tmp_path, data_dir=data_dir, poll_interval_seconds=0.5) as process:
        batch = process.http.post("/internal/orders/batch", json=[order() for _ in range(500)])
        ids = [result["body"]["order_id"] for result in batch.json()["results"]]
        with kept_down(data_dir):
            noticed = ("claims.not_released", "loop.step_failed", "append.postgres_unreachable")
            until(lambda: any(word in process.logged for word in noticed), "it is noticed")
        with EmbeddedServer.acquire(data_dir) as server:
            until(lambda: are_completed(server.conninfo, ids), "all are split")
