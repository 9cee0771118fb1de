"""A connection with psycopg's interface, and a pool of them, so that Pulse's code runs on it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import psycopg

from pulse.postgres import (
    UNAVAILABLE_ERRORS,
    Connection,
    Database,
    DatabaseUnavailable,
    describe,
)
from tests.simulation.memory.server import Result, Server, Session
from tests.simulation.memory.statements import STATEMENTS, Statement

T = TypeVar("T")
Work = Callable[[], Any]


class Network(Protocol):
    """The network between a process and the server."""

    owner: str

    async def call(self, session: Session, work: Callable[[], T], name: str) -> T:
        """Execute `work` at the server; returns its answer or raises psycopg's exception."""

    async def connect(self, session: Session) -> None:
        """Open a session at the server."""


class NoNetwork:
    """Calls the server directly, without delay or faults."""

    owner = "test"

    async def call(self, session: Session, work: Callable[[], T], name: str) -> T:  # noqa: ARG002
        return work()

    async def connect(self, session: Session) -> None:
        pass


class MemoryCursor:
    """A cursor with the result of one statement."""

    __slots__ = ("_connection", "result")

    def __init__(self, connection: "MemoryConnection") -> None:
        self._connection = connection
        self.result = Result([])

    async def execute(
        self,
        statement: str,
        parameters: Any = (),
        *,
        prepare: bool | None = None,  # noqa: ARG002 - psycopg's parameter, without effect here
    ) -> "MemoryCursor":
        await self._connection.run(self, self._connection.statement(statement), parameters)
        return self

    @asynccontextmanager
    async def copy(self, statement: str) -> AsyncIterator["MemoryCopy"]:
        """Send the written data at the end, as one statement."""
        copy = MemoryCopy()
        yield copy
        await self._connection.run(self, self._connection.statement(statement), copy.written)

    @property
    def rowcount(self) -> int:
        return self.result.rowcount

    @property
    def description(self) -> bool:
        return True

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self.result.rows

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self.result.rows[0] if self.result.rows else None


class MemoryCopy:
    """A COPY from the client."""

    def __init__(self) -> None:
        self.written = b""

    async def write(self, data: bytes) -> None:
        self.written += data


class MemoryConnection:
    """Autocommit except within `transaction`; within `pipeline` statements are sent together."""

    def __init__(
        self, server: Server, network: Network, statements: Mapping[str, Statement] = STATEMENTS
    ) -> None:
        self.session = Session(network.owner)
        self._server = server
        self._network = network
        self._statements = statements
        self._depth = 0
        self._pipelined: list[tuple[MemoryCursor, Statement, Any]] | None = None

    @property
    def closed(self) -> bool:
        return self.session.ended or self.session.cut

    @property
    def broken(self) -> bool:
        return self.closed

    def fileno(self) -> int:
        raise psycopg.OperationalError("there is no socket")

    def statement(self, text: Any) -> Statement:
        """The implementation of a statement; a NOTIFY, composed at run time, has no effect here."""
        if isinstance(text, str):
            return self._statements[text]
        return self._statements.get(text.as_string(), _no_effect)

    def cursor(self, *, binary: bool = False) -> MemoryCursor:  # noqa: ARG002 - as psycopg has it
        return MemoryCursor(self)

    async def execute(
        self, statement: str, parameters: Any = (), *, prepare: bool | None = None
    ) -> MemoryCursor:
        return await MemoryCursor(self).execute(statement, parameters, prepare=prepare)

    def add_notice_handler(self, handler: object) -> None:
        """No statement here sends a notice."""

    async def run(self, cursor: MemoryCursor, statement: Statement, parameters: Any) -> None:
        if self._pipelined is not None:
            self._pipelined.append((cursor, statement, parameters))
            return
        await self._send([(cursor, statement, parameters)])

    async def _send(self, batch: list[tuple[MemoryCursor, Statement, Any]]) -> None:
        server, session, in_transaction = self._server, self.session, self._depth > 0

        def work() -> list[Result]:
            if session.ended:
                raise psycopg.OperationalError("the connection is closed")
            if in_transaction:
                server.begin(session)
            return [statement(server, session, parameters) for _, statement, parameters in batch]

        name = "+".join(statement.__name__ for _, statement, _ in batch)
        results = await self._network.call(session, work, name)
        for (cursor, _, _), result in zip(batch, results, strict=True):
            cursor.result = result

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[None]:
        self._pipelined = []
        try:
            yield
            batch = self._pipelined
        finally:
            self._pipelined = None
        if batch:
            await self._send(batch)

    def transaction(self) -> "_Block":
        return _Block(self)

    async def enter_block(self) -> None:
        if self._depth:
            await self._network.call(self.session, self._savepoint, "SAVEPOINT")
        self._depth += 1

    async def leave_block(self, error: type[BaseException] | None) -> None:
        self._depth -= 1
        if error is GeneratorExit:
            return
        if self._depth:
            work = self._release_savepoint if error is None else self._back_to_savepoint
            await self._network.call(self.session, work, "ROLLBACK TO" if error else "RELEASE")
        elif error is None:
            await self._network.call(
                self.session, lambda: self._server.commit(self.session), "COMMIT"
            )
        elif not self.closed:
            await self._network.call(
                self.session, lambda: self._server.roll_back(self.session), "ROLLBACK"
            )

    async def close(self) -> None:
        """Close the connection. The server completes statements in flight."""
        self.session.cut = True
        if not self.session.in_flight:
            self._server.end(self.session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _savepoint(self) -> None:
        self.session.savepoints.append(self._server.begin(self.session).copy())

    def _release_savepoint(self) -> None:
        if self.session.ended:
            raise psycopg.OperationalError("the connection is closed")
        self.session.savepoints.pop()

    def _back_to_savepoint(self) -> None:
        if self.session.ended:
            raise psycopg.OperationalError("the connection is closed")
        self.session.changes = self.session.savepoints.pop()


def _no_effect(*_: object) -> Result:
    return Result([])


class _Block:
    """A transaction, or a savepoint within one."""

    __slots__ = ("_connection",)

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection

    async def __aenter__(self) -> None:
        await self._connection.enter_block()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        await self._connection.leave_block(kind)


class MemoryDatabase(Database):
    """Pulse's `Database` on in-memory connections."""

    def __init__(
        self,
        server: Server,
        network: Network | None = None,
        statements: Mapping[str, Statement] = STATEMENTS,
    ) -> None:
        super().__init__("", pool_size=1)
        self.server = server
        self._network = network or NoNetwork()
        self._statements = statements
        self._idle: list[MemoryConnection] = []

    def _open_session(self) -> MemoryConnection:
        return MemoryConnection(self.server, self._network, self._statements)

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def replace_broken(self) -> None:
        pass

    @asynccontextmanager
    async def connection(
        self,
        *,
        lock_seconds: float | None = None,  # noqa: ARG002 - no statement here waits for a lock
    ) -> AsyncIterator[Connection]:
        self._idle = [connection for connection in self._idle if not connection.closed]
        connection: Any = self._idle.pop() if self._idle else self._open_session()
        try:
            yield connection
        except UNAVAILABLE_ERRORS as error:
            raise DatabaseUnavailable(describe(error)) from error
        finally:
            if not connection.closed:
                self._idle.append(connection)

    async def connect(self, role: str) -> Connection:  # noqa: ARG002 - Database's signature
        connection = self._open_session()
        await self._network.connect(connection.session)
        shaped: Any = connection
        return shaped  # type: ignore[no-any-return]
