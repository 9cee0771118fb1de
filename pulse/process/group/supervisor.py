"""The supervisor of `pulse up --processes N`: starts, replaces, restarts and stops its members.

It serves no requests itself. It binds the port, whose sockets the members share. So while a member
is replaced a connection waits in the kernel's queue and is not refused.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import structlog

from pulse.logs import configure_logs
from pulse.process.group.directory import GroupDirectory
from pulse.process.group.member import DRAIN, Member, log_share
from pulse.process.group.metrics import metrics_file
from pulse.process.startup import STOP_SIGNALS
from pulse.retry import Retry, RetryPolicy
from pulse.settings import Settings

_log = structlog.get_logger(__name__)

MAX_START_SECONDS: Final = 60.0
"""A restart is abandoned if the new process does not serve within this time."""

MAX_STOP_SECONDS: Final = 40.0
"""A process that has not ended this long after its stop signal is killed."""

STABLE_SECONDS: Final = 10.0
"""A process that ran for longer is replaced at once when it dies; others after a pause."""

_REPLACE: Final = RetryPolicy(first_seconds=1.0, max_seconds=30.0)


class GroupSize(msgspec.Struct, frozen=True):
    """How many processes serve HTTP, and how many have workers."""

    serving: int
    workers: int

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members."""
        return (
            *(f"api-{number}" for number in range(1, self.serving + 1)),
            *(f"worker-{number}" for number in range(1, self.workers + 1)),
        )


