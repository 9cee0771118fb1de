"""The sealer: adds a leaf to a Merkle tree for each event of the log, and signs checkpoints."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
import psycopg
import structlog

from pulse.errors import PulseError
from pulse.evidence.anchors import AnchorFile, Anchors, AnchorUnusable
from pulse.evidence.chain import declared_fork, is_same_signer, require_chain
from pulse.evidence.key_file import KeyFileUnusable
from pulse.evidence.merkle import HASH_BYTES, Frontier
from pulse.evidence.note import NoteInvalid, SigningKey, VerifierKey
from pulse.evidence.state import (
    SealState,
    TreeDamaged,
    lock_state,
    read_keys,
    record_key,
    sign_tree,
    update_state,
)
from pulse.evidence.tree import read_root
from pulse.loop import Job
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe, fetch, load_sql

_log = structlog.get_logger(__name__)

BATCH_EVENTS: Final = 5_000
CHECKPOINT_SECONDS: Final = 0.5
"""A checkpoint is signed about this often while events are sealed."""

_PAUSE_FACTOR: Final = 3.0
"""The pause after a full batch, in durations of the batch: sealing takes a quarter of the time."""

_BUSY_SECONDS: Final = 0.02

_SEAL_EVENTS: Final = load_sql(__package__, "seal_events")
_INSERT_NODES: Final = load_sql(__package__, "insert_nodes")


class Sealed(msgspec.Struct, frozen=True):
    """A step sealed `events` events; the tree has `size` leaves and ends at `position`."""

    size: int
    position: int
    events: int
    seconds: float
    checkpoint: str | None = None


class Busy(msgspec.Struct, frozen=True):
    """Another process is sealing, or signed the latest checkpoint just now."""


class SealFault(msgspec.Struct, frozen=True):
    """Why this process does not seal: the code and the message of a notice."""

    code: Literal["seal_key_unusable", "seal_key_differs", "seal_diverged"]
    message: str


class Diverged(PulseError):
    """The log or the tree is not the one that was sealed."""


class Sealer(Job[Sealed | Busy | SealFault]):
    """Seals the log, one batch per transaction, one process at a time.

    A transaction locks the tree's row and stores the entries, the hashes of full subtrees, the new
    right edge and the checkpoint. So each event has one leaf, even if processes are killed. The
    first key that seals a database is recorded; a process with another one does not seal.

    The process that sealed last continues. Another one takes over once the latest checkpoint is
    older than `checkpoint_seconds`, so several processes sign no more checkpoints than one.

    Sealing stops if the tree or the log was changed: the last sealed event is missing or differs,
    the tree does not begin with the tree of the last anchor, or it is smaller than it was. `fault`
    has the reason.
    """

    name = "sealer"
    poll_seconds = 5.0

    def __init__(
        self,
        database: Database,
        read_key: Callable[[], SigningKey],
        anchors: Anchors,
        *,
        batch_events: int = BATCH_EVENTS,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.fault: SealFault | None = None
        self.min_pause_seconds = checkpoint_seconds
        self._database = database
        self._read_key = read_key
        self._key: SigningKey | None = None
        self._anchors = anchors
        self._batch_events = batch_events
        self._known: Frontier | None = None

    async def run_once(self) -> Sealed | Busy | SealFault:
        """Seal the next batch of the log, and sign a checkpoint unless one was signed just now.

        Raises:
            DatabaseUnavailable: nothing was changed, unless the connection was lost at the commit.
        """
        try:
            async with self._database.connection() as connection:
                result = await self._step(connection)
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error
        if isinstance(result, SealFault):
            self._note_fault(result)
        elif isinstance(result, Sealed):
            self._note_fault(None)
            if result.checkpoint is not None:
                await self._anchors.keep(result.checkpoint)
        return result

    async def run_until_done(self) -> None:
        """Seal every event of the log, unless a fault prevents that. Waits for other processes.

        Raises: as `run_once`.
        """
        while not isinstance(result := await self.run_once(), SealFault):
            if isinstance(result, Busy):
                await asyncio.sleep(_BUSY_SECONDS)
            elif not result.events:
                return

    def pause_after(self, result: Sealed | Busy | SealFault) -> float | None:
        """After a full batch a multiple of its duration, so that projection has priority."""
        if isinstance(result, Sealed) and result.events == self._batch_events:
            return _PAUSE_FACTOR * result.seconds
        return None

    def poll_after(self, result: Sealed | Busy | SealFault) -> float:
        """Short if another process seals, since it may end before all events are sealed."""
        return self.min_pause_seconds if isinstance(result, Busy) else self.poll_seconds

    async def _step(self, connection: Connection) -> Sealed | Busy | SealFault:
        try:
            self._key = self._key or self._read_key()
        except KeyFileUnusable as error:
            return SealFault("seal_key_unusable", f"this process does not seal the log: {error}")
        try:
            async with connection.transaction():
                result, frontier = await self._locked_step(connection, self._key)
        except (Diverged, TreeDamaged) as diverged:
            return SealFault("seal_diverged", f"sealing has stopped: {diverged}")
        except psycopg.errors.UniqueViolation:
            return SealFault(
                "seal_diverged",
                "sealing has stopped: the tree has entries beyond its size, so the row "
                "in seal_state was changed",
            )
        self._known = frontier or self._known
        return result

    async def _locked_step(
        self, connection: Connection, key: SigningKey
    ) -> tuple[Sealed | Busy | SealFault, Frontier | None]:
        state = await lock_state(connection)
        if state is None:
            return Busy(), None
        if state.verifier_key is None:
            await record_key(connection, key.verifier)
        elif state.verifier_key != str(key.verifier):
            self._key = self._known = None  # the file may be replaced, and the log forked
            named = await key_of_log(connection, state.verifier_key, key)
            if named is None:
                return _other_key(state.verifier_key, key), None
            self._key = key = named
        if self._known is None:
            await require_anchored(connection, state, key.verifier, self._anchors.file)
        elif state.size < self._known.size:
            raise Diverged(
                f"the tree had {self._known.size:,} entries and has {state.size:,} now: the "
                "database was restored to an earlier point"
            )
        elif state.size == self._known.size and state.frontier != self._known:
            raise Diverged(
                f"the hashes of the tree of {state.size:,} entries are not those it had: the tree "
                "was changed, or the database was restored and sealed by another process"
            )
        elif state.frontier != self._known and not self._is_due(state):
            return Busy(), state.frontier
        return await self._seal(connection, state, key)

    async def _seal(
        self, connection: Connection, state: SealState, key: SigningKey
    ) -> tuple[Sealed, Frontier]:
        begun = time.perf_counter()
        parameters: dict[str, Any] = {
            "position": state.position,
            "size": state.size,
            "last_entry": state.last_entry,
            "limit": self._batch_events,
        }
        rows = await fetch(connection, _SEAL_EVENTS, parameters)
        events, position, leaves, last_entry, is_intact = rows[0]
        if state.last_entry is not None and not is_intact:
            raise Diverged(
                f"the event at position {state.position}, the last one sealed, "
                f"{'is missing' if is_intact is None else 'was changed'}: restore the log from a "
                "backup"
            )
        frontier = state.frontier
        if events:
            hashes = [leaves[i : i + HASH_BYTES] for i in range(0, len(leaves), HASH_BYTES)]
            frontier, full = frontier.extended(hashes)
            await _insert_nodes(connection, full)
            await update_state(connection, frontier, position, last_entry)
        checkpoint = None
        is_due = events < self._batch_events or self._is_due(state)
        if frontier.size > state.checkpoint_size and is_due:
            checkpoint = await sign_tree(connection, frontier, key)
        seconds = time.perf_counter() - begun
        sealed = Sealed(frontier.size, position or state.position, events, seconds, checkpoint)
        return sealed, frontier

    def _is_due(self, state: SealState) -> bool:
        age_seconds = state.checkpoint_age_seconds
        return age_seconds is None or age_seconds >= self.min_pause_seconds

    def _note_fault(self, fault: SealFault | None) -> None:
        if fault != self.fault and fault is not None:
            _log.warning("seal.stopped", code=fault.code, reason=fault.message)
        self.fault = fault


async def key_of_log(connection: Connection, recorded: str, key: SigningKey) -> SigningKey | None:
    """The key under the name with which it signs this log, None if another key signs it.

    After a fork this is not the name in its file. The key signs under such a name only if the chain
    of keys in the database leads to it: each fork and rotation is signed by the key before it, so
    the administrator of the database cannot choose the name.
    """
    if recorded == str(key.verifier):
        return key
    keys = await read_keys(connection)
    try:
        verifier = VerifierKey.parse(recorded)
        if not is_same_signer(verifier, key.verifier):
            return None
        require_chain(keys)
        is_forked = any(declared_fork(each.rotation) is not None for each in keys)
    except NoteInvalid:
        return None
    if not is_forked or keys[-1].verifier_key != recorded:
        return None
    return key.named(verifier.name)


def _other_key(recorded: str, key: SigningKey) -> SealFault:
    return SealFault(
        "seal_key_differs",
        f"this process does not seal the log: its key is {key.verifier}, and the database is "
        f"sealed with {recorded}; set PULSE_SEAL_KEY to the file of that key, or introduce this "
        "one with `pulse key rotate`",
    )


async def require_anchored(
    connection: Connection, state: SealState, key: VerifierKey, file: AnchorFile
) -> None:
    """Require that the stored tree is whole, and begins with the tree of the last anchor.

    Raises:
        Diverged: it does not.
    """
    if state.size and await read_root(connection, state.size) != state.frontier.root:
        raise Diverged("the tree was changed: entries or hashes are missing or differ")
    try:
        anchor = file.last(key)
    except AnchorUnusable as error:
        _log.warning("seal.anchors_unreadable", reason=str(error))
        return
    if anchor is None or not anchor.size:
        return
    if anchor.size > state.size:
        raise Diverged(
            f"the last anchor in {file.path} is of {anchor.size:,} entries and the tree has "
            f"{state.size:,}: the database was restored to an earlier point, or is another one"
        )
    if await read_root(connection, anchor.size) != anchor.root:
        raise Diverged(f"the tree differs from the last anchor in {file.path}")


async def _insert_nodes(connection: Connection, full: dict[tuple[int, int], bytes]) -> None:
    if full:
        levels, indices = zip(*full, strict=True)
        parameters = (list(levels), list(indices), list(full.values()))
        await connection.execute(_INSERT_NODES, parameters, prepare=True)
