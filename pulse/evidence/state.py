"""The row of the tree: its sealed events, its key, and the latest checkpoint."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from pulse.errors import PulseError
from pulse.evidence.merkle import Frontier
from pulse.evidence.note import Checkpoint, SigningKey, VerifierKey
from pulse.postgres import Connection, fetch, load_sql

_LOCK: Final = load_sql(__package__, "lock_seal")
_WAIT: Final = load_sql(__package__, "wait_for_seal")
_SELECT_STATE: Final = load_sql(__package__, "select_state")
_UPDATE: Final = load_sql(__package__, "update_seal")
_UPDATE_CHECKPOINT: Final = load_sql(__package__, "update_checkpoint")
_INSERT_KEY: Final = load_sql(__package__, "insert_key")
_ACCEPT_LOSS: Final = load_sql(__package__, "accept_loss")
_SELECT_LAST_POSITION: Final = load_sql(__package__, "select_last_position")
_SELECT_KEYS: Final = load_sql(__package__, "select_keys")
_SELECT_HEALTH: Final = load_sql(__package__, "select_seal")
_SELECT_LOG_ENTRIES: Final = load_sql(__package__, "select_log_entries")


class TreeDamaged(PulseError):
    """Stored entries or hashes of the tree are missing or malformed: they were tampered with."""


class SealState(msgspec.Struct, frozen=True):
    """The tree, as stored in its row. `verifier_key` is None before the first step."""

    verifier_key: str | None
    position: int
    last_entry: bytes | None
    frontier: Frontier
    checkpoint: str | None
    checkpoint_size: int
    checkpoint_age_seconds: float | None

    @property
    def size(self) -> int:
        """The number of sealed events."""
        return self.frontier.size


class SealHealth(msgspec.Struct, frozen=True):
    """How far the log is sealed.

    `behind_seconds` is the age of the first event that is not sealed, by the database's clock; 0 if
    all are. `idle_seconds` is the time since the last step that sealed any, None if there was none.
    If `last_event_in_log` is False, sealed events are missing from the log.
    """

    verifier_key: str | None
    size: int
    position: int
    checkpoint: str | None
    checkpoint_size: int
    idle_seconds: float | None
    behind_seconds: float
    last_event_in_log: bool


class RecordedKey(msgspec.Struct, frozen=True):
    """A key that signed checkpoints, and the rotation note that introduced it, except the first."""

    number: int
    verifier_key: str
    rotation: str | None
    recorded_at: datetime


async def lock_state(connection: Connection, *, wait: bool = False) -> SealState | None:
    """Lock the tree until the transaction ends. Without `wait`, None if another process holds it.

    Raises:
        TreeDamaged: the row was tampered with.
    """
    rows = await fetch(connection, _WAIT if wait else _LOCK)
    return _state(rows[0]) if rows else None


async def read_state(connection: Connection) -> SealState:
    """Read the tree's row without a lock.

    Raises:
        TreeDamaged: the row is missing or was tampered with.
    """
    rows = await fetch(connection, _SELECT_STATE)
    if not rows:
        raise TreeDamaged("the row of the seal is missing")
    return _state(rows[0])


def _state(row: Sequence[Any]) -> SealState:
    key, size, position, last_entry, frontier, *checkpoint = row
    try:
        decoded = Frontier.decode(size, frontier)
    except ValueError as error:
        raise TreeDamaged(f"the row of the seal is damaged: {error}") from error
    return SealState(key, position, last_entry, decoded, *checkpoint)


async def update_state(
    connection: Connection, frontier: Frontier, position: int, last_entry: bytes
) -> None:
    """Store the tree after a step."""
    parameters: dict[str, Any] = {
        "size": frontier.size,
        "position": position,
        "last_entry": last_entry,
        "frontier": frontier.encoded,
    }
    await connection.execute(_UPDATE, parameters, prepare=True)


async def sign_tree(connection: Connection, frontier: Frontier, key: SigningKey) -> str:
    """Sign a checkpoint of the locked tree, store it and return it."""
    checkpoint = Checkpoint(key.verifier.name, frontier.size, frontier.root).signed_by(key)
    await connection.execute(_UPDATE_CHECKPOINT, (checkpoint,), prepare=True)
    return checkpoint


async def record_key(connection: Connection, key: VerifierKey, rotation: str | None = None) -> None:
    """Record that this key signs the locked tree from now on."""
    await connection.execute(_INSERT_KEY, {"key": str(key), "rotation": rotation})


async def accept_loss(connection: Connection) -> tuple[int, bytes | None]:
    """Make the locked tree continue after the last of its events that the log still has.

    Returns the position of that event and its entry as it is now. They differ from those in the
    tree's row if sealed events were lost.
    """
    ((position, last_entry),) = await fetch(connection, _ACCEPT_LOSS)
    return position, last_entry


async def read_last_position(connection: Connection, state: SealState) -> int:
    """The position of the last event of the log up to the sealed position, 0 if there is none.

    `accept_loss` lets the tree continue after it.
    """
    ((position,),) = await fetch(connection, _SELECT_LAST_POSITION, (state.position,))
    return int(position)


async def has_last_entry(connection: Connection, state: SealState) -> bool:
    """Whether the last sealed event is in the log as it was sealed. True if nothing is sealed."""
    if state.last_entry is None:
        return True
    rows = await fetch(connection, _SELECT_LOG_ENTRIES, (state.position - 1, state.position))
    return [bytes(entry) for _, entry in rows] == [state.last_entry]


async def read_keys(connection: Connection) -> list[RecordedKey]:
    """Every key that signed checkpoints, the current one last."""
    return [RecordedKey(*row) for row in await fetch(connection, _SELECT_KEYS)]


async def read_seal_health(connection: Connection) -> SealHealth:
    """How far the log is sealed, at a cost that does not grow with the log."""
    rows = await fetch(connection, _SELECT_HEALTH)
    return SealHealth(*rows[0])
