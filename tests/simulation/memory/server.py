"""The server: sessions, their transactions, the row lock of the projection's position, presence."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from psycopg import OperationalError

from pulse.eventstore import RecordedEvent
from tests.simulation.memory.log import MemoryLog
from tests.simulation.memory.tables import Changes, Tables

EPOCH = datetime(2026, 1, 5, 9, 15, tzinfo=UTC)


class Blocked(Exception):
    """The statement waits for a row that another transaction holds."""


class Later(Exception):
    """The statement is carried out so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Result:
    """What a statement answers."""

    __slots__ = ("rowcount", "rows")

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int | None = None) -> None:
        self.rows = rows
        self.rowcount = len(rows) if rowcount is None else rowcount


class Session:
    """One connection as the server has it."""

    __slots__ = ("changes", "cut", "ended", "owner", "savepoints", "under_way")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.ended = False  # on the server's side
        self.cut = False  # on the client's side: what is under way may still be carried out
        self.under_way = 0
        self.changes: Changes | None = None
        self.savepoints: list[Changes] = []


class Witness(Protocol):
    """Who watches the server, to find at once what must never be."""

    def appended(self, record: RecordedEvent) -> None:
        """An event stands."""

    def claimed(self, order_id: UUID) -> None:
        """An order was claimed."""

    def projected(self, before: int, changes: Changes) -> None:
        """A transaction of the projection was committed."""


class Server:
    """All that is durable, and who holds what. Every statement happens at one moment, whole."""

    def __init__(
        self,
        clock: Callable[[], float],
        witness: Witness | None = None,
        log_type: type[MemoryLog] = MemoryLog,
    ) -> None:
        self.tables = Tables()
        self.log = log_type(None if witness is None else witness.appended)
        self.present: set[str] = set()
        self.position_holder: Session | None = None
        self.on_transaction_end: Callable[[], None] = _nothing
        self._clock = clock
        self.witness = witness

    @property
    def now(self) -> datetime:
        """The database's clock."""
        return EPOCH + timedelta(seconds=self._clock())

    def begin(self, session: Session) -> Changes:
        """The session's transaction; begun now if there is none."""
        if session.ended:
            raise OperationalError("the connection is closed")
        if session.changes is None:
            session.changes = Changes()
        return session.changes

    def commit(self, session: Session) -> None:
        """Make the session's changes everybody's, all at once."""
        if session.ended:
            raise OperationalError("the connection is closed")
        changes = session.changes
        if changes is not None:
            before = self.tables.position
            changes.apply_to(self.tables)
            if self.witness is not None and changes.position is not None:
                self.witness.projected(before, changes)
        self._end_transaction(session)

    def roll_back(self, session: Session) -> None:
        """Forget the session's changes."""
        self._end_transaction(session)

    def end(self, session: Session) -> None:
        """The connection is gone: what was not committed is undone."""
        session.ended = True
        self._end_transaction(session)

    def _end_transaction(self, session: Session) -> None:
        if session.changes is None:
            return
        session.changes = None
        session.savepoints.clear()
        if self.position_holder is session:
            self.position_holder = None
        self.on_transaction_end()

    def settles(self, order_id: object, but: Session) -> bool:
        """Whether another open transaction has deleted that order's pending row."""
        holder = self.position_holder
        if holder is None or holder is but or holder.changes is None:
            return False
        return order_id in holder.changes.settled


def _nothing() -> None:
    pass
