"""A sealer killed with SIGKILL at each of its statements leaves a tree that goes on rightly."""

import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

from pulse.evidence.anchors import read_anchors
from pulse.evidence.tree import SealedLog
from pulse.postgres import Database
from tests.support.processes import ROOT
from tests.support.seal import KEY, append, oracle_of, seal_all, sealer

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import psycopg
from pulse.evidence.anchors import AnchorFile
from pulse.postgres import Database
from tests.support.seal import sealer

conninfo, anchors, place, when = sys.argv[1:]
execute, append, executed = psycopg.AsyncCursor.execute, AnchorFile.append, -1

async def execute_or_die(self, *arguments, **options):
    global executed
    if executed < 0:
        return await execute(self, *arguments, **options)
    executed += 1
    if executed == int(place) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = await execute(self, *arguments, **options)
    if executed == int(place) and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

def append_or_die(self, checkpoint):
    if when == "before anchoring":
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, checkpoint)

async def main():
    global executed
    database = Database(conninfo, pool_size=1)
    await database.open()
    async with database.connection():
        executed = 0
    await sealer(database, Path(anchors)).run_once()
    await database.close()

psycopg.AsyncCursor.execute, AnchorFile.append = execute_or_die, append_or_die
asyncio.run(main())
"""


def killed(conninfo: str, anchors: Path, place: int, when: str) -> bool:
    """Whether the sealer reached this statement and was killed there."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, conninfo, str(anchors), str(place), when],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode in {0, -signal.SIGKILL}, run.stderr
    return run.returncode != 0


async def test_a_sealer_is_killed_at_each_statement(
    database: Database, conninfo: str, tmp_path: Path
) -> None:
    anchors, log, size, kills = tmp_path / "anchors.txt", SealedLog(database), 0, 0

    async def check() -> None:
        nonlocal size
        size += 257
        assert (await seal_all(sealer(database, anchors))).size == size
        checkpoint, reader = await oracle_of(log)
        assert reader.calculate_root_hash() == checkpoint.root_hash
        for anchor in read_anchors(anchors.read_bytes(), KEY.verifier):
            assert reader.mth(0, anchor.size) == anchor.root

    for when in ("before", "after"):
        for place in count(1):
            append(conninfo, 257)
            was_killed = killed(conninfo, anchors, place, when)
            await check()
            if not was_killed:
                break
            kills += 1
    append(conninfo, 257)
    assert killed(conninfo, anchors, 0, "before anchoring")
    await check()
    assert kills >= 10
