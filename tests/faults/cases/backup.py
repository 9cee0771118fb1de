"""A backup taken under load, restored elsewhere, verified, and gone on from."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.faults.checks import check_all, until_quiet
from tests.faults.house import House, open_house
from tests.faults.ledger import Known
from tests.faults.node import Node
from tests.faults.scene import Case, Scene
from tests.support.processes import ROOT, environment

_RATE: Final = 80.0
_LOAD_SECONDS: Final = 4.0


async def run(scene: Scene) -> None:
    """Back up while orders pour in; then start Pulse on what was restored."""
    for number in range(scene.times):
        home = scene.home / str(number)
        home.mkdir(mode=0o711)
        source, restored = Node(home / "source"), Node(home / "restored")
        try:
            await asyncio.to_thread(_begin, source)
            known = await _load_and_copy(scene, home, source, restored)
            begun = time.monotonic()
            await asyncio.to_thread(restored.start)
            await _go_on(scene, home, restored, known)
            scene.recovered(time.monotonic() - begun)
            scene.injected()
        finally:
            for node in (source, restored):
                await asyncio.to_thread(node.stop_immediately)


def _begin(node: Node) -> None:
    node.make()
    node.start()


async def _load_and_copy(
    scene: Scene, home: Path, source: Node, restored: Node
) -> dict[tuple[str, str], Known]:
    """What was accepted before the backup began, which it must hold."""
    async with open_house(home / "before", scene.random, server=source, workers=1) as house:
        async with house.caller.load(rate=_RATE):
            await asyncio.sleep(_LOAD_SECONDS)
            known = house.ledger.read()
            await asyncio.to_thread(restored.copy_of, source, follow=False)
            await asyncio.sleep(1)
        scene.add(await house.reckon())
    return {name: order for name, order in known.items() if order.accepted_as is not None}


async def _go_on(
    scene: Scene, home: Path, restored: Node, known: dict[tuple[str, str], Known]
) -> None:
    """Pulse on the restored server finishes what was under way and takes new orders."""
    rows = await restored.fetch("SELECT max(notification_id) FROM stored_events")
    end_of_backup = int(rows[0][0])
    async with open_house(
        home / "after", scene.random, server=restored, apis=1, workers=1
    ) as house:
        placed = [await house.caller.place() for _ in range(5)]
        await until_quiet(restored.conninfo)
        positions = await house.server.fetch(
            "SELECT min(notification_id) FROM stored_events WHERE originator_id = ANY (%s)", placed
        )
        scene.require(
            positions[0][0] > end_of_backup, f"position {positions[0][0]} after {end_of_backup}"
        )
        verdict = await check_all(restored.conninfo, known | house.ledger.read(), house.readers)
        scene.require(not verdict.broken, f"restored: {'; '.join(verdict.broken)}")
        await _verify(scene, house)
    scene.fact(
        f"{len(known):,} orders accepted before the backup, whose log ends at {end_of_backup:,}"
    )


async def _verify(scene: Scene, house: House) -> None:
    """Every stored schedule derived again."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "pulse.cli", "splitter", "verify"],
        cwd=ROOT,
        env=environment({"database_url": house.server.url}),
        capture_output=True,
        text=True,
        check=False,
    )
    said = ended.stdout + ended.stderr
    scene.require(ended.returncode == 0, f"pulse splitter verify: {said[-500:]}")


CASE: Final = Case(
    name="backup",
    promise="a base backup taken under load and restored: it holds every order accepted before it "
    "began, all its schedules are verified, Pulse finishes what was under way in it, and new "
    "positions come after the old ones; recovery is from the start of the restored server to there",
    at_least=3,
    short=0,
    run=run,
)
