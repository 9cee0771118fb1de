"""Plausible bugs to plant; the simulation must find each of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from pulse.eventstore import EventMapper, RecordedEvent, appender, select_issued_log
from pulse.eventstore.batch import Key, PendingAppend, Positions
from pulse.postgres import Database
from pulse.projections.position import advance_position, try_lock_position
from pulse.projections.projector import Busy, Projected, Projector
from pulse.projections.queue_writer import QueueWriter
from pulse.workers.splitting import SplittingWorker
from tests.simulation.memory import statements
from tests.simulation.memory.log import MemoryLog
from tests.simulation.memory.server import Later, Result, Server, Session
from tests.simulation.memory.statements import Statement
from tests.simulation.planted import Planted, with_replaced

if TYPE_CHECKING:
    from tests.simulation.world import World


_OFTEN = 0.3
_MAX_DELAY_SECONDS = 0.02


class DoubleSplit(Planted):
    """The log does not keep version 2 unique, so two workers' schedules can both be stored."""

    class Log(MemoryLog):
        def is_taken(self, key: Key) -> bool:
            return key[1] != 2 and super().is_taken(key)

    log_type = Log


class OutOfOrder(Planted):
    """Appends do not hold the lock, so an event becomes visible some time after taking its id."""

    class Log(MemoryLog):
        def after(self, position: int, limit: int) -> list[RecordedEvent]:
            visible = sorted(self.rows, key=lambda row: row.position)
            return [row for row in visible if row.position > position][:limit]

        @property
        def end(self) -> int:
            return max((row.position for row in self.rows), default=0)

    log_type = Log

    def statements(self, world: "World") -> Mapping[str, Statement]:
        first_ids: dict[bytes, int] = {}

        def append_events(server: Server, session: Session, parameters: Any) -> Result:
            _, _, ids, _, _, states, _, _ = parameters
            if not states:  # a probe
                return append(server, session, parameters)
            log, first_event = server.log, states[0]
            first_id = first_ids.pop(first_event, None)
            if first_id is not None:
                appended: Result = log.with_ids_from(
                    first_id, lambda: append(server, session, parameters)
                )
                return appended
            if world.random.random() < _OFTEN:
                first_ids[first_event] = log.next_id
                log.skip_ids(len(ids))
                raise Later(world.random.random() * _MAX_DELAY_SECONDS)
            return append(server, session, parameters)

        append = statements.append_events
        return with_replaced(append, append_events)


class PositionBeforeRows(Planted):
    """The projector commits its new position in a separate transaction, before the rows."""

    class EarlyProjector(Projector):
        def __init__(
            self,
            database: Database,
            mapper: EventMapper,
            *,
            on_advance: Callable[[], None],
            **_: Any,
        ) -> None:
            super().__init__(database, mapper)
            self.database = database
            self.writer = QueueWriter(mapper)
            self.on_advance = on_advance

        async def run_once(self) -> Projected | Busy:
            async with self.database.connection() as connection:
                async with connection.transaction():
                    locked = await try_lock_position(connection)
                    if locked is None:
                        return Busy()
                    position, _ = locked
                    records = await select_issued_log(connection, after=position, limit=1000)
                    if not records:
                        return Projected(position=position, events=0, foreign=0)
                    await advance_position(connection, records[-1].position)
                async with connection.transaction():
                    await self.writer.apply(connection, records)
            self.on_advance()
            return Projected(records[-1].position, len(records), 0)

    projector = EarlyProjector


class PositionNotLocked(Planted):
    """Two projectors can process the same batch concurrently."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def try_lock_position(server: Server, session: Session, _: Any) -> Result:
            server.begin(session)
            return Result([(server.tables.position, bool(server.tables.parked))])

        return with_replaced(statements.try_lock_position, try_lock_position)


class FastMonitor(Planted):
    """The monitor uses its own clock, which is 0.1 s fast, instead of the database's."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def select_overdue_claims(server: Server, session: Session, parameters: Any) -> Result:
            timeout_seconds, *others = parameters
            parameters = (timeout_seconds - 0.1, *others)
            return statements.select_overdue_claims(server, session, parameters)

        return with_replaced(statements.select_overdue_claims, select_overdue_claims)


class SplitsOverdueOrders(Planted):
    """A worker splits an order of any age."""

    class UnlimitedWorker(SplittingWorker):
        def __init__(self, *parts: Any, **settings: Any) -> None:
            super().__init__(*parts, **{**settings, "timeout_seconds": float("inf")})

    worker = UnlimitedWorker


class AgeFromLastClaim(Planted):
    """A released claim loses the time of the first claim."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def claim_orders(server: Server, session: Session, parameters: Any) -> Result:
            for pending in server.tables.pending.values():
                if pending.claimed_by is None:
                    pending.first_claimed_at = None
            return statements.claim_orders(server, session, parameters)

        return with_replaced(statements.claim_orders, claim_orders)


class LostReplyAssumedOwn(Planted):
    """After a lost reply any event stored under the key is assumed to be this process's append."""

    def __enter__(self) -> None:
        def stored(pending: PendingAppend, stored: dict[Key, Sequence[Any]]) -> Positions | None:
            rows = [stored.get(key) for key in pending.keys]
            return tuple(row[0] for row in rows if row is not None) if all(rows) else None

        self._patch = patch.object(appender, "stored_as_sent", stored)
        self._patch.start()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()
