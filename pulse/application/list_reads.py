"""Reads lists: on a replica while it follows the primary, otherwise on the primary.

A list is never older than the position that its caller names: the projected position and then the
list are read from one server, on one connection.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import psycopg

from pulse import metrics
from pulse.errors import PulseError
from pulse.eventstore import EventMark, LogMark, PositionBeyondLog, has_event, read_log_mark
from pulse.loop import Job
from pulse.postgres import (
    Connection,
    Database,
    DatabaseUnavailable,
    PostgresLimits,
    Reads,
    SessionUnfit,
)
from pulse.postgres.server_facts import ServerIdentity, read_server_identity
from pulse.projections.position import read_position

T = TypeVar("T")

MAX_WAIT_SECONDS: Final = 2.0
"""How long a list waits until the queue reflects the position that its caller names."""

REPLICA_WAIT_SECONDS: Final = 1.0
"""How much of MAX_WAIT_SECONDS a list waits for the replica. The rest is for the primary."""

MAX_REPLICA_BEHIND_SECONDS: Final = 10.0
"""A replica is not read if it lacks what the primary had projected this long ago."""

_MAX_REPLICA_SECONDS: Final = 3.0
"""A read without an answer of the replica within this time is repeated on the primary."""

_POLL_SECONDS: Final = 0.02
_NOT_COMPARED: Final = "the replica has not been compared with the primary yet"
_REPLICA_LIMITS: Final = PostgresLimits(connect_seconds=2, checkout_seconds=0.5)

Query = Callable[[Connection], Awaitable[T]]


class PositionNotReached(PulseError):
    """The order queue does not reflect this position yet. A retry later may succeed."""

    def __init__(self, position: int, min_position: int) -> None:
        self.position = position
        self.min_position = min_position
        super().__init__(
            f"the order queue reflects position {position}, and min_position is {min_position}: "
            "retry"
        )


class _ReplicaUnusedError(Exception):
    """The replica is not read. `reason` is the label of the metric; None if there is no replica."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        super().__init__(reason)


