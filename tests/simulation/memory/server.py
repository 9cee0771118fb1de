"""The server: sessions, their transactions, the locks of the position and the seal, presence."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from psycopg import OperationalError

from pulse.eventstore import RecordedEvent
from tests.simulation.memory.log import MemoryLog
from tests.simulation.memory.tables import Changes, Seal, Tables

EPOCH = datetime(2026, 1, 5, 9, 15, tzinfo=UTC)


class Blocked(Exception):
    """The statement waits for a row that another transaction holds."""


class Later(Exception):
    """The statement must be executed `seconds` later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Result:
    """The result of a statement."""

    __slots__ = ("rowcount", "rows")

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int | None = None) -> None:
        self.rows = rows
        self.rowcount = len(rows) if rowcount is None else rowcount


class Session:
    """The server's state of one connection."""

    __slots__ = ("changes", "cut", "ended", "in_flight", "owner", "savepoints")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.ended = False  # on the server's side
        self.cut = False  # on the client's side: statements in flight may still be executed
        self.in_flight = 0
        self.changes: Changes | None = None
        self.savepoints: list[Changes] = []


class Observer(Protocol):
    """Called at each change, to check the invariants."""

    def appended(self, record: RecordedEvent) -> None:
        """An event was appended."""

    def claimed(self, order_id: UUID) -> None:
        """An order was claimed."""

    def projected(self, before: int, changes: Changes) -> None:
        """A transaction of the projection was committed."""

    def sealed(self, before: Seal) -> None:
        """A transaction of a sealer was committed; `before` is the seal before it."""


class Server:
    """The durable data, locks and presence. Every statement is atomic."""

    def __init__(
        self,
        clock: Callable[[], float],
        observer: Observer | None = None,
        log_type: type[MemoryLog] = MemoryLog,
    ) -> None:
        self.tables = Tables()
        self.log = log_type(None if observer is None else observer.appended)
        self.present: set[str] = set()
        self.position_holder: Session | None = None
        self.seal_holder: Session | None = None
        self.on_transaction_end: Callable[[], None] = _nothing
        self._clock = clock
        self.observer = observer

    @property
    def now(self) -> datetime:
        """The database's clock."""
        return EPOCH + timedelta(seconds=self._clock())

    def begin(self, session: Session) -> Changes:
        """The session's transaction; starts one if there is none."""
        if session.ended:
            raise OperationalError("the connection is closed")
        if session.changes is None:
            session.changes = Changes()
        return session.changes

    def commit(self, session: Session) -> None:
        """Apply the session's changes atomically."""
        if session.ended:
            raise OperationalError("the connection is closed")
        changes = session.changes
        if changes is not None:
            before, seal = self.tables.position, self.tables.seal
            changes.apply_to(self.tables)
            if self.observer is not None and changes.position is not None:
                self.observer.projected(before, changes)
            if self.observer is not None and changes.seal is not None:
                self.observer.sealed(seal)
        self._end_transaction(session)

    def roll_back(self, session: Session) -> None:
        """Discard the session's changes."""
        self._end_transaction(session)

    def end(self, session: Session) -> None:
        """End the session and roll back its transaction."""
        session.ended = True
        self._end_transaction(session)

    def _end_transaction(self, session: Session) -> None:
        if session.changes is None:
            return
        session.changes = None
        session.savepoints.clear()
        if self.position_holder is session:
            self.position_holder = None
        if self.seal_holder is session:
            self.seal_holder = None
        self.on_transaction_end()

    def has_open_outcome(self, order_id: object, but: Session) -> bool:
        """Whether another open transaction has written that order's outcome."""
        holder = self.position_holder
        if holder is None or holder is but or holder.changes is None:
            return False
        return order_id in holder.changes.outcomes


def _nothing() -> None:
    pass
