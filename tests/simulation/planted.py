"""Extension points for planted bugs, with which tests show that the simulation finds them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pulse.application.in_process import InProcessOrders
from pulse.projections.projector import Projector
from pulse.workers.releases import Releaser
from pulse.workers.splitting import SplittingWorker
from tests.simulation.memory.log import MemoryLog
from tests.simulation.memory.server import Server
from tests.simulation.memory.statements import STATEMENTS, Statement

if TYPE_CHECKING:
    from tests.simulation.world import World


class Planted:
    """No bug. A planted bug is a subclass that overrides one of these."""

    worker: type[SplittingWorker] = SplittingWorker
    projector: type[Projector] = Projector
    releaser: type[Releaser] = Releaser
    orders: type[InProcessOrders] = InProcessOrders
    log_type: type[MemoryLog] = MemoryLog

    def __enter__(self) -> None:
        """Apply the bug's patch, if it has one."""

    def __exit__(self, *_: object) -> None:
        """Undo the patch."""

    def server(self, world: "World") -> Server:
        """The server of this run."""
        return Server(lambda: world.now, world.invariants, self.log_type)

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002 - for bugs
        """The implementations of its statements."""
        return STATEMENTS


def with_replaced(original: Statement, planted: Statement) -> Mapping[str, Statement]:
    """The statements, with one of them replaced."""
    return {text: planted if s is original else s for text, s in STATEMENTS.items()}


NOTHING: Any = Planted()
