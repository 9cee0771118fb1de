"""What may be planted, to show that the simulation finds it. Nothing is, unless a test asks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pulse.projections.projector import Projector
from pulse.workers.splitting import SplittingWorker
from tests.simulation.memory.log import MemoryLog
from tests.simulation.memory.server import Server
from tests.simulation.memory.statements import STATEMENTS, Statement

if TYPE_CHECKING:
    from tests.simulation.world import World


class Planted:
    """Pulse as it is; a bug is a subclass that changes one of these."""

    worker: type[SplittingWorker] = SplittingWorker
    projector: type[Projector] = Projector
    log_type: type[MemoryLog] = MemoryLog

    def __enter__(self) -> None:
        """Plant it."""

    def __exit__(self, *_: object) -> None:
        """Take it out again."""

    def server(self, world: "World") -> Server:
        """The server of this schedule."""
        return Server(lambda: world.now, world.invariants, self.log_type)

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002 - for bugs
        """What its statements do."""
        return STATEMENTS


NOTHING: Any = Planted()
