"""Faults of whole processes and of the server."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_CLOSED_SHARE = 0.7
_MAX_CLOSE_SECONDS = 0.01
_RESTART_SECONDS = 0.2
_FROZEN_SECONDS = (0.02, 0.1, 0.4, 0.8)
_LONG_FREEZE_SECONDS = 2.5
_LONG_SHARE = 0.4
_GRACE_SECONDS = 0.3
_OUTAGE_SECONDS = (0.3, 0.8, 1.6)
_LOST_IDS = 32


def crash(world: "World", process: "Process") -> None:
    """Kill a process. With connections left open, the server notices only after a timeout."""
    if process.loop.ended:
        return
    random = world.random.random
    closed = random() < _CLOSED_SHARE
    world.note(process.name, "CRASH", "" if closed else "connections stay open at the server")
    process.loop.end()
    for session in process.network.sessions:
        session.cut = True
        after = random() * _MAX_CLOSE_SECONDS if closed else world.profile.idle_in_transaction
        world.after(after, partial(world.server.end, session))
    drop = random() * _MAX_CLOSE_SECONDS if closed else world.profile.silence
    world.after(drop, process.presence.drop)
    world.after(random() * _RESTART_SECONDS, partial(world.replace, process))


def stop(world: "World", process: "Process") -> None:
    """Stop a process, as in a deploy; kill it if it has not ended within the grace period."""
    if process.loop.ended or process.loop.frozen or process.stopping:
        return
    world.note(process.name, "STOP", "")
    process.stopping = True

    def kill_if_running() -> None:
        if not process.loop.ended:
            crash(world, process)

    def start_stop() -> None:
        stopped = process.loop.create_task(process.stop())
        stopped.add_done_callback(lambda _: world.after(0.0, kill_if_running))

    process.loop.deliver(start_stop)
    world.after(_GRACE_SECONDS, kill_if_running)


def freeze(world: "World", process: "Process") -> None:
    """Freeze a process; it resumes later without noticing."""
    if process.loop.ended or process.loop.frozen:
        return
    seconds = world.random.choice(_FROZEN_SECONDS) * (0.5 + world.random.random())
    if world.random.random() < _LONG_SHARE:  # until the faults end at the latest
        seconds = max(seconds, min(_LONG_FREEZE_SECONDS, world.profile.fault_seconds - world.now))
    world.note(process.name, "FREEZE", f"for {seconds:.3f} s")
    process.loop.frozen = True
    if seconds > world.profile.silence:
        world.after(world.profile.silence, process.presence.drop)
    if seconds > world.profile.idle_in_transaction:
        for session in process.network.sessions:
            world.after(
                world.profile.idle_in_transaction, partial(process.network.end_idle, session)
            )
    world.after(seconds, partial(_thaw, world, process))


def crash_server(world: "World", _: "Process") -> None:
    """Crash the server; it restarts immediately. Connections break and ids leave a gap."""
    world.note("server", "CRASH", "every connection breaks")
    world.server.log.skip_ids(_LOST_IDS)
    for process in world.processes:
        for session in process.network.sessions:
            session.cut = True
            world.server.end(session)
        process.presence.drop()


def start_outage(world: "World", process: "Process") -> None:
    """Crash the server; until it restarts, it receives no request."""
    seconds = world.random.choice(_OUTAGE_SECONDS) * (0.5 + world.random.random())
    crash_server(world, process)
    world.note("server", "OUTAGE", f"for {seconds:.3f} s")
    world.unreachable_until = max(world.unreachable_until, world.now + seconds)


def _thaw(world: "World", process: "Process") -> None:
    if not process.loop.ended:
        world.note(process.name, "THAW", "")
        process.loop.thaw()


PROCESS_FAULTS: Final[dict[str, Callable[["World", "Process"], None]]] = {
    "crash": crash,
    "freeze": freeze,
    "stop": stop,
    "server": crash_server,
    "outage": start_outage,
}
