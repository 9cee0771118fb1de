"""Compares posts through the gateway with direct posts, in one process, in alternation.

    .venv/bin/python benchmarks/gateway.py        (or: make bench-gateway)

Needs `wrk` (Debian: apt-get install wrk). Starts Pulse on a temporary data directory. For each
token algorithm it posts new orders, alternately direct and through the gateway; before each turn it
waits until the workers have split all orders. Compare the ratios: the rates depend on the machine.
On a shared machine the ratio of CPU time per order is more reliable than that of the rates.
"""

import argparse
import json
import os
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROOT: Final = Path(__file__).resolve().parent.parent
SCRIPT: Final = ROOT / "benchmarks" / "wrk" / "post_orders.lua"
ISSUER, AUDIENCE = "https://issuer.example", "pulse-benchmark"
DIRECT, GATEWAY = "/pulse/internal/orders", "/gapi/api/orders"
START_SECONDS: Final = 60
SPLIT_SECONDS: Final = 300


def keys_of(algorithm: str) -> tuple[object, dict[str, str]]:
    """A signing key, and the environment variables of a gateway that accepts it."""
    if algorithm == "HS256":
        secret = secrets.token_hex(32)
        return secret, {"PULSE_JWT_SECRET": secret}
    if algorithm == "RS256":
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
        key = rsa.generate_private_key(65_537, 2048)
    elif algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key, {"PULSE_JWT_PUBLIC_KEY": pem.decode(), "PULSE_JWT_ALGORITHM": algorithm}


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    process_id: int

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of the process so far."""
        fields = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """Orders accepted per second, and the server's CPU time per order in microseconds."""

    rate: float
    cpu_us: float

    def __str__(self) -> str:
        return f"{self.rate:6.0f}/s {self.cpu_us:5.0f} us"


@contextmanager
def serving(variables: dict[str, str]) -> Iterator[Served]:
    """All of Pulse in one process, on a temporary data directory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as data:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PULSE_")
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "pulse.cli", "up"],
            cwd=ROOT,
            env={
                **inherited,
                **variables,
                "PULSE_PORT": str(port),
                "PULSE_DATA_DIR": data,
                "PULSE_JWT_AUDIENCE": AUDIENCE,
                "PULSE_JWT_ISSUER": ISSUER,
                "PULSE_RATE_LIMIT_PER_SECOND": "0",  # all requests come from one caller
                "PULSE_LOG_LEVEL": "error",
            },
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/pulse/health/ready")
            yield Served(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def wait_until_ready(url: str) -> None:
    """Wait until the URL answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - an http URL of this script
                return
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_until_split(url: str) -> None:
    """Wait until no order is pending: workers in the same process would disturb the turn."""
    deadline = time.monotonic() + SPLIT_SECONDS
    pending = f"{url}/pulse/internal/orders?order_queue_status=PENDING&limit=1"
    while time.monotonic() < deadline:
        with urllib.request.urlopen(pending, timeout=10) as answer:  # noqa: S310 - same
            if not json.load(answer)["orders"]:
                return
        time.sleep(0.2)
    raise SystemExit(f"orders are still pending after {SPLIT_SECONDS} s")


def measure(served: Served, path: str, options: argparse.Namespace, *arguments: str) -> Measured:
    """One turn. Any answer other than an acceptance ends the run."""
    wait_until_split(served.url)
    command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", f"-s{SCRIPT}"]
    before = served.cpu_seconds
    output = subprocess.run(
        [*command, f"{served.url}{path}", "--", secrets.token_hex(4), *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = served.cpu_seconds - before
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    orders = re.search(r"(\d+) requests in", output)
    if "Non-2xx" in output or "Socket errors" in output or rate is None or orders is None:
        raise SystemExit(f"not every order was accepted:\n{output}")
    return Measured(float(rate[1]), 1e6 * used / int(orders[1]))


def compare(algorithm: str, options: argparse.Namespace) -> None:
    """Print every pair, and the median of their ratios."""
    key, variables = keys_of(algorithm)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "bench",
        "exp": int(time.time()) + 3600,
        "scope": "orders:write",
    }
    token = jwt.encode(claims, key, algorithm)  # type: ignore[arg-type]
    rates, costs = [], []
    with serving(variables) as served:
        turns = [(DIRECT, ()), (GATEWAY, (token,))]
        for path, arguments in turns:  # warm
            measure(served, path, options, *arguments)
        for _ in range(options.pairs):
            found = {path: measure(served, path, options, *more) for path, more in turns}
            direct, gateway = found[DIRECT], found[GATEWAY]
            rates.append(gateway.rate / direct.rate)
            costs.append(direct.cpu_us / gateway.cpu_us)
            print(f"{algorithm:6} direct {direct}  gateway {gateway}", end="")
            print(f"  ratio {rates[-1]:.2f}, of CPU time {costs[-1]:.2f}", flush=True)
            turns.reverse()
    print(f"{algorithm:6} median ratio {statistics.median(rates):.2f}", end="")
    print(f" (from {min(rates):.2f} to {max(rates):.2f}, {len(rates)} pairs)", end="")
    print(f", of CPU time {statistics.median(costs):.2f}", flush=True)


def main() -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--algorithms", nargs="+", default=["HS256", "RS256", "ES256", "EdDSA"])
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    for algorithm in options.algorithms:
        compare(algorithm, options)


if __name__ == "__main__":
    main()
