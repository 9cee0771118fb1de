"""The way between a process and the server: late, lossy, and silent about what it did."""

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


class Call:
    """One statement (or pipeline) under way, and whom its answer is for."""

    __slots__ = ("fate", "future", "name", "session", "work")

    def __init__(
        self, session: Session, work: Callable[[], Any], name: str, future: "asyncio.Future[Any]"
    ) -> None:
        self.session = session
        self.work = work
        self.name = name
        self.future = future
        self.fate = ""


class FaultyNetwork:
    """One process's network. Each call may be lost on the way there, on the way back, or be late.

    A call that is late arrives after its process was told that the connection broke: as a packet
    that was under way, or a backend that went on.
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
        session.under_way += 1
        fate = self._world.fate_of_call(self._process, name)
        self._send(Call(session, work, name, future), fate)
        return await future

    def _send(self, call: Call, fate: str) -> None:
        world = self._world
        if fate:
            world.note(self.owner, call.name, f"FATE {fate}")
        delay = self._delay(fate)
        if fate == "lost_request":
            call.session.under_way -= 1
            world.after(delay, lambda: self._break(call))
        elif fate == "refused" and call.name != "ROLLBACK":  # that no server refuses
            call.session.under_way -= 1
            world.after(delay, lambda: self._refuse(call))
        elif fate == "late_request":
            world.after(delay, lambda: self._break(call))
            world.after(delay + world.random.random() / 2, lambda: self._arrive(call))
        else:
            call.fate = fate
            world.after(delay, lambda: self._arrive(call))

    def _refuse(self, call: Call) -> None:
        if call.name == "COMMIT":
            self._world.server.roll_back(call.session)
        refused = psycopg.errors.QueryCanceled("canceling statement due to lock timeout")
        self._answer(call, None, refused)

    def _delay(self, fate: str = "") -> float:
        seconds = self._world.random.random()
        return seconds * (_SLOW_SECONDS if fate == "slow" else _FAST_SECONDS)

    def _arrive(self, call: Call) -> None:
        """The server carries it out, at this moment and whole."""
        world, session = self._world, call.session
        if self._process.loop.ended and world.random.random() < 0.5:
            session.under_way -= 1
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
        session.under_way -= 1
        world.note(self.owner, call.name, world.told(answer, error))
        if session.cut and not session.under_way:
            world.server.end(session)
        delay = self._delay(call.fate)
        if call.fate == "lost_reply":
            world.after(delay, lambda: self._break(call))
            return
        if session.changes is not None and delay > world.profile.idle_in_transaction:
            world.after(world.profile.idle_in_transaction, lambda: self.end_idle(session))
        world.after(delay, lambda: self._answer(call, answer, error))

    def end_idle(self, session: Session) -> None:
        """The server ends a transaction from which nothing was heard."""
        if session.changes is not None and not session.under_way:
            self._world.note(self.owner, "transaction", "idle for too long: ended by the server")
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
        if not call.session.under_way:
            self._world.server.end(call.session)
        lost = psycopg.OperationalError("server closed the connection unexpectedly")
        self._answer(call, None, lost)
