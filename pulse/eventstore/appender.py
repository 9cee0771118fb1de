"""Group commit: appends that arrive while a batch commits are written together in the next one."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, LiteralString
from uuid import UUID

import msgspec
import psycopg
import structlog
from eventsourcing.persistence import StoredEvent

from pulse import metrics
from pulse.eventstore.append_connection import (
    APPEND_EVENTS,
    LOG_LOCK,
    AppendConnection,
    Fetch,
    append_and_roll_back,
    append_nothing,
)
from pulse.eventstore.append_spans import commit_span
from pulse.eventstore.append_state import (
    REFUSALS,
    Accepting,
    ConnectionLost,
    Disconnected,
    Draining,
    HalfOpen,
    IdTaken,
    NotConfirmed,
    Probing,
    Recovering,
    State,
    fault_in,
    is_id_taken,
    refusal_in,
    refusal_reason,
    state_after,
)
from pulse.eventstore.batch import (
    NEVER,
    AppendCondition,
    AppendResult,
    Key,
    PendingAppend,
    Positions,
    SendState,
    columns,
    condition_columns,
    stored_as_sent,
    take_batch,
)
from pulse.eventstore.errors import (
    AppendOutcomeUnknown,
    AppendQueueFull,
    AppendRefused,
    ConditionFailed,
    VersionTaken,
)
from pulse.postgres import UNAVAILABLE_ERRORS, Connection, describe, load_sql
from pulse.retry import Retry, RetryPolicy

if TYPE_CHECKING:
    from pulse.spans import Span, Spans

MAX_PROBE_SECONDS: Final = 2.0
"""A probe that gets no answer within this time is a readiness fault."""

_STATE_FRESH_SECONDS: Final = 1.0
_APPEND_EVENTS_OR_FAIL: Final = load_sql(__package__, "append_events_or_fail")
_SELECT_STORED: Final = load_sql(__package__, "select_stored")
_log = structlog.get_logger(__name__)


class AppendLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the appender. A caller waits at most `answer_seconds` for its result.

    `statement_seconds` is above the server's statement_timeout, so that the server answers first.
    """

    queue_events: int = 10_000
    batch_events: int = 1_000
    answer_seconds: float = 5.0
    statement_seconds: float = 12.0
    retry: RetryPolicy = RetryPolicy(first_seconds=0.02, max_seconds=0.5)


