"""SIGTERM under load: every accepted order is stored, and no claim is left.

The fault suite's case `stops` does the same with each kind of process.
"""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.database import are_completed
from tests.support.orders import fault_in, order
from tests.support.processes import UP, PulseProcess, free_port, pulse, until, url_of, uvicorn_on

ORDERS, BACKLOG = 200, 600
LONG = {
    "total_quantity": 100_000,
    "split_config": {"num_splits": 100, "duration_minutes": 60, "randomize": True},
}
HEAD = (
    "POST /pulse/internal/orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)
REFUSED, CUT_OFF = 0, -1

Answer = tuple[int, Any]


async def answer_to(port: int, request: dict[str, Any]) -> Answer:
    """The response on a new connection, or REFUSED, or CUT_OFF."""
    content = json.dumps(request)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return REFUSED, None
    try:
        writer.write((HEAD.format(len(content)) + content).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    except ConnectionResetError:
        return CUT_OFF, None
    finally:
        writer.close()
    return (int(head.split()[1]), json.loads(body)) if head else (CUT_OFF, None)


async def post_while_stopping(
    process: PulseProcess, requests: list[dict[str, Any]]
) -> dict[str, Answer]:
    """Post all at once, and stop the process after the first response."""
    answers: dict[str, Answer] = {}

    async def post(request: dict[str, Any]) -> None:
        answers[request["order_unique_key"]] = await answer_to(process.port, request)
        if len(answers) == 1:
            process.send_signal(signal.SIGTERM)

    await asyncio.gather(*map(post, requests))
    return answers


def accepted_ids(answers: dict[str, Answer]) -> dict[str, str]:
    """The ids of the orders answered with 201, by key; all other responses are 503."""
    accepted = {}
    for key, (status, body) in answers.items():
        if status == 201:
            accepted[key] = body["order_id"]
        elif status not in {REFUSED, CUT_OFF}:
            assert status == 503
            fault_in(body, "UNAVAILABLE")
    return accepted


def no_claim_is_left(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as connection:
        held = "SELECT FROM order_claims WHERE claimed_by IS NOT NULL"
        return connection.execute(held).fetchall() == []


def pending_orders(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        return counted_pending(connection)


def counted_pending(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE originator_version = 1)"
        " - count(*) FILTER (WHERE originator_version = 2) FROM stored_events"
    ).fetchone()
    return row[0] if row else 0


def stored_ids(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT DISTINCT originator_id::text FROM stored_events")
        return {order_id for (order_id,) in rows}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", ["pulse up --processes 2", "uvicorn main:app"])
async def test_every_accepted_order_is_stored_and_no_claim_is_left(
    conninfo: str, tmp_path: Path, command: str
) -> None:
    port = free_port()
    settings: dict[str, Any] = {"database_url": url_of(conninfo), "port": port}
    settings["command"] = {
        "pulse up --processes 2": (*UP, "--processes", "2"),
        "uvicorn main:app": uvicorn_on(port),
    }[command]
    requests = [order() for _ in range(ORDERS)]
    with pulse(tmp_path, **settings) as process:
        if "--processes" in command:
            until(lambda: "listens" in process.output, "all processes run")
        process.http.post("/internal/orders/batch", json=[order(**LONG) for _ in range(BACKLOG)])
        if "--processes" in command:  # workers in other processes begin later
            until(lambda: 0 < pending_orders(conninfo) < BACKLOG, "the workers have begun")
        answers = await post_while_stopping(process, requests)
        await asyncio.to_thread(process.wait)
        assert "Traceback" not in process.logged
    accepted = accepted_ids(answers)
    assert len(accepted) >= 1
    assert 0 < pending_orders(conninfo) < BACKLOG + ORDERS, "the workers were busy"
    assert no_claim_is_left(conninfo)
    assert set(accepted.values()) <= stored_ids(conninfo)
    with (
        pulse(tmp_path, **settings | {"command": UP}) as process,
        psycopg.connect(conninfo, autocommit=True) as observer,
    ):
        until(lambda: counted_pending(observer) == 0, "no order is pending", 100)
        until(lambda: are_completed(conninfo, [*accepted.values()]), "they are projected")
        for request in requests:
            status = (await asyncio.to_thread(process.post, request)).status_code
            known = request["order_unique_key"] in accepted
            assert status == 200 if known else status in {200, 201}
