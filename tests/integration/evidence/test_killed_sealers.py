"""The tree is continued correctly after a sealer is killed (SIGKILL) at each of its statements."""

import subprocess
import sys
from pathlib import Path

from pulse.evidence.anchors import read_anchors
from pulse.evidence.tree import SealedLog
from pulse.postgres import Database
from tests.support.processes import ROOT
from tests.support.seal import KEY, oracle_of, seal_all, sealer

EVENTS = 257

KILLED = """
import asyncio, os, signal, sys
from itertools import count
from pathlib import Path
import psycopg
from pulse.evidence.anchors import AnchorFile
from pulse.evidence.sealer import SealFault
from pulse.postgres import Database
from tests.support.seal import append, sealer

conninfo, anchors, events = sys.argv[1:]
execute = psycopg.AsyncCursor.execute

def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def seal(place, when):
    database, executed = Database(conninfo, pool_size=1), 0
    await database.open()

    async def execute_or_die(self, *arguments, **options):
        nonlocal executed
        executed += 1
        if executed == place and when == "before":
            die()
        result = await execute(self, *arguments, **options)
        if executed == place and when == "after":
            die()
        return result

    async with database.connection():
        psycopg.AsyncCursor.execute = execute_or_die
    if when == "before anchoring":
        AnchorFile.append = lambda *_: die()
    result = await sealer(database, Path(anchors)).run_once()
    await database.close()
    return 3 if isinstance(result, SealFault) else 0

def was_killed(place, when):
    append(conninfo, int(events))
    child = os.fork()
    if child == 0:
        os._exit(asyncio.run(seal(place, when)))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 3:
        sys.exit(f"the tree was damaged before statement {place}")
    return code == -signal.SIGKILL

kills = 0
for when in ("before", "after"):
    for place in count(1):
        if not was_killed(place, when):
            break
        kills += 1
kills += was_killed(0, "before anchoring")
print(kills)
"""


def kill_sealers(conninfo: str, anchors: Path) -> int:
    """Kill a sealer at each place; returns the number of places."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, conninfo, str(anchors), str(EVENTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout.splitlines()[-1])


async def test_the_tree_is_correct_after_a_sealer_is_killed_at_each_statement(
    database: Database, conninfo: str, tmp_path: Path
) -> None:
    anchors = tmp_path / "anchors.txt"
    kills = kill_sealers(conninfo, anchors)
    assert kills >= 11
    assert (await seal_all(sealer(database, anchors))).size == EVENTS * (kills + 2)
    checkpoint, reader = await oracle_of(SealedLog(database))
    assert reader.calculate_root_hash() == checkpoint.root_hash
    kept = read_anchors(anchors.read_bytes(), KEY.verifier)
    assert kept
    for anchor in kept:
        assert reader.mth(0, anchor.size) == anchor.root
