"""The sealer of a simulated process, its anchors, and the invariants of the seal."""

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pulse.eventstore import RecordedEvent
from pulse.evidence.anchors import AnchorFile, Anchors
from pulse.evidence.merkle import Frontier, leaf_hash
from pulse.evidence.note import Checkpoint, SigningKey, VerifierKey, open_checkpoint
from pulse.evidence.sealer import Busy, Sealed, Sealer, SealFault
from pulse.evidence.tiles import decode_bundle
from pulse.postgres import Database
from tests.simulation.memory.seal import seal_entry
from tests.simulation.memory.tables import Seal
from tests.simulation.violation import require
from tests.support.merkle import root_of

if TYPE_CHECKING:
    from tests.simulation.world import World

_KEY: Final = SigningKey("pulse.invalid/simulation", bytes(32))
_CHECKPOINT_SECONDS: Final = 0.05
"""A tenth of the real time."""


class SealInvariants:
    """Checks the seal against the appended events, at each commit of a sealer and each anchor."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._entries: list[tuple[int, bytes]] = []
        self._roots: dict[int, bytes] = {0: root_of([])}
        self._checkpoints: dict[str, Checkpoint] = {}

    def appended(self, record: RecordedEvent) -> None:
        """Record an event that the seal must have."""
        self._entries.append((record.position, seal_entry(record)))

    def sealed(self, before: Seal) -> None:
        """Check the tables that a sealer has committed."""
        seal = self._world.server.tables.seal
        row, entries = seal.row, self._sorted_entries()
        require(row.size >= before.row.size, f"the tree shrank from {before.row.size}")
        stored: list[bytes] = []
        for first in sorted(seal.entries):
            position, bundle = seal.entries[first]
            require(first == len(stored), f"the seal has a row for leaf {first}, not {len(stored)}")
            stored += decode_bundle(bundle)
            require(position == entries[first][0], f"leaf {first} has position {position}")
        expected = [entry for _, entry in entries[: row.size]]
        require(stored == expected, f"the seal has other entries than the first {row.size} events")
        root = root_of([leaf_hash(entry) for entry in expected])
        require(Frontier.decode(row.size, row.frontier).root == root, "another root is sealed")
        if row.checkpoint is not None:
            checkpoint = self._check(row.checkpoint)
            require(checkpoint.size == row.checkpoint_size, "a checkpoint has another size")

    def anchored(self, note: str) -> None:
        """Check a checkpoint that a process keeps outside of the database."""
        self._world.note("anchor", "checkpoint", note.split("\n")[1])
        self._check(note)

    def stopped(self, fault: SealFault) -> None:
        """No fault of the simulation may stop the seal."""
        self._world.errors.append(f"the seal stopped: {fault.message}")

    def is_complete(self) -> bool:
        """Whether every event is sealed, and in the tree of the latest checkpoint."""
        row = self._world.server.tables.seal.row
        return row.size == row.checkpoint_size == len(self._entries)

    def _check(self, note: str) -> Checkpoint:
        """A checkpoint is signed, and of a committed tree; a size has one root."""
        if note not in self._checkpoints:
            self._checkpoints[note] = open_checkpoint(note, _KEY.verifier)
        checkpoint, sealed = self._checkpoints[note], self._world.server.tables.seal.row.size
        size = checkpoint.size
        require(size <= sealed, f"a checkpoint has {size} entries, the tree has {sealed}")
        root = self._roots.setdefault(size, checkpoint.root)
        require(root == checkpoint.root, f"trees of {size} entries have two roots")
        leaves = [leaf_hash(entry) for _, entry in self._sorted_entries()[:size]]
        require(root == root_of(leaves), f"a checkpoint of {size} entries has another root")
        return checkpoint

    def _sorted_entries(self) -> list[tuple[int, bytes]]:
        return sorted(self._entries)


class SimulatedFile(AnchorFile):
    """The file of anchors of one host. It outlives the processes there."""

    def __init__(self, name: str) -> None:
        super().__init__(Path(name))
        self._last: Checkpoint | None = None

    def append(self, checkpoint: str) -> None:
        self._last = open_checkpoint(checkpoint, _KEY.verifier)

    def last(self, key: VerifierKey) -> Checkpoint | None:  # noqa: ARG002 - there is one key
        return self._last


class AnchorFiles(defaultdict[str, SimulatedFile]):
    """The files by host."""

    def __missing__(self, name: str) -> SimulatedFile:
        return self.setdefault(name, SimulatedFile(name))


class SimulatedAnchors(Anchors):
    """Keeps checkpoints without a thread."""

    def __init__(self, file: SimulatedFile, invariants: SealInvariants) -> None:
        super().__init__(file)
        self._invariants = invariants

    async def keep(self, checkpoint: str) -> None:
        self._invariants.anchored(checkpoint)
        self.file.append(checkpoint)


class SimulatedSealer(Sealer):
    """Pulse's sealer, whose faults are violations."""

    def __init__(self, database: Database, anchors: Anchors, invariants: SealInvariants) -> None:
        super().__init__(database, lambda: _KEY, anchors, checkpoint_seconds=_CHECKPOINT_SECONDS)
        self._invariants = invariants

    async def run_once(self) -> Sealed | Busy | SealFault:
        result = await super().run_once()
        if isinstance(result, SealFault):
            self._invariants.stopped(result)
        return result
