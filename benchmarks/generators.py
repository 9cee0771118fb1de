"""The compiled load generators of Debian, `wrk` and `pgbench`, and what they found."""

import asyncio
import re
import secrets
import shutil
from pathlib import Path
from typing import Final

import msgspec

SCRIPTS: Final = Path(__file__).parent / "wrk"
_PGBENCH: Final = ("/usr/lib/postgresql/15/bin/pgbench", "/usr/bin/pgbench")
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_LATENCY = re.compile(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s)\s*$", re.MULTILINE)
_TPS = re.compile(r"tps = ([0-9.]+)")
_MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class GeneratorMissingError(Exception):
    """The machine lacks a program that a part needs; the message says how to have it."""


class Load(msgspec.Struct, frozen=True):
    """What a closed loop of connections got."""

    rate: float
    p50_ms: float
    p99_ms: float


async def wrk(url: str, script: str, *arguments: str, connections: int, seconds: float) -> Load:
    """Requests by that script over so many connections; none may be answered otherwise than 2xx.

    Raises:
        RuntimeError: one was.
    """
    command = [_program("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    said = await _run(
        *command, "-s", str(SCRIPTS / script), url, "--", secrets.token_hex(4), *arguments
    )
    rate = _RATE.search(said)
    if rate is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"not every request was answered well:\n{said}")
    found = {p: float(figure) * _MILLISECONDS[unit] for p, figure, unit in _LATENCY.findall(said)}
    return Load(float(rate[1]), found["50"], found["99"])


async def pgbench(conninfo: str, script: str, home: Path, *, clients: int, seconds: float) -> float:
    """Transactions a second of that script, its statements prepared."""
    file = home / "pgbench.sql"
    file.write_text(script)
    said = await _run(
        _program("pgbench", *_PGBENCH),
        *("-n", "-M", "prepared", f"-c{clients}", f"-j{min(2, clients)}"),
        *(f"-T{max(1, round(seconds))}", "-f", str(file)),
        conninfo,
    )
    rate = _TPS.search(said)
    if rate is None:
        raise RuntimeError(f"pgbench says:\n{said}")
    return float(rate[1])


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await process.communicate())[0].decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{said}")
    return said


def _program(name: str, *places: str) -> str:
    found = next((place for place in places if Path(place).exists()), None) or shutil.which(name)
    if found is None:
        package = {"wrk": "wrk", "pgbench": "postgresql-15"}[name]
        raise GeneratorMissingError(f"{name} is not here: apt-get install {package}")
    return found
