"""A restore to a point in time, with the commands of the how-to, and what readers do after it."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import msgspec

from pulse.evidence.key_file import read_key_file
from tests.faults.case import Case, CaseRun
from tests.faults.checks import SealFiles, until_quiet
from tests.faults.deployment import (
    SERVICE_HEADERS,
    SERVICE_TOKEN,
    Deployment,
    open_deployment,
)
from tests.faults.ledger import Known, Orders
from tests.faults.node import Node
from tests.support.processes import ROOT, environment

_ORDERS_PER_SECOND: Final = 50.0
_LOAD_SECONDS: Final = 2.0
_AT_ONCE: Final = 16
_ARCHIVE_SECONDS: Final = 60.0
_COMMAND_SECONDS: Final = 120.0
_EXECUTOR_SECONDS: Final = 60.0
_ANOTHER_LOG: Final = 3
"""The exit code of the example executors."""

_HOW_TO: Final = ROOT / "docs" / "how-to" / "fail-over-and-back-up.md"
_ARCHIVE: Final = "/srv/pulse/wal"
_TIME: Final = "2026-11-27 09:41:00+00"


async def run(case_run: CaseRun) -> None:
    """Restore to a time under load; then fork the log and start Pulse on the restored server."""
    for number in range(case_run.times):
        home = case_run.home / str(number)
        home.mkdir(mode=0o711)
        rehearsal = _Rehearsal(case_run, home)
        try:
            await rehearsal.run()
            case_run.injected()
        finally:
            await rehearsal.close()


class _Rehearsal:
    def __init__(self, case_run: CaseRun, home: Path) -> None:
        self._case_run = case_run
        self._home = home
        self._archive = home / "wal"
        self._source = Node(home / "source", archive_settings(self._archive))
        self._restored = Node(home / "restored")
        self._executor: subprocess.Popen[bytes] | None = None
        self._store = home / "executor.db"

    async def run(self) -> None:
        """The whole rehearsal."""
        await asyncio.to_thread(self._create)
        known, ledger, moment = await self._run_until_lost()
        begun = time.monotonic()
        await asyncio.to_thread(self._restore, moment)
        await self._until_recovered()
        end = await self._end_of_log()
        fork = await self._fork()
        self._case_run.require(
            fork["fork"]["position"] == end, f"the log ends at position {end}, forked at: {fork}"
        )
        await self._continue(known, ledger, fork, begun)

    async def close(self) -> None:
        """End what was started."""
        await asyncio.to_thread(self._stop_executor)
        for node in (self._source, self._restored):
            await asyncio.to_thread(node.stop_immediately)

    def _create(self) -> None:
        self._source.create_directory(self._archive)
        self._source.make()
        self._source.start()

    async def _run_until_lost(self) -> tuple[Orders, Orders, datetime]:
        """Take a base backup under load, then stop the server as if it were lost.

        Returns the orders accepted before the target time, all orders accepted, and that time.
        """
        async with open_deployment(
            self._home / "before", self._case_run.random, server=self._source, apis=1, workers=1
        ) as deployment:
            self._executor = self._start_executor(deployment)
            async with deployment.caller.load(rate=_ORDERS_PER_SECOND):
                await asyncio.sleep(_LOAD_SECONDS)
                await asyncio.to_thread(self._restored.copy_of, self._source, follow=False)
                await asyncio.sleep(_LOAD_SECONDS)
                known = deployment.ledger.read()
                ((moment,),) = await self._source.fetch("SELECT clock_timestamp()")
                await asyncio.sleep(_LOAD_SECONDS)
            await until_quiet(self._source.conninfo)
            end = await self._end_of(self._source)
            await asyncio.gather(*(reader.until_at(end) for reader in deployment.readers))
            await self._until_executor_read(end)
            ledger = deployment.ledger.read()
        await self._until_archived()
        await asyncio.to_thread(self._source.stop_immediately)
        return _accepted(known), _accepted(ledger), moment

    def _start_executor(self, deployment: Deployment) -> subprocess.Popen[bytes]:
        with (self._home / "executor.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, str(ROOT / "examples" / "executor.py")),
                    *(deployment.apis[0].url, str(self._store)),
                ],
                env={**environment({}), "PULSE_SERVICE_TOKEN": SERVICE_TOKEN},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _stop_executor(self) -> None:
        if self._executor is not None:
            self._executor.kill()
            self._executor.wait()

    async def _until_executor_read(self, end: int) -> None:
        """Wait until the executor has executed the last release up to this position."""
        ((last,),) = await self._source.fetch(
            "SELECT max(notification_id) FROM stored_events"
            " WHERE topic = 'pulse.domain:SlicesReleased' AND notification_id <= %s",
            end,
        )
        async with asyncio.timeout(_EXECUTOR_SECONDS):
            while self._executed_to() < last:
                await asyncio.sleep(0.1)

    def _executed_to(self) -> int:
        output = _read_sqlite(self._store, "SELECT position FROM place")
        return output[0][0] if output else 0

    async def _until_archived(self) -> None:
        """Let the server archive what it has, as `archive_timeout` does after a minute."""
        ((segment,),) = await self._source.fetch("SELECT pg_walfile_name(pg_switch_wal())")
        async with asyncio.timeout(_ARCHIVE_SECONDS):
            while not (self._archive / segment).exists():
                await asyncio.sleep(0.05)

    def _restore(self, moment: datetime) -> None:
        self._restored.recover(_recovery_settings(self._archive, moment))
        self._restored.start()

    async def _until_recovered(self) -> None:
        async with asyncio.timeout(_ARCHIVE_SECONDS):
            while await self._restored.fetch("SELECT pg_is_in_recovery()") != [(False,)]:
                await asyncio.sleep(0.05)

    async def _end_of_log(self) -> int:
        return await self._end_of(self._restored)

    async def _end_of(self, node: Node) -> int:
        ((end,),) = await node.fetch("SELECT coalesce(max(notification_id), 0) FROM stored_events")
        return int(end)

    async def _fork(self) -> Any:
        """`pulse log fork` with the anchors of the lost server, which the new host gets too."""
        kept, anchors = self._home / "before" / "anchors.txt", self._home / "after" / "anchors.txt"
        anchors.parent.mkdir(mode=0o755)
        await asyncio.to_thread(shutil.copy, kept, anchors)
        code, output = await self._pulse("log", "fork", "--reason", "rehearsal", "--yes", "--json")
        self._case_run.require(code == 0, f"pulse log fork: {output}")
        return msgspec.json.decode(output)

    async def _continue(self, known: Orders, ledger: Orders, fork: Any, begun: float) -> None:
        """Start Pulse, let every caller send its orders again, and compare."""
        async with open_deployment(
            self._home / "after", self._case_run.random, server=self._restored, apis=1, workers=1
        ) as deployment:
            self._case_run.recovered(time.monotonic() - begun)
            lost = await self._missing_of(deployment, ledger)
            early = known.keys() & lost
            self._case_run.require(
                not early, f"{len(early)} orders lost that are older than the target time: {early}"
            )
            self._case_run.require(bool(lost), "no order was lost, so nothing was rehearsed")
            await self._require_executor_stopped(deployment, fork["fork"])
            await self._send_again(deployment, ledger)
            verdict = await deployment.verify(ledger)
            self._case_run.add(verdict)
            await self._check_proofs(deployment, ledger, lost, fork)
        self._case_run.fact(
            f"{len(ledger):,} orders accepted, {len(lost):,} of them lost after the target time; "
            f"forked at position {fork['fork']['position']:,}, "
            f"{fork['fork']['known_size'] - fork['fork']['size']:,} sealed events lost"
        )

    async def _send_again(self, deployment: Deployment, ledger: Orders) -> None:
        """Send every order again with its key, some at a time."""
        free = asyncio.Semaphore(_AT_ONCE)

        async def send(order: Known) -> None:
            async with free:
                await deployment.caller.place(msgspec.json.decode(order.request), order.scope)

        async with asyncio.TaskGroup() as orders:
            for order in ledger.values():
                orders.create_task(send(order))

    async def _missing_of(self, deployment: Deployment, ledger: Orders) -> set[tuple[str, str]]:
        """The accepted orders that the API does not have: those that were lost."""
        missing: set[tuple[str, str]] = set()
        async with aiohttp.ClientSession(headers=SERVICE_HEADERS) as http:
            for name, order in ledger.items():
                url = f"{deployment.apis[0].url}/internal/orders/{order.order_id}"
                async with http.get(url) as response:
                    if response.status == HTTPStatus.NOT_FOUND:
                        missing.add(name)
                    else:
                        self._case_run.require(response.ok, f"{response.status} from {url}")
        return missing

    async def _require_executor_stopped(self, deployment: Deployment, fork: Any) -> None:
        """The executor that read the lost part stops, with both identities in its message."""
        await asyncio.to_thread(self._stop_executor)
        executed, old_log, new_log = self._executed_to(), fork["old_log_id"], fork["new_log_id"]
        self._case_run.require(
            executed > fork["position"],
            f"the executor read to {executed}, no further than the fork at {fork['position']}",
        )
        self._executor = self._start_executor(deployment)
        code = await asyncio.to_thread(self._executor.wait, _EXECUTOR_SECONDS)
        said = (self._home / "executor.log").read_text()
        self._case_run.require(code == _ANOTHER_LOG, f"the executor exited with {code}: {said}")
        self._case_run.require(
            "POSITION_BEYOND_LOG" in said or (old_log in said and new_log in said),
            f"the executor did not say why it stopped: {said}",
        )
        self._case_run.require(
            self._executed_to() == executed, "the executor changed its position before it stopped"
        )

    async def _check_proofs(
        self, deployment: Deployment, ledger: Orders, lost: set[tuple[str, str]], fork: Any
    ) -> None:
        """`pulse verify` names the fork, and evidence packs verify with the first key."""
        code, output = await self._pulse("verify", "--json")
        verified = msgspec.json.decode(output)
        forks = [each["new_log_id"] for each in verified["forks"]]
        self._case_run.require(
            (code, forks) == (0, [fork["fork"]["new_log_id"]]), f"pulse verify: {output}"
        )
        self._case_run.require(
            verified["earlier_anchors"] > 0, "no anchor belongs to the log before the fork"
        )
        key = str(read_key_file(deployment.seal.seal_key).verifier)
        kept = next(order.order_id for name, order in ledger.items() if name not in lost)
        again = next(order.order_id for name, order in ledger.items() if name in lost)
        for order_id in (kept, again):
            await self._check_pack(order_id, key, deployment.seal)

    async def _check_pack(self, order_id: UUID, key: str, seal: SealFiles) -> None:
        pack = self._home / f"{order_id}.tar"
        code, output = await self._pulse("evidence", "--order", str(order_id), "-o", str(pack))
        self._case_run.require(code == 0, f"pulse evidence: {output}")
        anchors = ("--anchors", str(seal.anchor_file))
        code, output = await self._pulse("verify", str(pack), "--key", key, *anchors)
        self._case_run.require(code == 0, f"pulse verify of a pack: {code}: {output}")

    async def _pulse(self, *arguments: str) -> tuple[int, str]:
        """Run a command on the restored server, with the files of the seal."""
        seal = SealFiles.of(self._home / "after")
        settings = {"database_url": self._restored.url, **msgspec.structs.asdict(seal)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pulse.cli", *arguments),
            cwd=ROOT,
            env=environment(settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(_COMMAND_SECONDS):
            output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, (output or errors).decode()


def _accepted(orders: Orders) -> Orders:
    return {name: order for name, order in orders.items() if order.accepted_as is not None}


def archive_settings(archive: Path) -> dict[str, str]:
    """The settings of the primary that the how-to gives, with this archive."""
    found = dict(re.findall(r"^ +(archive_\w+) = '?(.*?)'?$", _HOW_TO.read_text(), re.MULTILINE))
    assert found.keys() == {"archive_mode", "archive_command", "archive_timeout"}, found
    assert _ARCHIVE in found["archive_command"]
    return {name: value.replace(_ARCHIVE, str(archive)) for name, value in found.items()}


def _recovery_settings(archive: Path, moment: datetime) -> str:
    """The settings of the restored server that the how-to gives, with this archive and time."""
    lines = re.findall(
        r"^ +((?:restore_command|recovery_target_\w+) = '.*')$", _HOW_TO.read_text(), re.MULTILINE
    )
    text = "".join(f"{line}\n" for line in lines)
    assert _TIME in text, text
    assert _ARCHIVE in text, text
    chosen = moment.astimezone(UTC).isoformat(sep=" ")
    return text.replace(_TIME, chosen).replace(_ARCHIVE, str(archive))


def _read_sqlite(file: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    except sqlite3.OperationalError:  # it is not created yet
        return []
    finally:
        connection.close()


CASE: Final = Case(
    name="restore",
    promise="The WAL is archived under load, the server lost, and a base backup restored to a "
    "time in between. After `pulse log fork` Pulse runs on it: it has every order that was "
    "accepted before that time, callers who send all their orders again place none twice, an "
    "executor that has read further stops and says why, the seal continues, and `pulse verify` and "
    "evidence packs pass with the first key. Recovery: from the start of the restored server "
    "until Pulse answers on it",
    at_least=3,
    short=1,
    run=run,
)
