"""`pulse up --processes 2`: one port, one `/metrics`, replaced and restarted processes."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.database import are_completed
from tests.support.groups import START_SECONDS, PulseGroup, pulse_group
from tests.support.orders import order
from tests.support.processes import PLAIN_HTTP, ROOT, is_alive, until

MEMBERS: Final = {"api-1", "api-2", "worker-1"}
TOKEN: Final = "desk-token-" + "d" * 32
ORDERS: Final = "/pulse/internal/orders"
MAX_POSTS: Final = 4_000
CLIENTS: Final = 4

pytestmark = pytest.mark.timeout(300)  # processes start one after the other


@pytest.fixture(scope="module")
def calendar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The market calendar, which each process reads when it starts."""
    file = tmp_path_factory.mktemp("calendar") / "calendar.json"
    shutil.copy(ROOT / "pulse" / "market_calendar" / "nse-bse.json", file)
    return file


@pytest.fixture(scope="module")
def group(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str, calendar: Path
) -> Iterator[PulseGroup]:
    home = tmp_path_factory.mktemp("group")
    with pulse_group(
        home,
        *("--processes", "2"),
        token=TOKEN,
        database_url=module_database_url,
        data_dir=home / "data",
        service_tokens=f"desk:{TOKEN}",
        market_calendar=calendar,
        log_requests="off",
    ) as running:
        yield running


def post(group: PulseGroup) -> httpx.Response:
    """Post an order on a new connection."""
    with httpx.Client(trust_env=False, verify=PLAIN_HTTP, timeout=30) as client:
        url = f"http://127.0.0.1:{group.port}{ORDERS}"
        return client.post(url, json=order(), headers=group.http.headers)


def accepted_by(group: PulseGroup) -> Counter[str]:
    """The accepted orders by the process that accepted them."""
    counted: Counter[str] = Counter()
    for labels, value in group.whole_scrape().get("pulse_http_requests_total", ()):
        if labels["route"] == ORDERS and labels["status"] == "201":
            counted[labels["process"]] += int(value)
    return counted


def test_one_scrape_has_every_process_once_and_the_database_once(group: PulseGroup) -> None:
    before = accepted_by(group)
    for _ in range(40):
        assert post(group).status_code == 201
    added = accepted_by(group) - before
    assert sum(added.values()) == 40
    assert set(added) <= {"api-1", "api-2"}
    until(lambda: group.scrape().get("pulse_workers") == [({}, 1.0)], "the gauges are exported")
    found = group.whole_scrape()
    for name in ("pulse_build_info", "process_cpu_seconds_total", "pulse_append_queue_events"):
        assert sorted(labels["process"] for labels, _ in found[name]) == sorted(MEMBERS)
    split = sum(v for labels, v in found["pulse_outcomes_total"] if labels["process"] == "worker-1")
    assert split == sum(value for _, value in found["pulse_outcomes_total"])


def test_metrics_need_the_token_of_a_service(group: PulseGroup) -> None:
    answer = httpx.get(f"http://127.0.0.1:{group.port}/metrics", trust_env=False, verify=PLAIN_HTTP)
    assert answer.status_code == 401


def test_a_process_that_does_not_answer_is_left_out_of_the_scrape_and_counted(
    group: PulseGroup,
) -> None:
    group.signal_member("worker-1", signal.SIGSTOP)
    try:
        found = group.scrape()
    finally:
        group.signal_member("worker-1", signal.SIGCONT)
    assert found["pulse_processes_missing"] == [({}, 1.0)]
    assert {labels["process"] for labels, _ in found["pulse_build_info"]} == {"api-1", "api-2"}
    group.whole_scrape()


async def test_a_restart_refuses_no_request_and_loses_no_order(
    group: PulseGroup, module_database_url: str
) -> None:
    before = group.pids()
    stopped = asyncio.Event()
    clients = [
        asyncio.create_task(keep_posting(group, stopped, new_connections=number % 2 == 0))
        for number in range(CLIENTS)
    ]
    group.send_signal(signal.SIGHUP)
    await asyncio.to_thread(group.until_logged, "group.restarted")
    stopped.set()
    answers = [answer for answers in await asyncio.gather(*clients) for answer in answers]
    assert Counter(status for status, _ in answers) == {201: len(answers)}
    assert len(answers) > CLIENTS
    after = group.pids()
    assert not set(before.values()) & set(after.values())
    assert not any(map(is_alive, before.values()))
    assert not group.ended
    placed = [body["order_id"] for _, body in answers]
    assert len(set(placed)) == len(placed)
    await asyncio.to_thread(
        until, lambda: are_completed(module_database_url, placed), "all are split"
    )