class Appender:
    """Writes the appends of one process over one connection, many in one statement.

    Each caller gets its own result: its positions, VersionTaken, ConditionFailed, AppendRefused
    (nothing written) or AppendOutcomeUnknown. After a lost reply the appender appends again, which
    waits for the lock until the first attempt has ended. On a conflict it compares the stored bytes
    with its own.

    The appender is a circuit breaker (see `append_state`). While Postgres refuses appends (a lock,
    a full disk), queued appends are retried until their deadline, and new ones are refused at once
    until a retry or a probe succeeds.

    An append can have a condition, which Postgres checks under the lock: the stream `guard_stream`
    still has the version that the caller has read, and the given time has not passed.

    With `spans`, each commit is a span that is linked with the spans of its appends.

    With `require_standby`, an append is refused while `synchronous_standby_names` of Postgres is
    empty. If that is emptied during the commit, the outcome is unknown until a standby has the
    commit.
    """

    def __init__(  # noqa: PLR0913 - what may differ between processes
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        on_commit: Callable[[], None],
        guard_stream: UUID | None = None,
        limits: AppendLimits | None = None,
        spans: "Spans | None" = None,
        require_standby: bool = False,
    ) -> None:
        self._limits = limits or AppendLimits()
        self._spans = spans
        self._guard_stream = guard_stream
        self._connection = AppendConnection(
            connect, self._limits.statement_seconds, require_standby=require_standby
        )
        self._on_commit = on_commit
        self._timeout_reason = f"no answer from Postgres within {self._limits.answer_seconds:g} s"
        self._queue: deque[PendingAppend] = deque()
        self._unanswered: deque[PendingAppend] = deque()
        self._unanswered_events = 0
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work = asyncio.Event()
        self.state: State = Accepting()
        self._state_known_at = float("-inf")
        self._requested_probe: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def queued_events(self) -> int:
        """How many events have no answer yet."""
        return self._unanswered_events

    async def append(self, events: Sequence[StoredEvent], span: "Span | None" = None) -> Positions:
        """Append these events, all or none, and return their positions in the log.

        Raises:
            VersionTaken: another event has one of the versions; nothing was written.
            AppendRefused: nothing was written, and nothing will be.
            AppendOutcomeUnknown: no answer in time; a retry resolves it, a read does not.
        """
        if not events:
            return ()
        pending = self._enqueue(events, span=span)
        if pending.future.done():
            return pending.future.result()
        try:
            return await pending.future
        finally:
            self._unanswered_events -= len(events)

    async def append_each(
        self,
        events: Sequence[StoredEvent],
        conditions: Sequence[AppendCondition | None] | None = None,
        spans: "Sequence[Span | None] | None" = None,
    ) -> list[AppendResult]:
        """Append events of different streams; returns for each its positions or its error.

        `conditions` and `spans` have one entry for each event. If a condition does not hold, the
        error is ConditionFailed. This is much cheaper than calls of `append`.
        """
        none = [None] * len(events)
        appends = [
            self._enqueue((event,), condition, span)
            for event, condition, span in zip(
                events, conditions or none, spans or none, strict=True
            )
        ]
        waiting = [append.future for append in appends if not append.future.done()]
        try:
            for future in waiting:  # those of one commit are done together
                if not future.done():
                    with contextlib.suppress(Exception):
                        await future
        except asyncio.CancelledError:
            for future in waiting:
                future.cancel()
            raise
        finally:
            self._unanswered_events -= len(waiting)
        return [append.future.exception() or append.future.result() for append in appends]

    async def confirm(self, event: StoredEvent) -> None:
        """Return once the replicas that confirm commits have this stored event. Writes no event.

        A read also sees events that no replica has and that a failover would lose (see
        `AppendConnection.confirm`). So an answer that comes only from a read is confirmed first.

        Raises:
            AppendRefused: appends are refused now, so the event cannot be confirmed.
            AppendOutcomeUnknown: the event was not confirmed in time, or is no longer in the log.
        """
        (result,) = await self.append_each((event,), [NEVER])
        if isinstance(result, ConditionFailed | VersionTaken):
            lost = f"the log has lost version {event.originator_version} of {event.originator_id}"
            raise AppendOutcomeUnknown(lost) from result
        if isinstance(result, BaseException):
            raise result

    def _enqueue(
        self,
        events: Sequence[StoredEvent],
        condition: AppendCondition | None = None,
        span: "Span | None" = None,
    ) -> PendingAppend:
        """A queued append, or one that has already been refused."""
        # up to Python 3.11 get_running_loop makes a system call
        loop = self._loop = self._loop or asyncio.get_running_loop()
        deadline = loop.time() + self._limits.answer_seconds
        pending = PendingAppend(events, loop.create_future(), deadline, condition, span)
        if refusal := refusal_in(self.state):
            pending.fail(AppendRefused(refusal))
        elif self._unanswered_events + len(events) > self._limits.queue_events:
            full = f"the append queue is full: {self._unanswered_events} events"
            pending.fail(AppendQueueFull(full))
        else:
            self._unanswered_events += len(events)
            self._queue.append(pending)
            self._work.set()
            while self._unanswered and self._unanswered[0].future.done():
                self._unanswered.popleft()
            self._unanswered.append(pending)
            if self._deadline_timer is None:
                self._deadline_timer = loop.call_at(deadline, self._expire, deadline)
        return pending

    def _expire(self, due: float) -> None:
        """Answer the appends whose deadline has passed. Deadlines ascend, so one timer suffices.

        The deadline `due` counts as passed, even if the timer fires slightly before it.
        """
        assert self._loop is not None  # noqa: S101 - for the type checker: the loop made the timer
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
            self._deadline_timer = None
        now = max(due, self._loop.time())
        while self._unanswered:
            oldest = self._unanswered[0]
            deadline = oldest.deadline
            if not oldest.future.done() and deadline > now:
                self._deadline_timer = self._loop.call_at(deadline, self._expire, deadline)
                return
            oldest.give_up(self._timeout_reason)
            self._unanswered.popleft()

    async def fault(self) -> str | None:
        """Why an append would fail now, None if it would succeed; answers within 2 s.

        Under load the result of recent appends is used. Otherwise a probe runs, at most once a
        second; it leaves no event and sends no notification.
        """
        stale = asyncio.get_running_loop().time() - self._state_known_at > _STATE_FRESH_SECONDS
        if stale and refusal_in(self.state) is None:
            if self._requested_probe is None:
                self._requested_probe = asyncio.get_running_loop().create_future()
                self._work.set()
            done, _ = await asyncio.wait({self._requested_probe}, timeout=MAX_PROBE_SECONDS)
            if not done and refusal_in(self.state) is None:
                return f"the log accepted no append within {MAX_PROBE_SECONDS:g} s"
        return fault_in(self.state)

    def drain(self) -> None:
        """Refuse new appends; `run` returns when the queued ones are written.

        `run` is cancelled at once if Postgres cannot be reached, or refuses appends and none is
        queued.
        """
        before = self.state
        self._enter(Draining())
        self._work.set()
        nothing_to_write = isinstance(before, Disconnected) or (
            isinstance(before, Probing) and not self._unanswered_events
        )
        if nothing_to_write and self._running is not None:
            self._running.cancel()

    async def run(self) -> None:
        """Connect and write appends until `drain` or cancellation."""
        self._running = asyncio.current_task()
        try:
            while self._queue or not isinstance(self.state, Draining):
                await self._ensure_connected()
                if isinstance(self.state, Probing) and not self._queue:
                    await self._probe_until_success()
                await self._work.wait()
                self._work.clear()
                while batch := self._take_batch():
                    await self._write(batch)
                if self._requested_probe is not None:
                    await self._probe()
        finally:
            for pending in self._queue:
                pending.give_up("Pulse is stopping")
            self._queue.clear()
            await self._connection.close()

    def _enter(self, state: State) -> None:
        """Change the state and store the time. Draining is final."""
        before = self.state
        if not isinstance(before, Draining):
            self.state = state
        if isinstance(state, Disconnected) and not isinstance(before, Disconnected):
            _log.warning("append.postgres_unreachable", error=state.reason)
        if isinstance(state, Probing) and not isinstance(before, Probing):
            _log.warning("append.refused_by_postgres", error=state.reason)
        self._state_known_at = asyncio.get_running_loop().time()
        if self._requested_probe is not None:
            self._requested_probe.set_result(None)
            self._requested_probe = None

    async def _ensure_connected(self) -> None:
        """Connect, retrying without a limit; while draining, try once."""
        retry = Retry(self._limits.retry)
        while not self._connection.is_open:
            try:
                await self._connection.open()
            except psycopg.Error as error:
                if isinstance(self.state, Draining):
                    raise asyncio.CancelledError("stopping, Postgres cannot be reached") from error
                self._enter(Disconnected(describe(error)))
                await retry.wait()
        if isinstance(self.state, Disconnected):
            self._enter(Recovering(f"Postgres could not be reached: {self.state.reason}"))
            self._state_known_at = float("-inf")

    async def _probe_until_success(self) -> None:
        retry = Retry(self._limits.retry)
        while isinstance(self.state, Probing):
            await retry.wait()
            await self._ensure_connected()
            await self._probe()

    async def _probe(self) -> None:
        """Try an append that leaves no event: without an insert if nothing has failed."""
        before = self.state
        probe = append_nothing if isinstance(before, Accepting) else append_and_roll_back
        try:
            try:
                await self._run_probe(probe)
            except ConnectionLost:  # it may have broken while idle: try again, as an append does
                await self._ensure_connected()
                await self._run_probe(probe)
        except (ConnectionLost, psycopg.Error) as error:
            self._enter(state_after(error) or Recovering(refusal_reason(error)))
        else:
            self._enter(HalfOpen() if isinstance(before, Probing) else Accepting())

    async def _run_probe(self, probe: Callable[[Fetch], Awaitable[None]]) -> None:
        await self._connection.check_standby()
        await probe(self._connection.fetch)
        await self._connection.check_standby()

    def _take_batch(self) -> list[PendingAppend]:
        return take_batch(self._queue, self._limits.batch_events, self._guard_stream)

    async def _write(self, batch: list[PendingAppend]) -> None:
        """Write a batch, with retries, until each of its callers has an answer or has given up."""
        retry = Retry(self._limits.retry)
        try:
            while True:
                await self._ensure_connected()
                now = asyncio.get_running_loop().time()
                if self._unanswered and self._unanswered[0].deadline <= now:
                    self._expire(now)  # after a freeze of the process the timer has not fired yet
                batch = [pending for pending in batch if not pending.future.done()]
                if not batch:
                    return
                was_half_open = isinstance(self.state, HalfOpen)
                refused = await self._attempt(batch, retry)
                if refused is not None and was_half_open:
                    for pending in batch:
                        pending.give_up(f"Postgres refuses appends: {refused}")
                elif refused is not None:
                    await retry.wait()
        except asyncio.CancelledError:
            for pending in batch:
                pending.give_up("Pulse stopped before the answer came")
            raise

    async def _attempt(self, batch: list[PendingAppend], retry: Retry) -> str | None:
        """Try once; the reason if Postgres refused, else None."""
        for pending in batch:
            pending.mark_sent()
        try:
            await self._insert(batch)
        except ConnectionLost as error:
            _log.warning("append.reply_lost", appends=len(batch), error=str(error))
            for pending in batch:
                pending.send_state = SendState.UNCERTAIN
            self._enter(Recovering(str(error)))
            if isinstance(error, NotConfirmed):
                await retry.wait()
        except REFUSALS as error:
            for pending in batch:
                pending.mark_not_written()
            self._enter(Probing(refusal_reason(error)))
            return refusal_reason(error)
        except Exception as error:  # noqa: BLE001 - one bad append must not fail the others
            for pending in batch:
                pending.mark_not_written()
            await self._isolate(batch, error)
        else:
            self._enter(Accepting())
        return None

    async def _isolate(self, batch: list[PendingAppend], error: Exception) -> None:
        """Write the appends one by one, and fail the one at fault. A retry would not help."""
        if len(batch) > 1:
            for pending in batch:
                await self._write([pending])
            return
        if state := state_after(error):
            self._enter(state)
        (pending,) = batch
        answer = error
        if pending.send_state is SendState.UNCERTAIN:
            answer = AppendOutcomeUnknown(f"the retry failed: {describe(error)}")
        elif isinstance(error, UNAVAILABLE_ERRORS):
            answer = AppendRefused(describe(error))
        if answer is not error:
            answer.__cause__ = error
        pending.fail(answer)

    async def _insert(self, batch: list[PendingAppend]) -> None:
        """Run the statement and answer the callers: written, or the version is taken."""
        started_at = time.perf_counter()
        commit = None if self._spans is None else commit_span(self._spans, batch)
        try:
            await self._connection.check_standby()
            rows = await self._connection.fetch(*self._statement(batch))
            metrics.APPEND_FLUSH_SECONDS.observe(time.perf_counter() - started_at)
        except psycopg.errors.UniqueViolation as error:
            if is_id_taken(error):
                raise IdTaken from error
            if len(batch) > 1:
                raise
            rows = []
        if commit is not None:
            commit.end()
        if rows:
            metrics.APPEND_BATCH_EVENTS.observe(len(rows))
            self._on_commit()
        sent = sum(len(pending.events) for pending in batch)
        await self._connection.confirm(found_older=len(rows) < sent)
        positions: dict[Key, int] = {(row[0], row[1]): row[2] for row in rows}
        skipped: list[PendingAppend] = []
        for pending in batch:
            # Of several appends of one version the first has written it; the others conflict.
            own = [positions.pop(key) for key in pending.keys if key in positions]
            if own:
                pending.succeed(tuple(own))
            else:
                skipped.append(pending)
        await self._resolve(skipped)

    def _statement(self, batch: list[PendingAppend]) -> tuple[LiteralString, tuple[Any, ...]]:
        if not batch[0].is_single:
            return _APPEND_EVENTS_OR_FAIL, (*columns(batch), LOG_LOCK)
        guarded = any(pending.condition is not None for pending in batch)
        stream = self._guard_stream if guarded else None
        return APPEND_EVENTS, (LOG_LOCK, stream, *columns(batch), *condition_columns(batch))

    async def _resolve(self, skipped: list[PendingAppend]) -> None:
        """Answer appends that wrote no row: their version is taken, or their condition failed.

        Those whose version was taken by their own first attempt succeed.
        """
        unclear = [
            append
            for append in skipped
            if append.send_state is SendState.UNCERTAIN or append.condition is not None
        ]
        stored: dict[Key, Sequence[Any]] = {}
        if unclear:
            keys = columns(unclear)[:2]
            rows = await self._connection.fetch(_SELECT_STORED, keys)
            stored = {(row[0], row[1]): row[2:] for row in rows}
        for pending in skipped:
            certain = pending.send_state is not SendState.UNCERTAIN
            own = None if certain else stored_as_sent(pending, stored)
            if own is not None:
                self._on_commit()  # for the commit whose reply was lost
                pending.succeed(own)
                if pending.condition is not NEVER:
                    for key in pending.keys:
                        del stored[key]
            elif pending.condition is not None and pending.keys[0] not in stored:
                pending.fail_condition()
            else:
                pending.conflict()