class _Child:
    """A running member."""

    def __init__(
        self, member: Member, process: asyncio.subprocess.Process, control: socket.socket
    ) -> None:
        self.pid = process.pid
        self.is_serving = asyncio.Event()
        self._member = member
        self._process = process
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._ran_seconds = 0.0
        self._loop.add_reader(control, self._read)
        self.ended = asyncio.create_task(self._until_ended())
        self.is_replaced: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def start(cls, member: Member, environment: dict[str, str]) -> Self:
        own, its = socket.socketpair()
        with its:
            own.setblocking(False)
            member = msgspec.structs.replace(member, control=its.fileno())
            process = await asyncio.create_subprocess_exec(
                *_interpreter(),
                "pulse.process.group",
                msgspec.json.encode(member).decode(),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(member.control, *member.listening),
                process_group=0,  # Ctrl-C and a closed terminal signal only the supervisor
            )
        return cls(member, process, own)

    @property
    def name(self) -> str:
        return self._member.name

    @property
    def is_stable(self) -> bool:
        """Whether it ran longer than STABLE_SECONDS before it ended."""
        return self._ran_seconds > STABLE_SECONDS

    async def wait_until_serving(self, max_seconds: float | None) -> bool:
        """Wait until it serves; False if it ends before, or takes longer."""
        serving = asyncio.create_task(self.is_serving.wait())
        either: set[asyncio.Task[Any]] = {serving, self.ended}
        await asyncio.wait(either, timeout=max_seconds, return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        return self.is_serving.is_set() and not self.ended.done()

    async def drain(self) -> None:
        """Let the process finish its requests while the new one serves; return when it ended."""
        if self._member.is_worker:
            await self.stop()
            return
        with contextlib.suppress(OSError):
            self._control.send(DRAIN)
        await self._until_ended_or_killed()

    async def stop(self) -> None:
        """Stop it as on SIGTERM; return when it has ended."""
        self._signal(signal.SIGTERM)
        await self._until_ended_or_killed()

    async def _until_ended_or_killed(self) -> None:
        await asyncio.wait({self.ended}, timeout=MAX_STOP_SECONDS)
        if not self.ended.done():
            _log.error("process.killed", name=self.name, pid=self.pid, reason="it did not stop")
            self._signal(signal.SIGKILL)
            await self.ended

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _read(self) -> None:
        try:
            received = self._control.recv(1)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received:
            self.is_serving.set()
        else:
            self._loop.remove_reader(self._control)

    async def _until_ended(self) -> int:
        code = await self._process.wait()
        self._ran_seconds = self._loop.time() - self._started_at
        self._loop.remove_reader(self._control)
        self._control.close()
        member = self._member
        metrics_file(member.directory, member.name, member.generation).unlink(missing_ok=True)
        return code


class _Slot:
    """A member and its current process. Hold the lock to replace the process."""

    def __init__(self, name: str, child: _Child) -> None:
        self.name = name
        self.child = child
        self.lock = asyncio.Lock()


class ProcessGroup:
    """N processes that serve one port, and M with workers.

    `on_serving` is called once all of them run.
    """

    def __init__(
        self,
        settings: Settings,
        size: GroupSize,
        sockets: Sequence[socket.socket],
        *,
        on_serving: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._members = size.members
        self._sockets = sockets
        self._on_serving = on_serving
        address = {"PULSE_HOST": settings.host, "PULSE_PORT": str(settings.port)}
        self._environment = {**os.environ, **address}
        self._generation = 0
        self._children: set[_Child] = set()
        self._stopping = asyncio.Event()
        self._restart_requested = asyncio.Event()
        self._hangup = _Hangup(stop=self._stopping.set, restart=self._restart_requested.set)

    async def run(self) -> bool:
        """Serve until SIGINT or SIGTERM, and restart one process after the other on SIGHUP.

        Returns False if a process fails at the first start, and True after a clean stop. Unblocks
        SIGHUP, which may be blocked before the call.

        Raises:
            NoDirectory: the directory of the group cannot be created.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._directory = GroupDirectory(self._members)
        share = log_share(self._directory.path, "supervisor")
        configure_logs(self._settings.log_format, self._settings.log_level, share)
        try:
            return await self._until_stopped()
        finally:
            await asyncio.gather(*(child.stop() for child in self._children))
            self._directory.remove()
            _log.info("group.stopped")

    async def _until_stopped(self) -> bool:
        """Run the members. The first starts alone: it starts the database, migrates, catches up."""
        first, *others = self._members
        slots: list[_Slot] = []
        for names in ((first,), others):
            started = [_Slot(name, await self._start(name)) for name in names]
            serving = asyncio.gather(*(slot.child.wait_until_serving(None) for slot in started))
            if not await self._unless_stopping(serving):
                return True
            if not all(serving.result()):
                return False
            slots += started
        _log.info("group.serving", members=", ".join(self._members))
        self._on_serving()
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(self._replace_when_ended(slot)) for slot in slots]
            jobs.append(tasks.create_task(self._restart_on_request(slots)))
            await self._stopping.wait()
            for job in jobs:
                job.cancel()
        return True

    async def _start(self, name: str) -> _Child:
        self._generation += 1
        self._directory.ensure()
        sockets = () if name.startswith("worker") else self._sockets
        child = await _Child.start(
            Member(
                name=name,
                generation=self._generation,
                members=self._members,
                directory=self._directory.path,
                control=-1,
                listening=tuple(found.fileno() for found in sockets),
            ),
            self._environment,
        )
        self._children.add(child)
        child.ended.add_done_callback(lambda _: self._children.discard(child))
        _log.info("process.started", name=name, pid=child.pid)
        return child

    async def _try_start(self, name: str) -> _Child | None:
        try:
            return await self._start(name)
        except OSError as error:  # too many processes, no memory, or no directory
            _log.error("process.not_started", name=name, reason=str(error))
            return None

    async def _replace_when_ended(self, slot: _Slot) -> None:
        """Replace the process of this slot whenever it ends by itself."""
        retry = Retry(_REPLACE)
        while True:
            child = slot.child
            either: set[asyncio.Future[Any]] = {child.ended, child.is_replaced}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if slot.child is not child:
                continue
            code = child.ended.result()
            _log.error("process.died", name=slot.name, pid=child.pid, code=code)
            if child.is_stable:
                retry.reset()
            else:
                await retry.wait()
            while slot.child is child:
                async with slot.lock:
                    if slot.child is child:
                        slot.child = await self._try_start(slot.name) or child
                if slot.child is child:
                    await retry.wait()

    async def _restart_on_request(self, slots: Sequence[_Slot]) -> None:
        while True:
            await self._restart_requested.wait()
            self._restart_requested.clear()
            _log.info("group.restarting")
            for slot in slots:
                old = await self._start_replacement(slot)
                if old is None:
                    _log.error("group.restart_abandoned", name=slot.name)
                    break
                _log.info("process.draining", name=slot.name, pid=old.pid)
                await old.drain()
            else:
                _log.info("group.restarted")

    async def _start_replacement(self, slot: _Slot) -> _Child | None:
        """Start a new process in the slot; returns the old one, or None if the new one failed."""
        async with slot.lock:
            new, old = await self._try_start(slot.name), slot.child
            if new is None:
                return None
            if not await new.wait_until_serving(MAX_START_SECONDS):
                await new.stop()
                return None
            slot.child = new
            old.is_replaced.set_result(None)
            return old

    async def _unless_stopping(self, work: "asyncio.Future[list[bool]]") -> bool:
        """Wait for the work; False if a stop is requested first."""
        stopping = asyncio.create_task(self._stopping.wait())
        either: set[asyncio.Future[Any]] = {stopping, work}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            return False
        return True


class _Hangup:
    """SIGHUP: a restart; or a stop, as in other processes, if the terminal was closed."""

    def __init__(self, *, stop: Callable[[], None], restart: Callable[[], None]) -> None:
        self._stop = stop
        self._restart = restart
        self._is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # `nohup`
        self._has_terminal = _has_terminal()

    def handle(self) -> None:
        """Stop if the terminal was closed since the start or the last SIGHUP, otherwise restart.

        With `nohup` always restart.
        """
        had_terminal, self._has_terminal = self._has_terminal, _has_terminal()
        if self._is_ignored or not had_terminal or self._has_terminal:
            self._restart()
        else:
            _log.warning("group.stopping", reason="SIGHUP, and its terminal was closed")
            self._stop()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _interpreter() -> tuple[str, ...]:
    """The Python command, with the current directory in `sys.path` only if this process has it."""
    has_directory = sys.path[:1] in ([""], [str(Path.cwd())])
    return (sys.executable, *(() if has_directory else ("-P",)), "-m")
