"""A worker's presence: held by the server for as long as it hears of the process."""

import asyncio
from typing import TYPE_CHECKING

from pulse.loop import WakeUp

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

_AGAIN_SECONDS = 0.05


class SimulatedPresence:
    """What `Presence` promises, without its connection: `held` may be believed for too long."""

    def __init__(self, world: "World", process: "Process") -> None:
        self.held = False
        self._world = world
        self._process = process
        self._name = process.name
        self._changed = WakeUp()

    async def run(self) -> None:
        """Be present until the process ends, again whenever the server dropped it."""
        while True:
            await asyncio.sleep(self._world.random.random() * _AGAIN_SECONDS)
            self._world.server.present.add(self._name)
            self._world.note(self._process.name, "presence", f"held as {self._name}")
            self.held = True
            self._process.queue_advanced.set()
            await self._changed.wait(None)
            self.held = False

    def rename(self, worker: str) -> None:
        """Be present under that name; the server hears some time later that the old one is gone."""
        former, self._name = self._name, worker
        self.held = False
        present = self._world.server.present
        self._world.after(self._world.random.random(), lambda: present.discard(former))
        self._changed.set()

    def drop(self) -> None:
        """The server ended the session: its lock is gone now, the process hears of it later."""
        if self._name in self._world.server.present:
            self._world.server.present.discard(self._name)
            self._world.note(self._process.name, "presence", "dropped by the server")
            self._world.after(
                self._world.random.random(),
                lambda: self._process.loop.deliver(self._changed.set),
            )
