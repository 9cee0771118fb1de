"""Posts through the gateway against direct posts, in one process and one run, turn by turn.

    .venv/bin/python benchmarks/gateway.py        (or: make bench-gateway)

Needs `wrk` (Debian: apt-get install wrk). Starts Pulse on a data directory of its own, and for each
algorithm of tokens posts orders under new keys, direct and through the gateway in alternation, each
time once the workers have split what came before. What counts is the ratio of each pair; the rates
are those of the machine.
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
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROOT: Final = Path(__file__).resolve().parent.parent
SCRIPT: Final = ROOT / "benchmarks" / "post_orders.lua"
ISSUER, AUDIENCE = "https://issuer.example", "pulse-benchmark"
DIRECT, GATEWAY = "/pulse/internal/orders", "/gapi/api/orders"
START_SECONDS: Final = 60
SPLIT_SECONDS: Final = 300


def keys_of(algorithm: str) -> tuple[object, dict[str, str]]:
    """A key to sign with, and the variables of a gateway that takes what it signs."""
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


@contextmanager
def serving(variables: dict[str, str]) -> Iterator[str]:
    """Everything in one process, on a data directory that is gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as data:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "pulse.cli", "up"],
            cwd=ROOT,
            env={
                **kept,
                **variables,
                "PULSE_PORT": str(port),
                "PULSE_DATA_DIR": data,
                "PULSE_JWT_AUDIENCE": AUDIENCE,
                "PULSE_JWT_ISSUER": ISSUER,
                "PULSE_RATE_LIMIT_PER_SECOND": "0",  # all of it comes from one caller
                "PULSE_LOG_LEVEL": "error",
            },
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}/pulse/health/ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def wait_until_ready(url: str) -> None:
    """Return once it answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - of our own making
                return
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_until_split(url: str) -> None:
    """Return once no order waits for the workers, which share the process with what is measured."""
    deadline = time.monotonic() + SPLIT_SECONDS
    pending = f"{url}/pulse/internal/orders?order_queue_status=PENDING&limit=1"
    while time.monotonic() < deadline:
        with urllib.request.urlopen(pending, timeout=10) as answer:  # noqa: S310 - same
            if not json.load(answer)["orders"]:
                return
        time.sleep(0.2)
    raise SystemExit("the workers do not keep up")


def rate(url: str, path: str, options: argparse.Namespace, *arguments: str) -> float:
    """Orders accepted in a second; any other answer than an acceptance ends the run."""
    wait_until_split(url)
    command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", f"-s{SCRIPT}"]
    said = subprocess.run(
        [*command, f"{url}{path}", "--", secrets.token_hex(4), *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"not every order was accepted:\n{said}")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    if found is None:
        raise SystemExit(f"wrk said no rate:\n{said}")
    return float(found[1])


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
    with serving(variables) as url:
        rate(url, DIRECT, options)
        rate(url, GATEWAY, options, token)
        ratios = []
        for number in range(options.pairs):
            if number % 2:
                through = rate(url, GATEWAY, options, token)
                straight = rate(url, DIRECT, options)
            else:
                straight = rate(url, DIRECT, options)
                through = rate(url, GATEWAY, options, token)
            ratios.append(through / straight)
            print(f"{algorithm:6} direct {straight:7.0f}/s  gateway {through:7.0f}/s", end="")
            print(f"  ratio {ratios[-1]:.2f}", flush=True)
    print(f"{algorithm:6} median ratio {statistics.median(ratios):.2f}", end="")
    print(f" (from {min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)", flush=True)


def main() -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--algorithms", nargs="+", default=["HS256", "RS256", "ES256", "EdDSA"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    for algorithm in options.algorithms:
        compare(algorithm, options)


if __name__ == "__main__":
    main()
