"""A serving process excludes its startup objects from garbage collection."""

import subprocess
import sys
from typing import Final

from tests.support.processes import ROOT

_SERVES_TWICE: Final = """
import asyncio, gc
from pulse.process.apps import gateway_app
from pulse.settings import Settings
from tests.support.api import lifespan_of

async def main():
    print("gc", gc.get_freeze_count(), gc.get_threshold()[0])
    for _ in range(2):
        async with lifespan_of(gateway_app(Settings())):
            print("gc", gc.get_freeze_count(), gc.get_threshold()[0])

asyncio.run(main())
"""


def test_startup_objects_are_frozen_once_the_process_serves() -> None:
    command = [sys.executable, "-c", _SERVES_TWICE]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    before, serving, again = [
        tuple(map(int, line.split()[1:]))
        for line in said.stdout.splitlines()
        if line.startswith("gc ")
    ]

    assert before[0] < 1_000  # Python 3.12 itself freezes some hundred objects
    assert serving[0] > 50_000
    assert serving[1] > before[1]
    assert again[0] <= serving[0]  # a second freeze would keep garbage alive
