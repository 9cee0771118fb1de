"""Event streams of real processes: a stop ends them, and a stalled reader does not prevent it."""

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.orders import order
from tests.support.processes import UP, PulseProcess, free_port, pulse, until, url_of, uvicorn_on

STREAM = "/internal/events/stream"


def messages_of(lines: list[str]) -> list[tuple[str, Any]]:
    """Kind and data of each message; all are complete."""
    messages = []
    for block in "\n".join(lines).split("\n\n"):
        if block.strip():
            fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
            messages.append((fields.get("event", ""), json.loads(fields["data"])))
    return messages


def place_orders(process: PulseProcess, count: int, **changes: Any) -> None:
    answer = process.http.post(
        "/internal/orders/batch", json=[order(**changes) for _ in range(count)]
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("command", ["pulse up", "uvicorn main:app"])
def test_a_stop_ends_open_streams_with_a_last_message(
    conninfo: str, tmp_path: Path, command: str
) -> None:
    port = free_port()
    settings: dict[str, Any] = {"database_url": url_of(conninfo), "port": port}
    settings["command"] = UP if command == "pulse up" else uvicorn_on(port)
    with pulse(tmp_path, **settings) as process:
        with process.http.stream("GET", STREAM) as one, process.http.stream("GET", STREAM) as two:
            lines = one.iter_lines()
            seen = [next(lines)]
            process.send_signal(signal.SIGTERM)
            seen += lines
            others = list(two.iter_lines())
        assert process.wait() in {0, -signal.SIGTERM}
        assert "Traceback" not in process.logged
    for received in (seen, others):
        (first, opening), *_, (last, end) = messages_of(received)
        assert (first, last) == ("log", "end")
        assert end["reason"] == "SHUTDOWN"
        assert end["log_id"] == opening["log_id"]


def test_a_stalled_reader_does_not_prevent_a_stop(conninfo: str, tmp_path: Path) -> None:
    with pulse(tmp_path, database_url=url_of(conninfo), release_slices=False) as process:
        config = {"num_splits": 100, "duration_minutes": 60, "randomize": True}
        for _ in range(2):
            place_orders(process, 1000, total_quantity=1000, split_config=config)

        def all_are_split() -> bool:
            page = process.http.get("/internal/orders?order_queue_status=PENDING&limit=1").json()
            return not page["orders"]

        until(all_are_split, "the log has more than a socket holds")
        head = f"GET /pulse{STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with (
            socket.create_connection(("127.0.0.1", process.port)) as stalled,
            process.http.stream("GET", f"{STREAM}?type=TimedOut") as other,
        ):
            stalled.sendall(head.encode())
            stalled.recv(1, socket.MSG_PEEK)
            lines = other.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            assert messages_of(list(lines))[-1][1]["reason"] == "SHUTDOWN"
            assert process.wait() == 0
        assert "Traceback" not in process.logged


def test_a_process_has_as_many_streams_as_its_setting_allows(conninfo: str, tmp_path: Path) -> None:
    with (
        pulse(
            tmp_path, database_url=url_of(conninfo), max_streams=1, max_requests_in_flight=1
        ) as process,
        process.http.stream("GET", STREAM) as open_stream,
    ):
        lines = open_stream.iter_lines()  # without this reference the stream would be closed
        next(lines)
        refused = process.http.get(STREAM)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "UNAVAILABLE"
        assert process.post(order()).status_code == 201, "a stream is not a request in flight"
