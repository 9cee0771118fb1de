"""Executes each released slice exactly once: a complete reader of Pulse's event stream.

Usage: executor.py URL STORE [PARTITION], with the service token, if any, in PULSE_SERVICE_TOKEN:

    python executor.py http://127.0.0.1:8000/pulse executor.db
    python executor.py http://127.0.0.1:8000/pulse executor-0.db 0/4

The position and the work are stored in one transaction of SQLite, so kill -9 at any moment neither
loses nor repeats a slice. Needs only Python 3.11.
"""

import http.client
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

SILENT_SECONDS = 45  # three heartbeats: the connection is dead
MAX_PAUSE_SECONDS = 10.0
SERVER_ERROR = 500
ANOTHER_LOG = 3
"""The exit code after the log was replaced: a person must decide what to do."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS place (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    log_id TEXT NOT NULL,
    position INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS executions (
    order_id TEXT NOT NULL,
    sequence_number INTEGER NOT NULL,
    instrument TEXT NOT NULL,
    side TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    scheduled_at TEXT NOT NULL,
    PRIMARY KEY (order_id, sequence_number)
);
"""


def open_store(path: str) -> sqlite3.Connection:
    """The executor's own database, in which every commit is flushed to the disk."""
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = FULL")
    store.executescript(SCHEMA)
    return store


def read_place(store: sqlite3.Connection) -> tuple[str, int] | None:
    """The identity of the log and the position in it; None at the first start."""
    found: tuple[str, int] | None = store.execute("SELECT log_id, position FROM place").fetchone()
    return found


def execute(store: sqlite3.Connection, event: dict[str, Any]) -> None:
    """Do the work of one event, within the transaction that stores its position.

    Here the work is a row for each slice. Another process sends the rows to the exchange, with
    `order_id` and `sequence_number` as the client order id.
    """
    data = event["data"]
    for released in data["slices"]:
        store.execute(
            "INSERT INTO executions VALUES (?, ?, ?, ?, ?, ?)",
            (
                event["order_id"],
                released["sequence_number"],
                data["instrument"],
                data["side"],
                released["quantity"],
                released["scheduled_at"],
            ),
        )


def handle(store: sqlite3.Connection, kind: str, position: int, data: dict[str, Any]) -> None:
    """Handle one message of the stream: work and position in one transaction."""
    if kind not in {"", "log", "heartbeat", "end"}:
        return  # a kind of message that this program does not know
    place = read_place(store)
    if kind and place is not None and place[0] != data["log_id"]:
        stop(f"the log is {data['log_id']}, this store belongs to {place[0]}")
    if kind == "end":
        if data["reason"] == "LOG_CHANGED":
            stop(data["message"])
        return  # reconnect
    store.execute("BEGIN IMMEDIATE")
    if kind == "log" and place is None:
        store.execute("INSERT INTO place VALUES (1, ?, ?)", (data["log_id"], position))
    if not kind:
        execute(store, data)
    store.execute("UPDATE place SET position = ?", (position,))
    store.execute("COMMIT")


def messages(lines: Iterator[bytes]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The messages of the stream: kind (empty for an event of the log), id, data."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("event", ""), int(fields["id"]), json.loads(fields["data"])
            fields = {}


def follow(url: str, store: sqlite3.Connection, partition: str | None) -> float:
    """Read the stream until it ends; returns the seconds to wait before the next attempt."""
    parts = urlsplit(url)
    classes = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    connection = classes[parts.scheme](parts.netloc, timeout=SILENT_SECONDS)
    place = read_place(store)
    headers = {"Last-Event-ID": str(place[1] if place else 0)}
    if token := os.environ.get("PULSE_SERVICE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    query = "type=SlicesReleased" + (f"&partition={partition}" if partition else "")
    try:
        connection.request("GET", f"{parts.path}/internal/events/stream?{query}", headers=headers)
        response = connection.getresponse()
        if response.status == http.client.TOO_MANY_REQUESTS or response.status >= SERVER_ERROR:
            return float(response.headers.get("Retry-After", "1"))  # a proxy may send none
        if response.status != http.client.OK:
            refused = response.read().decode()
            stop(refused, ANOTHER_LOG if "POSITION_BEYOND_LOG" in refused else 1)
        for message in messages(iter(response.readline, b"")):
            handle(store, *message)
    finally:
        connection.close()
    return 0.0


def stop(reason: str, code: int = ANOTHER_LOG) -> NoReturn:
    """End this program. SQLite rolls an open transaction back."""
    print(f"executor: {reason}", file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Follow the stream, and reconnect until this process is stopped."""
    url, path, *rest = sys.argv[1:]
    store = open_store(path)
    pause_seconds = 0.1
    while True:
        try:
            wait_seconds = follow(url, store, rest[0] if rest else None)
            pause_seconds = 0.1
        except (OSError, http.client.HTTPException) as error:
            print(f"executor: {error!r}; reconnecting", file=sys.stderr)
            pause_seconds = min(2 * pause_seconds, MAX_PAUSE_SECONDS)
            wait_seconds = 0.0
        time.sleep(max(pause_seconds, wait_seconds))


if __name__ == "__main__":
    main()
