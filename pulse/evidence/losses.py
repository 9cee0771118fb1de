"""Declared losses: sealed events that the log lacks, and that a signed note declares lost."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pulse.evidence.chain import loss_accepted_after
from pulse.evidence.state import RecordedKey, TreeDamaged
from pulse.evidence.tiles import decode_bundle
from pulse.postgres import Connection, fetch, load_sql

_ROWS: Final = 64
"""Rows of entries that are read at once, each of up to 256."""

_SELECT_ROWS_BEFORE: Final = load_sql(__package__, "select_rows_before")
_BEGIN: Final = b'{"position":'


class DeclaredLoss(msgspec.Struct, frozen=True):
    """What the note of key `key` says: of the first `size` leaves, those after `position` are lost.

    A leaf that an earlier note declared lost does not count again.
    """

    key: int
    size: int
    position: int


class LostEvents(msgspec.Struct, frozen=True):
    """How many sealed events are not in the log, as the note of key number `key` declares."""

    key: int
    events: int


def declared_losses(keys: Iterable[RecordedKey]) -> list[DeclaredLoss]:
    """The losses that the notes of these keys declare, the oldest first.

    Raises:
        NoteInvalid: a note is malformed.
    """
    found = [(key.number, loss_accepted_after(key.rotation)) for key in keys]
    return [DeclaredLoss(number, *loss) for number, loss in found if loss is not None]


def key_of_loss(losses: Sequence[DeclaredLoss], index: int, position: int) -> int | None:
    """The number of the first key whose note declares this leaf lost; None if none does."""
    for loss in losses:
        if index < loss.size and position > loss.position:
            return loss.key
    return None


def lost_events(counts: Counter[int]) -> tuple[LostEvents, ...]:
    """How many events each note declares lost, by the numbers of the keys."""
    return tuple(LostEvents(key, counts[key]) for key in sorted(counts))


async def count_lost(
    connection: Connection, losses: Sequence[DeclaredLoss]
) -> tuple[LostEvents, ...]:
    """How many leaves each of these losses concerns, by the stored entries, which are not checked.

    It reads the tree backward from each loss, up to the first leaf that was not lost.

    Raises:
        TreeDamaged: a stored entry is malformed.
    """
    counts: Counter[int] = Counter()
    for number, loss in enumerate(losses, 1):
        counts[loss.key] += await _count_one(connection, losses[:number], loss)
    return lost_events(+counts)


async def _count_one(
    connection: Connection, losses: Sequence[DeclaredLoss], loss: DeclaredLoss
) -> int:
    count, before = 0, loss.size
    while before:
        rows = await fetch(connection, _SELECT_ROWS_BEFORE, (before, _ROWS))
        for first_index, bundle in rows:
            entries = decoded_row(first_index, bundle)[: before - first_index]
            for index in reversed(range(first_index, first_index + len(entries))):
                key = key_of_loss(losses, index, position_of(entries[index - first_index]))
                if key is None:
                    return count
                count += key == loss.key
            before = first_index
        if not rows:
            break
    return count


def decoded_row(index: int, bundle: bytes) -> list[bytes]:
    """The entries of the stored row that begins with this leaf.

    Raises:
        TreeDamaged: the row is malformed or empty.
    """
    try:
        entries = decode_bundle(bundle)
    except ValueError as error:
        raise TreeDamaged(f"the row of seal_entries from leaf {index} on: {error}") from error
    if not entries:
        raise TreeDamaged(f"the row of seal_entries from leaf {index} on is empty")
    return entries


def position_of(entry: bytes) -> int:
    """The position of the event of this entry.

    Raises:
        TreeDamaged: the entry is malformed.
    """
    try:
        return int(entry[len(_BEGIN) : entry.index(b",")])
    except ValueError:
        raise TreeDamaged("an entry of the seal is malformed") from None
