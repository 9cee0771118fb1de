"""Plausible bugs of the sealer to plant; the simulation must find each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.simulation.memory import seal
from tests.simulation.memory.server import Result, Server, Session
from tests.simulation.memory.statements import Statement
from tests.simulation.memory.tables import SealRow
from tests.simulation.planted import Planted, with_replaced

if TYPE_CHECKING:
    from tests.simulation.world import World


class SealNotLocked(Planted):
    """Two sealers read the tree's row at once, and both continue the same tree."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def lock_seal(server: Server, session: Session, parameters: Any) -> Result:
            server.seal_holder = None
            return seal.lock_seal(server, session, parameters)

        return with_replaced(seal.lock_seal, lock_seal)


class TreeRemembered(Planted):
    """A sealer continues the tree that it sealed last, not the one in the database."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        remembered: dict[str, SealRow] = {}

        def lock_seal(server: Server, session: Session, parameters: Any) -> Result:
            result = seal.lock_seal(server, session, parameters)
            row = remembered.get(session.owner)
            return Result([seal.state_row(server, row)]) if result.rows and row else result

        def update_checkpoint(server: Server, session: Session, parameters: Any) -> Result:
            result = seal.update_checkpoint(server, session, parameters)
            remembered[session.owner] = seal.change_seal(server, session).row.copy()
            return result

        replaced = dict(with_replaced(seal.lock_seal, lock_seal))
        return {
            text: update_checkpoint if each is seal.update_checkpoint else each
            for text, each in replaced.items()
        }


class CheckpointBeforeTree(Planted):
    """The checkpoint is stored in a transaction of its own, before the tree."""

    def statements(self, world: "World") -> Mapping[str, Statement]:
        def update_checkpoint(server: Server, session: Session, parameters: Any) -> Result:
            world.invariants.seal.anchored(parameters[0])
            return seal.update_checkpoint(server, session, parameters)

        return with_replaced(seal.update_checkpoint, update_checkpoint)


class EntriesBeforeTree(Planted):
    """The entries are stored in a transaction of their own, before the tree's row."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def seal_events(server: Server, session: Session, parameters: Any) -> Result:
            result = seal.seal_events(server, session, parameters)
            server.tables.seal.entries = dict(seal.change_seal(server, session).entries)
            return result

        return with_replaced(seal.seal_events, seal_events)