class _Server:
    """Reads on one server that are not older than a position.

    All reads that wait share the polling, so its cost does not grow with their number.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._position = 0
        self._polling: asyncio.Task[None] | None = None

    async def read(
        self,
        query: Query[T],
        min_position: int,
        *,
        deadline: float,
        before_waiting: Callable[[int], Awaitable[None]],
    ) -> T:
        """The result of the query, once the queue reflects the position.

        A read waits until `deadline`, by the loop's clock. Before it waits, `before_waiting` is
        called with the projected position, and may raise to prevent that.

        Raises:
            PositionNotReached: the deadline has passed.
            DatabaseUnavailable: the server cannot be read.
        """

        async def checked(connection: Connection) -> tuple[int, T | None]:
            position = await read_position(connection)
            return position, None if position < min_position else await query(connection)

        waited = False
        while True:
            position, answer = await self.database.read(checked)
            if position >= min_position:
                return answer  # type: ignore[return-value]
            if not waited:
                await before_waiting(position)
            elif asyncio.get_running_loop().time() >= deadline:  # another server answered the poll
                raise PositionNotReached(position, min_position)
            waited = True
            await self._until(min_position, deadline)

    async def _until(self, min_position: int, deadline: float) -> None:
        """Poll until the queue reflects the position, at least once."""
        while True:
            if self._polling is None or self._polling.done():
                self._polling = asyncio.create_task(self._poll())
                self._polling.add_done_callback(_forget)
            await asyncio.shield(self._polling)
            if self._position >= min_position:
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise PositionNotReached(self._position, min_position)

    async def _poll(self) -> None:
        await asyncio.sleep(_POLL_SECONDS)
        self._position = await self.database.read(read_position)


class _ServerState(NamedTuple):
    """The server and the log that were read, and the projected position."""

    server: ServerIdentity
    log: LogMark
    position: int


async def _read_server_state(connection: Connection) -> _ServerState:
    position = await read_position(connection)
    return _ServerState(
        await read_server_identity(connection), await read_log_mark(connection), position
    )


class Replica(Job[None]):
    """The replica on which lists may be read, compared with the primary every second.

    It is read while it is `usable`: a standby of the primary, or the primary itself, with the same
    log, at most MAX_REPLICA_BEHIND_SECONDS behind. `fault` is why it is not usable; None if it is,
    or if it has not been compared yet. Each new connection is compared too. `floor` is the position
    that the primary had projected MAX_REPLICA_BEHIND_SECONDS ago; each read on the replica must
    reflect it.
    """

    name = "replica"
    poll_seconds = 1.0

    def __init__(self, primary: Database, conninfo: str, *, pool_size: int) -> None:
        self.usable = False
        self.fault: str | None = None
        self.floor = 0
        self.database = Database(
            conninfo,
            pool_size=pool_size,
            limits=_REPLICA_LIMITS,
            read_only=True,
            on_connect=self._require_same_log,
        )
        self._primary = primary
        self._expected: _ServerState | None = None
        self._last_event: EventMark | None = None
        self._samples: deque[tuple[float, int]] = deque()

    async def run_once(self) -> None:
        """Compare the replica with the primary.

        Raises:
            DatabaseUnavailable: the primary cannot be read. The state stays as it is.
        """
        await self._expect(await self._primary.read(_read_server_state))
        try:
            seen = await _within(_MAX_REPLICA_SECONDS, self.database.read(_read_server_state))
        except (DatabaseUnavailable, psycopg.Error) as error:
            fault: str | None = str(error)
        else:
            fault = self._difference(seen) or self._delay(seen) or await self._unknown_event(seen)
        self.fault, self.usable = fault, fault is None

    async def _expect(self, primary: _ServerState) -> None:
        """Store the state of the primary. If it changed, compare all connections again."""
        before, self._expected = self._expected, primary
        if before is None:
            await self.database.open()
        elif (_database_of(before), before.log.log_id) != (
            _database_of(primary),
            primary.log.log_id,
        ):
            self.usable = False
            self._samples.clear()
            await self.database.replace_all()
        now = asyncio.get_running_loop().time()
        self._samples.append((now, primary.position))
        while self._samples[0][0] <= now - MAX_REPLICA_BEHIND_SECONDS:
            self.floor = self._samples.popleft()[1]

    async def _require_same_log(self, connection: Connection) -> None:
        """Compare a new connection.

        Raises:
            SessionUnfit: it leads to another log, or to a server that is no longer a replica.
        """
        fault = self._difference(await _read_server_state(connection))
        if fault is not None:
            raise SessionUnfit(fault, is_permanent=False)

    def _difference(self, seen: _ServerState) -> str | None:
        """Why this is not a replica of the primary, None if it is."""
        expected = self._expected
        if expected is None:
            return _NOT_COMPARED
        if _database_of(seen) != _database_of(expected):
            return "it is another database, not a copy of the primary's"
        if seen.log.log_id != expected.log.log_id:
            return "its log has another log_id than that of the primary"
        if not seen.server.in_recovery and seen.server.started_at != expected.server.started_at:
            return "it is not a standby: it was promoted, and is not the primary"
        return None

    def _delay(self, seen: _ServerState) -> str | None:
        if seen.position >= self.floor:
            return None
        return (
            f"it is more than {MAX_REPLICA_BEHIND_SECONDS:g} s behind: its queue reflects position "
            f"{seen.position}, and that long ago the primary's queue reflected {self.floor}"
        )

    async def _unknown_event(self, seen: _ServerState) -> str | None:
        """Why the replica's log is not a part of the primary's, None if it is.

        The event looked up was the replica's last one at the previous comparison, because a
        synchronous standby may show an event shortly before the primary does.
        """
        mark, self._last_event = self._last_event, seen.log.last
        if mark is None or await self._primary.read(lambda found: has_event(found, mark)):
            return None
        return f"its log has an event at position {mark.position} that the primary does not have"


def _database_of(seen: _ServerState) -> tuple[int, int]:
    return seen.server.system_identifier, seen.server.database_oid


class ListReads:
    """Reads of lists: on the replica while it is usable, otherwise on the primary.

    `end` returns the position of the last event of the primary's log. Without a replica, a list
    that names no position needs no other query than its own.
    """

    def __init__(
        self,
        primary: Database,
        end: Callable[[], Awaitable[int]],
        replica: Replica | None = None,
    ) -> None:
        self._primary = _Server(primary)
        self._end = end
        self._replica = replica
        self._replica_server = None if replica is None else _Server(replica.database)

    @property
    def has_replica(self) -> bool:
        """Whether there is a replica: then a list may be older than one that was read before it."""
        return self._replica is not None

    def not_older_than(self, min_position: int) -> Reads:
        """Reads that reflect this position of the log at least. Each waits up to MAX_WAIT_SECONDS.

        They raise PositionNotReached if the position is not reached in time, PositionBeyondLog if
        the log ends before it, and DatabaseUnavailable if no server can be read.
        """
        return _ReadsFrom(self, min_position)

    async def read(self, query: Query[T], min_position: int) -> T:
        """The result of a query; errors as `not_older_than`."""
        deadline = asyncio.get_running_loop().time() + MAX_WAIT_SECONDS
        try:
            answer = await self._read_replica(query, min_position)
        except _ReplicaUnusedError as error:
            if error.reason is not None:
                metrics.LIST_FALLBACKS.labels(error.reason).inc()
        else:
            metrics.LIST_READS.labels("replica").inc()
            return answer
        answer = await self._read_primary(query, min_position, deadline)
        metrics.LIST_READS.labels("primary").inc()
        return answer

    async def _read_primary(self, query: Query[T], min_position: int, deadline: float) -> T:
        if not min_position:
            return await self._primary.database.read(query)

        async def require_in_log(_: int) -> None:
            end = await self._end()
            if min_position > end:
                raise PositionBeyondLog(min_position, end)

        return await self._primary.read(
            query, min_position, deadline=deadline, before_waiting=require_in_log
        )

    async def _read_replica(self, query: Query[T], min_position: int) -> T:
        replica, server = self._replica, self._replica_server
        if replica is None or server is None:
            raise _ReplicaUnusedError(None)
        if not replica.usable:
            raise _ReplicaUnusedError("unavailable")
        floor = replica.floor

        async def require_recent(position: int) -> None:
            if position < floor:
                raise _ReplicaUnusedError("behind")

        deadline = asyncio.get_running_loop().time() + REPLICA_WAIT_SECONDS
        reading = server.read(
            query, max(min_position, floor), deadline=deadline, before_waiting=require_recent
        )
        try:
            return await _within(_MAX_REPLICA_SECONDS, reading)
        except PositionNotReached:
            raise _ReplicaUnusedError("behind") from None
        except (DatabaseUnavailable, psycopg.Error):
            raise _ReplicaUnusedError("unavailable") from None


class _ReadsFrom:
    """`Reads` that are not older than a position."""

    def __init__(self, lists: ListReads, min_position: int) -> None:
        self._lists = lists
        self._min_position = min_position

    async def read(self, query: Query[T]) -> T:
        """Run the query."""
        return await self._lists.read(query, self._min_position)


async def _within(seconds: float, reading: Coroutine[Any, Any, T]) -> T:
    """The result of a read.

    A read that takes longer is cancelled but not awaited: its cancellation may also wait for a
    server that does not answer.

    Raises:
        DatabaseUnavailable: there was no answer in time.
    """
    task = asyncio.ensure_future(reading)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        _unfinished.add(task)
        task.add_done_callback(_forget)
        task.cancel()
        raise DatabaseUnavailable(f"no answer within {seconds:g} s")
    return task.result()


_unfinished: Final[set["asyncio.Future[Any]"]] = set()


def _forget(task: "asyncio.Future[Any]") -> None:
    _unfinished.discard(task)
    if not task.cancelled():
        task.exception()  # so that it is not logged as never retrieved
