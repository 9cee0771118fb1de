"""A process with another wall clock than its host's: libfaketime, and proof that it takes."""

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.faults.case import CaseUnavailable

_PLACES: Final = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")
_TOLD: Final = "import time; print(time.time(), time.monotonic())"
_MOST_APART_SECONDS: Final = 15.0
"""How long a Python may take to start and say what time it is; far less than any shift."""


def shifted(seconds: float) -> Mapping[str, str]:
    """The variables of a process whose wall clock, and no other, is so far ahead.

    Raises:
        NotHere: there is no libfaketime.
    """
    found = [
        library
        for place in _PLACES
        for library in Path("/").glob(f"{place.lstrip('/')}/libfaketime.so.1")
    ]
    if not found:
        raise CaseUnavailable("no libfaketime: install the package faketime")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{seconds:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


async def prove(seconds: float) -> None:
    """Make sure that Python sees the wall clock shifted, and the monotonic one not.

    Raises:
        NotHere: it does not.
    """
    telling = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _TOLD, env=dict(shifted(seconds)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await telling.communicate()
    wall, monotonic = map(float, said.split())
    off = wall - time.time() - seconds
    if abs(off) > _MOST_APART_SECONDS or abs(monotonic - time.monotonic()) > _MOST_APART_SECONDS:
        raise CaseUnavailable(f"libfaketime does not shift Python's clock as told: {said.decode()}")