async def keep_posting(
    group: PulseGroup, stopped: asyncio.Event, *, new_connections: bool
) -> list[tuple[int, Any]]:
    """Post one order after the other; returns the answers. A failed connection raises."""
    answers: list[tuple[int, Any]] = []
    while not stopped.is_set() and len(answers) < MAX_POSTS:
        async with connection_to(group.port) as (reader, writer):
            keeps_open = True
            while keeps_open and not stopped.is_set() and len(answers) < MAX_POSTS:
                writer.write(request_of(order(), close=new_connections))
                status, headers, body = await answer_on(reader)
                answers.append((status, body))
                keeps_open = headers.get("connection") != "close"
                await asyncio.sleep(0.1)
    return answers


@contextlib.asynccontextmanager
async def connection_to(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


def request_of(content: dict[str, Any], *, close: bool) -> bytes:
    body = json.dumps(content)
    lines = [
        f"POST {ORDERS} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(["Connection: close"] if close else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


async def answer_on(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body)


@pytest.mark.parametrize("name", ["api-1", "worker-1"])
def test_a_killed_process_is_replaced_and_the_port_stays_open(group: PulseGroup, name: str) -> None:
    killed = group.signal_member(name)
    until(lambda: group.pids()[name] != killed, "another one is started", START_SECONDS)
    assert post(group).status_code == 201
    group.whole_scrape()
    assert not group.ended
    placed = post(group).json()
    group.until_completed(placed["order_id"], START_SECONDS)


def test_a_new_process_that_dies_while_the_old_one_is_drained_is_replaced_at_once(
    group: PulseGroup,
) -> None:
    old = group.signal_member("api-1", signal.SIGSTOP)  # so it is drained for 40 s
    draining, died = len(group.lines("process.draining")), len(group.lines("process.died"))
    restarted = len(group.lines("group.restarted"))
    try:
        group.send_signal(signal.SIGHUP)
        group.until_logged("process.draining", draining + 1)
        group.signal_member("api-1")
        group.until_logged("process.died", died + 1)
        assert is_alive(old)
    finally:
        os.kill(old, signal.SIGCONT)
    group.until_logged("group.restarted", restarted + 1)
    group.whole_scrape()


def test_a_restart_into_a_process_that_cannot_start_keeps_the_old_ones(
    group: PulseGroup, calendar: Path
) -> None:
    before, content = group.pids(), calendar.read_bytes()
    calendar.write_text("no calendar")
    try:
        abandoned = len(group.lines("group.restart_abandoned"))
        group.send_signal(signal.SIGHUP)
        group.until_logged("group.restart_abandoned", abandoned + 1)
    finally:
        calendar.write_bytes(content)
    assert all(map(is_alive, before.values()))
    assert post(group).status_code == 201
    group.whole_scrape()


def test_a_process_that_dies_at_once_is_restarted_until_it_starts(
    group: PulseGroup, calendar: Path
) -> None:
    content, died = calendar.read_bytes(), len(group.lines("process.died"))
    calendar.write_text("no calendar")
    try:
        group.signal_member("worker-1")
        group.until_logged("process.died", died + 2)
    finally:
        calendar.write_bytes(content)
    assert post(group).status_code == 201
    group.whole_scrape()
    placed = post(group).json()
    group.until_completed(placed["order_id"], START_SECONDS)


def test_every_process_names_itself_in_its_lines(group: PulseGroup) -> None:
    lines = [json.loads(line) for line in group.logged.splitlines()]
    assert {line.get("process") for line in lines} == {*MEMBERS, "supervisor"}


def test_sigterm_stops_all_processes_with_exit_code_0(group: PulseGroup) -> None:
    """The last test of the module: it ends the group."""
    assert group.stop() == 0, group.logged
    assert group.has_ended()
    assert "Traceback" not in group.logged
