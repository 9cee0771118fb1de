"""Runs the load generators `wrk` and `pgbench` and parses their results."""

import asyncio
import re
import secrets
import shutil
from pathlib import Path
from typing import Final

import msgspec

SCRIPTS: Final = Path(__file__).parent / "wrk"
_PGBENCH: Final = ("/usr/lib/postgresql/15/bin/pgbench", "/usr/bin/pgbench")
_REQUESTS = re.compile(r"^\s+([0-9]+) requests in ", re.MULTILINE)
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_LATENCY = re.compile(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s)\s*$", re.MULTILINE)
_TPS = re.compile(r"tps = ([0-9.]+)")
_MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class GeneratorMissingError(Exception):
    """A program that a part needs is not installed; the message says how to install it."""


class LoadResult(msgspec.Struct, frozen=True):
    """The results of a closed-loop load."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float


async def wrk(
    url: str, script: str, *arguments: str, connections: int, seconds: float
) -> LoadResult:
    """Run a wrk script for at least a second.

    Raises:
        RuntimeError: an answer was not 2xx, or a connection failed.
    """
    duration = f"-d{max(1, round(seconds))}s"
    command = [_program("wrk"), "-t1", f"-c{connections}", duration, "--latency"]
    output = await _run(
        *command, "-s", str(SCRIPTS / script), url, "--", secrets.token_hex(4), *arguments
    )
    requests, rate = _REQUESTS.search(output), _RATE.search(output)
    if requests is None or rate is None or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"requests failed:\n{output}")
    found = {p: float(figure) * _MILLISECONDS[unit] for p, figure, unit in _LATENCY.findall(output)}
    return LoadResult(int(requests[1]), float(rate[1]), found["50"], found["99"])


async def pgbench(conninfo: str, script: str, home: Path, *, clients: int, seconds: float) -> float:
    """Transactions per second of a pgbench script, with prepared statements."""
    file = home / "pgbench.sql"
    file.write_text(script)
    output = await _run(
        _program("pgbench", *_PGBENCH),
        *("-n", "-M", "prepared", f"-c{clients}", f"-j{min(2, clients)}"),
        *(f"-T{max(1, round(seconds))}", "-f", str(file)),
        conninfo,
    )
    rate = _TPS.search(output)
    if rate is None:
        raise RuntimeError(f"no result from pgbench:\n{output}")
    return float(rate[1])


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{output}")
    return output


def _program(name: str, *paths: str) -> str:
    found = next((path for path in paths if Path(path).exists()), None) or shutil.which(name)
    if found is None:
        package = {"wrk": "wrk", "pgbench": "postgresql-15"}[name]
        raise GeneratorMissingError(f"{name} is not installed: apt-get install {package}")
    return found
