"""A backup taken under load, restored, verified, and continued by Pulse."""

import asyncio
import time
from pathlib import Path
from typing import Final

from tests.faults.case import Case, CaseRun
from tests.faults.checks import until_quiet
from tests.faults.deployment import open_deployment
from tests.faults.ledger import Orders
from tests.faults.node import Node

_ORDERS_PER_SECOND: Final = 80.0
_LOAD_SECONDS: Final = 4.0


async def run(case_run: CaseRun) -> None:
    """Back up under load; then start Pulse on the restored server."""
    for number in range(case_run.times):
        home = case_run.home / str(number)
        home.mkdir(mode=0o711)
        source, restored = Node(home / "source"), Node(home / "restored")
        try:
            await asyncio.to_thread(_create, source)
            known = await _back_up_under_load(case_run, home, source, restored)
            begun = time.monotonic()
            await asyncio.to_thread(restored.start)
            await _continue(case_run, home, restored, known)
            case_run.recovered(time.monotonic() - begun)
            case_run.injected()
        finally:
            for node in (source, restored):
                await asyncio.to_thread(node.stop_immediately)


def _create(node: Node) -> None:
    node.make()
    node.start()


async def _back_up_under_load(
    case_run: CaseRun, home: Path, source: Node, restored: Node
) -> Orders:
    """Back up under load; returns the orders accepted before, which the backup must contain."""
    async with open_deployment(
        home / "before", case_run.random, server=source, workers=1
    ) as deployment:
        async with deployment.caller.load(rate=_ORDERS_PER_SECOND):
            await asyncio.sleep(_LOAD_SECONDS)
            known = deployment.ledger.read()
            await asyncio.to_thread(restored.copy_of, source, follow=False)
            await asyncio.sleep(1)
        case_run.add(await deployment.verify())
    return {name: order for name, order in known.items() if order.accepted_as is not None}


async def _continue(case_run: CaseRun, home: Path, restored: Node, known: Orders) -> None:
    """Check that Pulse on the restored server completes pending orders and accepts new ones."""
    rows = await restored.fetch("SELECT max(notification_id) FROM stored_events")
    end_of_backup = int(rows[0][0])
    async with open_deployment(
        home / "after", case_run.random, server=restored, apis=1, workers=1
    ) as deployment:
        placed = [await deployment.caller.place() for _ in range(5)]
        await until_quiet(restored.conninfo)
        positions = await deployment.server.fetch(
            "SELECT min(notification_id) FROM stored_events WHERE originator_id = ANY (%s)", placed
        )
        case_run.require(
            positions[0][0] > end_of_backup,
            f"new position {positions[0][0]} is not after {end_of_backup}",
        )
        verdict = await deployment.verify(known)
        case_run.require(not verdict.broken, f"restored: {'; '.join(verdict.broken)}")
    case_run.fact(
        f"{len(known):,} orders accepted before the backup; its log ends at position"
        f" {end_of_backup:,}"
    )


CASE: Final = Case(
    name="backup",
    promise="A base backup is taken under load and restored: it contains every order accepted "
    "before it began, log and queue pass verification, Pulse completes its pending orders, and "
    "new positions follow the old ones. Recovery: from the start of the restored server until all "
    "of this is done",
    at_least=3,
    short=0,
    run=run,
)
