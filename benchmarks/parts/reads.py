"""Reads of one order, one history and a page of the list, with a million orders."""

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import msgspec

from benchmarks.bench import Bench, Candidate
from benchmarks.database import Database
from benchmarks.generators import pgbench, wrk
from benchmarks.process import Process
from benchmarks.sample import fill_log

TITLE: Final = "reads on 1,000,000 orders"
_ORDERS: Final = 1_000_000
_ORDERS_READ: Final = 2_000
_CONNECTIONS: Final = 32
_PAGE: Final = 100
_SECONDS: Final = 600.0

_ORDER_SQL: Final = """
SELECT s.notification_id, s.originator_id, s.originator_version, s.topic, s.state, s.recorded_at,
       p.claimed_by, p.claimed_at
  FROM stored_events s
  LEFT JOIN pending_orders p ON p.created_position = s.notification_id AND p.claimed_by IS NOT NULL
 WHERE s.originator_id = (SELECT id FROM sampled WHERE n = :n)
 ORDER BY s.originator_version;
"""
_HISTORY_SQL: Final = """
SELECT notification_id, originator_id, originator_version, topic, state, recorded_at
  FROM stored_events
 WHERE originator_id = (SELECT id FROM sampled WHERE n = :n)
 ORDER BY originator_version;
"""
_SEQUENTIAL_SCANS: Final = """
SELECT sum(seq_scan) FROM pg_stat_user_tables
 WHERE relname IN ('stored_events', 'order_queue', 'scheduled_slices')"""
_PAGE_SQL: Final = """
SELECT q.*, s.* FROM (
    SELECT * FROM order_queue WHERE created_position < :n * 900
     ORDER BY created_position DESC LIMIT 100) q
  LEFT JOIN LATERAL (
       SELECT array_agg(sequence_number ORDER BY sequence_number),
              array_agg(quantity ORDER BY sequence_number),
              array_agg(scheduled_at ORDER BY sequence_number)
         FROM scheduled_slices WHERE created_position = q.created_position) s ON true
 ORDER BY q.created_position DESC;
"""


async def run(bench: Bench) -> None:
    """Compare the API with plain SQL, and with itself without a database."""
    orders = bench.sized(_ORDERS, 2_000)
    async with bench.server() as server, server.database() as data:
        bench.log(f"loading {orders:,} orders")
        await load_orders(bench, data, orders)
        async with Process.running(
            bench.home, "-m", "pulse.cli", "api", settings={"database_url": data.url}
        ) as pulse:
            paths = await _paths(bench, data, pulse.url)
            scans = await data.figure(_SEQUENTIAL_SCANS)
            answers = bench.home / "answers.json"
            answers.write_bytes(await _answers(pulse.url, paths))
            async with Process.running(
                bench.home, "-m", "benchmarks.lower_bounds.noop", str(answers)
            ) as noop:
                for name, sql in (
                    ("one order", _ORDER_SQL),
                    ("a history", _HISTORY_SQL),
                    (f"a page of {_PAGE}", _PAGE_SQL),
                ):
                    await bench.compare(
                        f"{name}, {_CONNECTIONS} connections",
                        "requests/s",
                        [
                            Candidate("Pulse", _reading(bench, pulse.url, paths[name])),
                            Candidate("no-op", _reading(bench, noop.url, paths[name]), 0.6),
                            Candidate("SQL alone", _sql(bench, data, sql)),
                        ],
                    )
        # Backends report their scans when they end, so the API is stopped first.
        scans = await data.figure(_SEQUENTIAL_SCANS) - scans
        bench.fact("sequential scans during the reads", scans, "")


async def load_orders(bench: Bench, data: Database, orders: int) -> None:
    """Fill log and read model with completed orders, and update the statistics."""
    await fill_log(data, orders, num_splits=5, stage="completed")
    await data.rows(
        "UPDATE notification_tracking SET notification_id ="
        " (SELECT max(notification_id) FROM stored_events) WHERE application_name = 'order_queue'"
    )
    async with Process.running(
        bench.home,
        *("-m", "pulse.cli", "rebuild", "--unverified"),
        settings={"database_url": data.url},
        ready="",
    ) as rebuild:
        await rebuild.until_ended(_SECONDS * 10)
    await data.rows("VACUUM ANALYZE")
    await data.rows("CHECKPOINT")


async def _paths(bench: Bench, data: Database, url: str) -> dict[str, Any]:
    """Files with paths, by kind of read: random orders and histories, and the first pages."""
    await data.rows(
        "CREATE TABLE sampled AS SELECT row_number() OVER () AS n, order_id AS id"
        " FROM (SELECT order_id FROM order_queue ORDER BY random() LIMIT %s) o",
        _ORDERS_READ,
    )
    await data.rows("CREATE UNIQUE INDEX ON sampled (n)")
    ids = [str(row[0]) for row in await data.rows("SELECT id FROM sampled ORDER BY n")]
    cursors = await _cursors(url)
    sampled = {
        "one order": [f"/internal/orders/{order}" for order in ids],
        "a history": [f"/internal/orders/{order}/events" for order in ids],
        f"a page of {_PAGE}": [f"/internal/orders?limit={_PAGE}{cursor}" for cursor in cursors],
    }
    files = {}
    for number, (name, paths) in enumerate(sampled.items()):
        files[name] = bench.home / f"paths-{number}"
        files[name].write_text("\n".join(paths) + "\n")
    return files


async def _cursors(url: str) -> list[str]:
    """The cursors of the first 21 pages, in random order."""
    found = [""]
    async with aiohttp.ClientSession() as http:
        for _ in range(20):
            async with http.get(f"{url}/internal/orders?limit={_PAGE}{found[-1]}") as answer:
                cursor = (await answer.json()).get("next_cursor")
            if not cursor:
                break
            found.append(f"&cursor={cursor}")
    random.Random(7).shuffle(found)
    return found


async def _answers(url: str, paths: dict[str, Any]) -> bytes:
    """One answer of Pulse to each kind of read, for the no-op."""
    bodies = []
    async with aiohttp.ClientSession() as http:
        for file in paths.values():
            async with http.get(url + file.read_text().splitlines()[0]) as answer:
                bodies.append(msgspec.json.decode(await answer.read()))
    order, history, page = bodies
    return msgspec.json.encode(
        {"order": order, "history": history["events"], "page": page["orders"]}
    )


def _reading(bench: Bench, url: str, paths: Any) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        load = await wrk(
            url,
            "get_each.lua",
            str(paths),
            connections=_CONNECTIONS,
            seconds=bench.turn_seconds,
        )
        return load.rate

    return turn


def _sql(bench: Bench, data: Database, sql: str) -> Callable[[], Awaitable[float]]:
    async def turn() -> float:
        return await pgbench(
            data.conninfo,
            f"\\set n random(1, {bench.sized(_ORDERS_READ, 100)})\n{sql}",
            bench.home,
            clients=_CONNECTIONS,
            seconds=bench.turn_seconds,
        )

    return turn
