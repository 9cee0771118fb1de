"""The network between a process and the server: it delays and loses requests and replies."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from tests.simulation.memory.server import Blocked, Later, Session

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

T = TypeVar("T")
_FAST_SECONDS = 0.002
_SLOW_SECONDS = 0.6
_STALLED_SECONDS = (1.0, 2.4)


class Call:
    """One statement (or pipeline) in flight, and the future for its answer."""

    __slots__ = ("fault", "future", "name", "session", "work")

    def __init__(
        self, session: Session, work: Callable[[], Any], name: str, future: "asyncio.Future[Any]"
    ) -> None:
        self.session = session
        self.work = work
        self.name = name
        self.future = future
        self.fault = ""


class SimulatedNetwork:
    """One process's network. A request can be lost or late, and a reply can be lost.

    A late request arrives after its process has seen the connection break, like a packet in flight
    or a backend that continues.
    """

    def __init__(self, world: "World", process: "Process") -> None:
        self.owner = process.name
        self.sessions: list[Session] = []
        self._world = world
        self._process = process

    async def connect(self, session: Session) -> None:
        await self.call(session, lambda: None, "connect")

    async def call(self, session: Session, work: Callable[[], T], name: str) -> T:
        if session.cut or session.ended:
            session.cut = True
            raise psycopg.OperationalError("the connection is closed")
        future: asyncio.Future[T] = self._process.loop.create_future()
        if session not in self.sessions:
            self.sessions.append(session)
        session.in_flight += 1
        fault = self._world.fault_of_call(self._process, name)
        self._send(Call(session, work, name, future), fault)
        return await future

    def _send(self, call: Call, fault: str) -> None:
        world = self._world
        if fault:
            world.note(self.owner, call.name, f"FAULT {fault}")
        delay = self._delay(fault)
        if fault == "lost_request":
            call.session.in_flight -= 1
            world.after(delay, lambda: self._break(call))
        elif fault == "refused" and call.name != "ROLLBACK":  # a server never refuses ROLLBACK
            call.session.in_flight -= 1
            world.after(delay, lambda: self._refuse(call))
        elif fault == "late_request":
            world.after(delay, lambda: self._break(call))
            world.after(delay + world.random.random() / 2, lambda: self._arrive(call))
        else:
            call.fault = fault
            world.after(delay, lambda: self._arrive(call))

    def _refuse(self, call: Call) -> None:
        if call.name == "COMMIT":
            self._world.server.roll_back(call.session)
        refused = psycopg.errors.QueryCanceled("canceling statement due to lock timeout")
        self._answer(call, None, refused)

    def _delay(self, fault: str = "") -> float:
        seconds = self._world.random.random()
        return seconds * (_SLOW_SECONDS if fault == "slow" else _FAST_SECONDS)

    def _arrive(self, call: Call) -> None:
        """The server executes the call, atomically at this time."""
        world, session = self._world, call.session
        if self._process.loop.ended and world.random.random() < 0.5:
            session.in_flight -= 1
            return
        answer, error = None, None
        try:
            answer = call.work()
        except Blocked:
            world.blocked.append(lambda: self._arrive(call))
            return
        except Later as later:
            world.after(later.seconds, lambda: self._arrive(call))
            return
        except psycopg.Error as refused:
            error = refused
        session.in_flight -= 1
        world.note(self.owner, call.name, world.describe(answer, error))
        if session.cut and not session.in_flight:
            world.server.end(session)
        if call.name == "select_due_orders" and answer and answer[0].rows[0][2] is not None:
            call.fault = world.fault_of_call(self._process, "due_orders") or call.fault
        delay = self._delay(call.fault)
        if call.fault == "stalled":
            delay = world.random.uniform(*_STALLED_SECONDS)
        if call.fault == "lost_reply":
            world.after(delay, lambda: self._break(call))
            return
        if session.changes is not None and delay > world.profile.idle_in_transaction:
            world.after(world.profile.idle_in_transaction, lambda: self.end_idle(session))
        world.after(delay, lambda: self._answer(call, answer, error))

    def end_idle(self, session: Session) -> None:
        """The server ends a session that was idle in transaction for too long."""
        if session.changes is not None and not session.in_flight:
            self._world.note(self.owner, "transaction", "idle for too long, ended by the server")
            self._world.server.end(session)

    def _answer(self, call: Call, answer: Any, error: psycopg.Error | None) -> None:
        def resolve() -> None:
            if call.future.done():
                return
            if error is not None:
                call.future.set_exception(error)
            else:
                call.future.set_result(answer)

        self._process.loop.deliver(resolve)

    def _break(self, call: Call) -> None:
        call.session.cut = True
        if not call.session.in_flight:
            self._world.server.end(call.session)
        lost = psycopg.OperationalError("server closed the connection unexpectedly")
        self._answer(call, None, lost)
