"""A worker's presence lock: the server holds it while the process is connected."""

import asyncio
from typing import TYPE_CHECKING

from pulse.loop import WakeUp

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_RETRY_SECONDS = 0.05


class SimulatedPresence:
    """Simulates `Presence` without its connection. `held` may stay true after the lock is lost."""

    def __init__(self, world: "World", process: "Process") -> None:
        self.held = False
        self._world = world
        self._process = process
        self._name = process.name
        self._changed = WakeUp()

    async def run(self) -> None:
        """Hold the lock until the process ends; take it again after the server dropped it."""
        while True:
            await asyncio.sleep(self._world.random.random() * _RETRY_SECONDS)
            self._world.server.present.add(self._name)
            self._world.note(self._process.name, "presence", f"held as {self._name}")
            self.held = True
            self._process.queue_advanced.set()
            await self._changed.wait(None)
            self.held = False

    def rename(self, worker: str) -> None:
        """Hold the lock under a new name; the server releases the old one some time later."""
        former, self._name = self._name, worker
        self.held = False
        present = self._world.server.present
        self._world.after(self._world.random.random(), lambda: present.discard(former))
        self._changed.set()

    def drop(self) -> None:
        """The server ended the session: the lock is released now, the process notices later."""
        if self._name in self._world.server.present:
            self._world.server.present.discard(self._name)
            self._world.note(self._process.name, "presence", "dropped by the server")
            self._world.after(
                self._world.random.random(),
                lambda: self._process.loop.deliver(self._changed.set),
            )
