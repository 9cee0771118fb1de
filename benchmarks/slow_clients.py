"""Measures how slow clients affect other callers behind the documented proxy.

    make bench-proxy

Starts Pulse and nginx with docs/proxy/nginx.conf on free ports of this machine. Normal callers
place orders through the gateway at a constant rate. In every second phase 200 slow clients send
a request head, one byte per half second, and reconnect when nginx closes the connection. Prints
the 99th percentile of each phase, and its ratio (with to without slow clients) for each pair.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

from tests.support.nginx import nginx
from tests.support.processes import ROOT, PulseProcess, environment, pulse

SLOW_CONNECTIONS: Final = 200
BYTE_INTERVAL_SECONDS: Final = 0.5
ORDERS_PER_SECOND: Final = 150
CALLERS: Final = 4
WARM_SECONDS: Final = 2.0
START_SECONDS: Final = 30.0
_run: Final = f"{time.time():.0f}"


def main() -> None:
    """Measure and print; exit code 1 if slow clients raise the p99 by 10 % or more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10, help="pairs of phases")
    parser.add_argument("--seconds", type=float, default=6.0, help="seconds per phase")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with (
            pulse(home, data_dir=home / "data", log_level="error") as process,
            nginx(home, process.port) as proxy,
        ):
            tokens = [token(home, f"caller-{number}") for number in range(CALLERS)]
            measured = measure(proxy.public_port, tokens, arguments.pairs, arguments.seconds)
            require_alive(process)
    sys.exit(report(*measured))


def token(home: Path, subject: str) -> str:
    """A token signed with the development key of `pulse up`."""
    command = [sys.executable, "-m", "pulse.cli", "token", "--subject", subject]
    settings = environment({"data_dir": home / "data"})
    made = subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


Phases = list[list[float]]


def measure(port: int, tokens: list[str], pairs: int, seconds: float) -> tuple[Phases, Phases]:
    """The latencies of each phase in seconds, without and with slow clients."""
    asyncio.run(place_orders(port, tokens, WARM_SECONDS))  # caches, connections, plans
    without: Phases = []
    with_slow: Phases = []
    for pair in range(pairs):
        for slow in (False, True) if pair % 2 else (True, False):
            with slow_clients(port) if slow else nullcontext():
                latencies = asyncio.run(place_orders(port, tokens, seconds))
            (with_slow if slow else without).append(latencies)
            name = "with" if slow else "without"
            sys.stdout.write(f"{name:>8} slow clients: p99 {p99(latencies) * 1e3:7.2f} ms\n")
            sys.stdout.flush()
    return without, with_slow


async def place_orders(port: int, tokens: list[str], seconds: float) -> list[float]:
    """Place orders at a constant rate; the latency counts from the scheduled time."""
    connections: asyncio.Queue[Connection] = asyncio.Queue()
    for number in range(4 * CALLERS):
        connections.put_nowait(await Connection.open(port, tokens[number % CALLERS]))
    loop = asyncio.get_running_loop()
    begin = loop.time()
    latencies: list[float] = []

    async def place(due: float) -> None:
        connection = await connections.get()
        await connection.place()
        latencies.append(loop.time() - due)
        connections.put_nowait(connection)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(seconds * ORDERS_PER_SECOND)):
            due = begin + number / ORDERS_PER_SECOND
            await asyncio.sleep(due - loop.time())
            tasks.create_task(place(due))
    while not connections.empty():
        connections.get_nowait().close()
    return latencies


class Connection:
    """One keep-alive connection of a normal caller."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str
    ) -> None:
        self._reader, self._writer, self._token = reader, writer, token

    @classmethod
    async def open(cls, port: int, token: str) -> "Connection":
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), token)

    async def place(self) -> None:
        """Place an order and read the answer.

        Raises:
            RuntimeError: it was not accepted.
        """
        body = json.dumps(
            {
                "order_unique_key": f"slow_{_run}_{random.getrandbits(64):x}",
                "instrument": "NSE:RELIANCE",
                "side": "BUY",
                "total_quantity": 100,
                "split_config": {"num_splits": 2, "duration_minutes": 60},
            }
        )
        self._writer.write(
            f"POST /gapi/api/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        answer = await self._reader.readexactly(length)
        if " 202 " not in head.partition("\r\n")[0]:
            raise RuntimeError(f"an order was not accepted: {head}{answer!r}")

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@contextmanager
def slow_clients(port: int) -> Iterator[None]:
    """Slow clients in a separate process, all connected before the block starts."""
    context = multiprocessing.get_context("fork")
    all_connected = context.Event()
    process = context.Process(target=run_slow_clients, args=(port, all_connected))
    process.start()
    try:
        if not all_connected.wait(START_SECONDS):
            raise RuntimeError("the slow clients could not connect")
        yield
    finally:
        process.terminate()
        process.join()


def run_slow_clients(port: int, all_connected: Event) -> None:
    """Keep the connections open and send a byte on each in turn, forever."""
    connections: list[socket.socket | None] = [None] * SLOW_CONNECTIONS
    while True:
        for number, connection in enumerate(connections):
            connections[number] = send_byte(connection) or open_request(port)
            time.sleep(BYTE_INTERVAL_SECONDS / SLOW_CONNECTIONS)
        all_connected.set()


def open_request(port: int) -> socket.socket:
    """Connect and send the beginning of a request head."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"POST /gapi/api/orders HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    connection.setblocking(False)
    return connection


def send_byte(connection: socket.socket | None) -> socket.socket | None:
    """Send one more byte; None if there is no connection or the peer closed it."""
    if connection is None:
        return None
    with suppress(OSError):
        connection.send(b"x")
        with suppress(BlockingIOError):
            if not connection.recv(1024):
                raise ConnectionResetError
        return connection
    connection.close()
    return None


def require_alive(process: PulseProcess) -> None:
    """Check that Pulse is still ready."""
    if process.http.get("/health/ready").is_error:
        raise RuntimeError("Pulse is not ready after the measurement")


def p99(latencies: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(latencies, n=100, method="inclusive")[98]


def report(without: Phases, with_slow: Phases) -> int:
    """Print the results; returns 1 if the median ratio is 1.1 or more."""
    ratios = [p99(slow) / p99(normal) for normal, slow in zip(without, with_slow, strict=True)]
    median = statistics.median(ratios)
    for name, phases in (("without", without), ("with", with_slow)):
        every = [latency for phase in phases for latency in phase]
        p50_ms, p99_ms = statistics.median(every) * 1e3, p99(every) * 1e3
        sys.stdout.write(
            f"{name:>8}: {len(every):,} orders, p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms\n"
        )
    listed = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    sys.stdout.write(f"ratio of p99, with to without, per pair: median {median:.3f} ({listed})\n")
    return int(median >= 1.1)  # noqa: PLR2004 - the bound of docs/explanation/performance.md


if __name__ == "__main__":
    main()
