"""Group commit: the appends that arrive while one batch commits go together in the next."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import psycopg
import structlog
from eventsourcing.persistence import StoredEvent
from psycopg.errors import ReadOnlySqlTransaction, UniqueViolation

from pulse.eventstore.append_connection import (
    AppendConnection,
    ConnectionLimits,
    ConnectionLost,
)
from pulse.eventstore.append_health import AppendHealth, IdTaken, is_id_taken, reason_of
from pulse.eventstore.append_statements import PULSE_LOG, AppendStatements
from pulse.eventstore.batch import (
    Key,
    Outcome,
    PendingAppend,
    Positions,
    columns,
    stands_as_sent,
    take_batch,
)
from pulse.eventstore.errors import (
    AppendOutcomeUnknown,
    AppendQueueFull,
    AppendRefused,
)
from pulse.postgres import UNAVAILABLE_ERRORS, Connection, describe

_log = structlog.get_logger(__name__)
_REFUSALS: Final = (psycopg.OperationalError, ReadOnlySqlTransaction, IdTaken)
"""Nothing was written, and it is not the batch's fault: a lock not had in time, a full disk."""


class AppendLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the appender. A caller waits at most `answer_seconds` for its answer."""

    queue_events: int = 10_000
    batch_events: int = 1_000
    answer_seconds: float = 5.0
    first_retry_seconds: float = 0.02
    most_retry_seconds: float = 0.5
    connection: ConnectionLimits = ConnectionLimits()


class Appender:
    """Writes the appends of one process over one connection, many in one statement.

    Each caller gets its own result: its positions, VersionTaken, AppendRefused (nothing written)
    or AppendOutcomeUnknown. A lost reply is resolved by appending again, which waits for the lock
    behind whatever became of the first attempt, and by comparing the stored bytes on a conflict.

    While Postgres takes no appends (the table locked, the disk full) who waits already is tried
    again until the deadline; who comes then is refused at once, until a probe passes.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        on_commit: Callable[[], None],
        limits: AppendLimits | None = None,
        statements: AppendStatements = PULSE_LOG,
    ) -> None:
        self._statements = statements
        self._limits = limits or AppendLimits()
        self._connection = AppendConnection(self._connect, self._limits.connection)
        self._connect_once = connect
        self._on_commit = on_commit
        self._queue: deque[PendingAppend] = deque()
        self._queued_events = 0
        self._arrived = asyncio.Event()
        self._health = AppendHealth(self._connection, self._arrived.set)
        self._closing = False
        self._stuck: str | None = None
        self._probing = False
        self._suspect = False
        self._running: asyncio.Task[None] | None = None

    async def append(self, events: Sequence[StoredEvent]) -> Positions:
        """Append these events, all or none, and return their positions in the log.

        Raises:
            VersionTaken: another event stands at one of the versions; nothing was written.
            AppendRefused: nothing was written and nothing will be.
            AppendOutcomeUnknown: no answer in time; reading the stream will tell.
        """
        if not events:
            return ()
        self._refuse_if_hopeless(len(events))
        pending = self._enqueue(events)
        deadline = asyncio.get_running_loop().call_later(
            self._limits.answer_seconds, pending.give_up, self._limits.answer_seconds
        )
        try:
            return await pending.future
        finally:
            deadline.cancel()
            self._queued_events -= len(events)

    async def append_each(self, events: Sequence[StoredEvent]) -> list[Outcome]:
        """Append events of different streams: of each its positions, or what `append` would raise.

        At a fraction of what it costs one by one.
        """
        outcomes: list[Outcome | PendingAppend] = []
        for event in events:
            try:
                self._refuse_if_hopeless(1)
                outcomes.append(self._enqueue((event,)))
            except AppendRefused as refused:
                outcomes.append(refused)
        waiting = [outcome for outcome in outcomes if isinstance(outcome, PendingAppend)]
        await self._until_answered(waiting)
        return [o.outcome if isinstance(o, PendingAppend) else o for o in outcomes]

    async def _until_answered(self, waiting: Sequence[PendingAppend]) -> None:
        if not waiting:
            return
        seconds = self._limits.answer_seconds
        try:
            await asyncio.wait([pending.future for pending in waiting], timeout=seconds)
        except asyncio.CancelledError:
            for pending in waiting:
                pending.future.cancel()
            raise
        finally:
            self._queued_events -= len(waiting)
        for pending in waiting:
            pending.give_up(seconds)

    def _enqueue(self, events: Sequence[StoredEvent]) -> PendingAppend:
        pending = PendingAppend(events, asyncio.get_running_loop().create_future())
        self._queue.append(pending)
        self._queued_events += len(events)
        self._arrived.set()
        return pending

    async def fault(self) -> str | None:
        """Why an append would fail now, None if it would be written; answers within 2 s.

        While appends come this is their own outcome; else a probe runs, at most once a second,
        which appends no event and sends no notification. For Pulse's own log alone.
        """
        if self._closing:
            return "Pulse is stopping"
        if self._stuck is not None:
            return f"Postgres takes no appends: {self._stuck}"
        return await self._health.fault()

    async def run(self) -> None:
        """Connect, and write what arrives, until `drain` is asked for or it is cancelled."""
        self._running = asyncio.current_task()
        try:
            while not (self._closing and not self._queue):
                await self._connection.ensure()
                if self._stuck is not None and not self._queue:
                    await self._probe()
                    continue
                await self._arrived.wait()
                self._arrived.clear()
                while batch := take_batch(self._queue, self._limits.batch_events):
                    await self._write(batch)
                await self._health.probe_if_asked()
        finally:
            self._refuse_the_rest()
            await self._connection.end()

    def drain(self) -> None:
        """Take no more appends; `run` ends when those that wait are written.

        With Postgres away it ends at once: nobody knows when they could be.
        """
        self._closing = True
        self._arrived.set()
        if (self._connection.away is not None or self._probing) and self._running is not None:
            self._running.cancel()

    async def _connect(self) -> Connection:
        """Connect; a failure after `drain` ends `run`, as if Postgres had been away before."""
        try:
            return await self._connect_once()
        except psycopg.Error:
            if self._closing and self._running is not None:
                self._running.cancel()
            raise

    def _refuse_if_hopeless(self, events: int) -> None:
        if self._closing:
            raise AppendRefused("Pulse is stopping")
        if self._connection.away is not None:
            raise AppendRefused(f"Postgres is away: {self._connection.away}")
        if self._stuck is not None:
            raise AppendRefused(f"Postgres takes no appends: {self._stuck}")
        if self._queued_events + events > self._limits.queue_events:
            raise AppendQueueFull(f"{self._queued_events} events wait to be appended")

    async def _write(self, batch: list[PendingAppend]) -> None:
        """Write a batch to its end: every one of its callers has an answer or has given up."""
        pause = self._limits.first_retry_seconds
        try:
            while batch:
                await self._connection.ensure()
                batch = self._still_wanted(batch)  # connecting may have outlasted their deadline
                if batch and not await self._attempt(batch):
                    if self._suspect:
                        self._give_up(batch)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, self._limits.most_retry_seconds)
                batch = self._still_wanted(batch)
        except asyncio.CancelledError:
            for pending in batch:
                pending.fail(AppendOutcomeUnknown("Pulse stopped before the answer came"))
            raise

    def _give_up(self, batch: list[PendingAppend]) -> None:
        """The probe had passed and appends are refused all the same: let nobody wait for that."""
        for pending in batch:
            if pending.uncertain:
                pending.fail(AppendOutcomeUnknown(f"refused when asked again: {self._stuck}"))
            else:
                pending.fail(AppendRefused(f"Postgres takes no appends: {self._stuck}"))

    async def _probe(self) -> None:
        """Append nothing, under the locks of every append, until Postgres lets it pass.

        That it passes does not mean that there is space: the next batch is on trial.
        """
        pause = self._limits.first_retry_seconds
        self._probing = True
        try:
            while self._stuck is not None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._limits.most_retry_seconds)
                await self._connection.ensure()
                with contextlib.suppress(ConnectionLost, *_REFUSALS):
                    await self._insert_nothing()
                    self._stuck, self._suspect = None, True
        finally:
            self._probing = False

    async def _insert_nothing(self) -> None:
        parameters = (*columns(()), self._statements.lock)
        try:
            await self._connection.fetch(self._statements.append, parameters)
        except _REFUSALS:
            raise
        except psycopg.Error as error:  # not stuck: broken, which the next append shall tell
            _log.warning("append.probe_failed", error=describe(error))

    def _still_wanted(self, batch: list[PendingAppend]) -> list[PendingAppend]:
        """Leave out who has an answer or gave up; who followed one that gave up comes next."""
        for pending in batch:
            if pending.future.done():
                self._queue_followers(pending)
        return [pending for pending in batch if not pending.future.done()]

    async def _attempt(self, batch: list[PendingAppend]) -> bool:
        """Try once; False if it should be tried again after a pause."""
        for pending in batch:
            pending.sent = True
        try:
            await self._insert_and_settle(batch)
        except ConnectionLost as error:
            self._health.failed(error)
            _log.warning("append.reply_lost", appends=len(batch), error=str(error))
            for pending in batch:
                pending.uncertain = True
        except _REFUSALS as error:
            self._stuck = reason_of(error)
            self._health.failed(error)
            _log.warning("append.refused_by_postgres", appends=len(batch), error=self._stuck)
            for pending in batch:
                pending.sent = False
            return False
        except Exception as error:  # noqa: BLE001 - one append's fault must not touch another's
            await self._isolate(batch, error)
        else:
            self._stuck, self._suspect = None, False
            self._health.succeeded()
        return True

    async def _isolate(self, batch: list[PendingAppend], error: Exception) -> None:
        """The statement failed for good: tell the one it belongs to, or try each by itself."""
        for pending in batch:
            pending.sent = False
        if len(batch) > 1:
            for pending in batch:
                await self._write([pending])
            return
        self._health.failed(error)
        if batch[0].uncertain:  # an earlier try may have written it
            unknown = AppendOutcomeUnknown(f"failed when asked again: {describe(error)}")
            unknown.__cause__ = error
            batch[0].fail(unknown)
        elif isinstance(error, UNAVAILABLE_ERRORS):
            refused = AppendRefused(describe(error))
            refused.__cause__ = error
            batch[0].fail(refused)
        else:
            batch[0].fail(error)

    async def _insert_and_settle(self, batch: list[PendingAppend]) -> None:
        positions = await self._insert(batch)
        if positions:
            self._on_commit()
        lost = []
        for pending in batch:
            own = [positions[key] for key in pending.keys if key in positions]
            if own:
                pending.settle(tuple(own))
                self._settle_followers(pending)
            else:
                lost.append(pending)
        await self._settle_lost(lost)

    async def _settle_lost(self, lost: list[PendingAppend]) -> None:
        """Tell who lost to another, and who only to an earlier try of their own."""
        uncertain = [pending for pending in lost if pending.uncertain]
        stored = await self._stored(uncertain) if uncertain else {}
        if stored:
            self._on_commit()  # their commit was never heard of
        for pending in lost:
            pending.settle(stands_as_sent(pending, stored) if pending.uncertain else None)
            self._settle_followers(pending)

    async def _insert(self, batch: list[PendingAppend]) -> dict[Key, int]:
        """The positions of what this statement wrote; an append that lost is left out."""
        say = self._statements
        statement = say.append if batch[0].is_single else say.append_or_fail
        try:
            rows = await self._connection.fetch(statement, (*columns(batch), say.lock))
        except UniqueViolation as error:
            if is_id_taken(error):
                raise IdTaken from error
            if len(batch) > 1:
                raise
            return {}
        return {(row[0], row[1]): row[2] for row in rows}

    async def _stored(self, batch: list[PendingAppend]) -> dict[Key, Sequence[Any]]:
        ids, versions, _, _ = columns(batch)
        rows = await self._connection.fetch(self._statements.select_stored, (ids, versions))
        return {(row[0], row[1]): row for row in rows}

    def _settle_followers(self, leader: PendingAppend) -> None:
        """A single leader's key now stands, whoever wrote it: who followed has lost it."""
        if leader.is_single:
            for follower in leader.followers:
                follower.settle(None)
            leader.followers.clear()
        self._queue_followers(leader)

    def _queue_followers(self, leader: PendingAppend) -> None:
        """Put who followed at the front of the queue, in their order."""
        if leader.followers:
            self._queue.extendleft(reversed(leader.followers))
            leader.followers.clear()
            self._arrived.set()

    def _refuse_the_rest(self) -> None:
        while self._queue:
            self._queue.popleft().fail(AppendRefused("Pulse is stopping"))
