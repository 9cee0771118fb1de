"""Shifts the wall clock of a process with libfaketime, and checks that the shift works."""

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.faults.case import Unsupported

_PLACES: Final = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")
_PRINT_CLOCKS: Final = "import time; print(time.time(), time.monotonic())"
_MAX_ERROR_SECONDS: Final = 15.0
"""The time a Python process may take to start and print its clocks; far less than any shift."""


def shifted(seconds: float) -> Mapping[str, str]:
    """Environment variables that set a process's wall clock ahead, and no other clock.

    Raises:
        Unsupported: libfaketime is not installed.
    """
    found = [
        library
        for place in _PLACES
        for library in Path("/").glob(f"{place.lstrip('/')}/libfaketime.so.1")
    ]
    if not found:
        raise Unsupported("no libfaketime: install the package faketime")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{seconds:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


async def check_shift(seconds: float) -> None:
    """Check that Python's wall clock is shifted and its monotonic clock is not.

    Raises:
        Unsupported: libfaketime does not have this effect.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PRINT_CLOCKS,
        env=dict(shifted(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    wall, monotonic = map(float, output.split())
    off = wall - time.time() - seconds
    if abs(off) > _MAX_ERROR_SECONDS or abs(monotonic - time.monotonic()) > _MAX_ERROR_SECONDS:
        raise Unsupported(f"libfaketime does not shift Python's clock: {output.decode()}")
