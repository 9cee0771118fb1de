"""The chain of keys that signed one log: rotations, declared forks, and their notes.

A rotation note is a checkpoint of the tree at that time, with a line that names the next key. Both
keys sign it. The note of a fork is a rotation note whose next key is the same key under another
name, because one origin must not have two different trees.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final
from uuid import UUID

import msgspec

from pulse.evidence.note import (
    Checkpoint,
    NoteInvalid,
    VerifierKey,
    open_checkpoint,
    split_note,
)
from pulse.evidence.state import RecordedKey
from pulse.rfc3339 import format_time, parse_time

_NEXT_KEY: Final = "next-key "
_LOSS: Final = "loss-accepted-after "
_FORK_AFTER: Final = "fork-after "
_FORK_LOG: Final = "fork-log "
_FORK_KNOWN: Final = "fork-known-size "
_FORK_TIME: Final = "fork-time "
_FORK_BY: Final = "fork-by "
_FORK_REASON: Final = "fork-reason "
_FORKED_ORIGIN: Final = re.compile(r"/fork-[0-9a-f]{12}\Z")
_LOG_ID_DIGITS: Final = 12


class DeclaredFork(msgspec.Struct, frozen=True):
    """A fork as its note declares it: the log was restored to an earlier point and continued.

    `position` is the end of the log at that time, `size` the number of its sealed events.
    `known_size` is the size of the largest checkpoint of the earlier log that was known, None if
    none was: up to `known_size - size` of the events in that checkpoint were lost.
    """

    position: int
    size: int
    known_size: int | None
    old_log_id: UUID
    new_log_id: UUID
    forked_at: datetime
    forked_by: str
    reason: str


def origin_of_fork(origin: str, log_id: UUID) -> str:
    """The origin of a log with this origin after a fork that gave it this `log_id`."""
    return f"{origin_before_forks(origin)}/fork-{log_id.hex[:_LOG_ID_DIGITS]}"


def origin_before_forks(origin: str) -> str:
    """The origin without what a fork appended to it."""
    return _FORKED_ORIGIN.sub("", origin)


def is_origin_of_fork(origin: str) -> bool:
    """Whether it ends like the origin of a fork."""
    return _FORKED_ORIGIN.search(origin) is not None


def is_same_signer(one: VerifierKey, other: VerifierKey) -> bool:
    """Whether they are the same key under names that differ only by what forks appended."""
    return one.public == other.public and (
        origin_before_forks(one.name) == origin_before_forks(other.name)
    )


def signer_index(
    given: VerifierKey, keys: Sequence[VerifierKey], rotations: Sequence[str | None]
) -> int | None:
    """The place in a chain of the first key that is the given one; None if the chain lacks it.

    `rotations` are the notes that introduced the keys. A fork changes the name of a key. So a key
    with the given public part and another name is the given one in three cases: the chain also has
    the key under the given name; the given name is that of a fork, which another restore may have
    undone; or a rotation introduced the key under the origin of a fork. In any other case the chain
    lacks the keys before a fork.

    Raises:
        NoteInvalid: a note is malformed.
    """
    for place, key in enumerate(keys):
        if is_same_signer(key, given):
            was_rotated_to = place > 0 and declared_fork(rotations[place]) is None
            is_given = given in keys or is_origin_of_fork(given.name) or was_rotated_to
            return place if is_given else None
    return None


def next_key_line(key: VerifierKey) -> str:
    """The line of a note that introduces this key."""
    return f"{_NEXT_KEY}{key}"


def loss_line(position: int) -> str:
    """The line of a note which says that sealed events after this position are not in the log."""
    return f"{_LOSS}{position}"


def fork_lines(fork: DeclaredFork) -> tuple[str, ...]:
    """The lines of a note that declare this fork; its size is that of the note's checkpoint."""
    known = () if fork.known_size is None else (f"{_FORK_KNOWN}{fork.known_size}",)
    return (
        f"{_FORK_AFTER}{fork.position}",
        f"{_FORK_LOG}{fork.old_log_id} {fork.new_log_id}",
        *known,
        f"{_FORK_TIME}{format_time(fork.forked_at)}",
        f"{_FORK_BY}{fork.forked_by}",
        f"{_FORK_REASON}{fork.reason}",
    )


def next_key(note: str, key: VerifierKey) -> VerifierKey:
    """The key that a rotation note introduces, if this key and the new one signed it.

    Raises:
        NoteInvalid: it is not a rotation note of this key.
    """
    names = _values(open_checkpoint(note, key), _NEXT_KEY)
    if len(names) != 1:
        raise NoteInvalid("the note introduces no key")
    new = VerifierKey.parse(names[0])
    new.signed(note)
    return new


def loss_accepted_after(note: str | None) -> tuple[int, int] | None:
    """The loss that a rotation note declares, None if it declares none.

    The tree's size at that time, and the position after which its events are lost. The signatures
    are not verified.

    Raises:
        NoteInvalid: the note, or its line about the loss, is malformed.
    """
    if note is None:
        return None
    checkpoint = _unsigned(note)
    positions = _values(checkpoint, _LOSS)
    try:
        return (checkpoint.size, int(positions[0])) if positions else None
    except ValueError:
        raise NoteInvalid("the note declares a loss without a position") from None


def declared_fork(note: str | None) -> DeclaredFork | None:
    """The fork that a note declares, None if it declares none. The signatures are not verified.

    Raises:
        NoteInvalid: the note, or one of its lines about the fork, is malformed.
    """
    if note is None:
        return None
    checkpoint = _unsigned(note)
    if not _values(checkpoint, _FORK_AFTER):
        return None
    known = _values(checkpoint, _FORK_KNOWN)
    try:
        old, new = _value(checkpoint, _FORK_LOG).split(" ")
        return DeclaredFork(
            position=int(_value(checkpoint, _FORK_AFTER)),
            size=checkpoint.size,
            known_size=int(known[0]) if known else None,
            old_log_id=UUID(old),
            new_log_id=UUID(new),
            forked_at=parse_time(_value(checkpoint, _FORK_TIME)),
            forked_by=_value(checkpoint, _FORK_BY),
            reason=_value(checkpoint, _FORK_REASON),
        )
    except ValueError:
        raise NoteInvalid("the lines of the note about the fork are malformed") from None


def require_chain(keys: Sequence[RecordedKey]) -> None:
    """Require that each key after the first was introduced by the previous one.

    Raises:
        NoteInvalid: it was not, or a key has the origin of a fork that no note declares.
    """
    for key in keys[:1]:
        require_declared_origin(None, VerifierKey.parse(key.verifier_key), None)
    for recorded, key in pairwise(keys):
        before = VerifierKey.parse(recorded.verifier_key)
        introduced = next_key(key.rotation or "", before)
        if str(introduced) != key.verifier_key:
            raise NoteInvalid(f"key {key.number} was not introduced by the key before it")
        require_declared_origin(before, introduced, key.rotation)


def require_declared_origin(before: VerifierKey | None, key: VerifierKey, note: str | None) -> None:
    """Require that the note which introduced this key declares the fork that its origin names.

    `before` is the key before it, None if this is the first one. A key that keeps the origin of the
    key before it needs no declaration.

    Raises:
        NoteInvalid: no note declares the fork, so its record was removed.
    """
    if not is_origin_of_fork(key.name) or (before is not None and before.name == key.name):
        return
    fork = None if before is None else declared_fork(note)
    if fork is None or key.name != origin_of_fork(key.name, fork.new_log_id):
        raise NoteInvalid(f"{key.name} is the origin of a fork, and no note declares this fork")


def sizes_before_forks(rotations: Sequence[str | None]) -> list[int | None]:
    """For each key the smallest size of the tree at a fork after it, None if none followed.

    `rotations` are the notes that introduced the keys, None for the first. Larger trees that a key
    signed belong to an earlier log.

    Raises:
        NoteInvalid: a note is malformed.
    """
    limits: list[int | None] = []
    limit: int | None = None
    for note in reversed(rotations):
        limits.append(limit)
        fork = declared_fork(note)
        if fork is not None:
            limit = fork.size if limit is None else min(limit, fork.size)
    return limits[::-1]


def keys_of_earlier_logs(
    notes: Iterable[str], keys: Sequence[VerifierKey], limits: Sequence[int | None]
) -> list[VerifierKey]:
    """The keys that a lost part of the log introduced: its forks and rotations.

    `notes` are anchors, oldest first, `keys` those of the log as it is, `limits` as
    `sizes_before_forks` returns them. A key counts if it was introduced by one of `keys` that a
    fork followed, or by a key found earlier.
    """
    introducing = [key for key, limit in zip(keys, limits, strict=True) if limit is not None]
    found: list[VerifierKey] = []
    for note in notes:
        if f"\n{_NEXT_KEY}" not in note:
            continue
        for key in (*introducing, *found):
            try:
                new = next_key(note, key)
            except NoteInvalid:
                continue
            if new not in keys and new not in found:
                found.append(new)
            break
    return found


def _unsigned(note: str) -> Checkpoint:
    return Checkpoint.parse(split_note(note)[0])


def _values(checkpoint: Checkpoint, name: str) -> list[str]:
    return [line.removeprefix(name) for line in checkpoint.extensions if line.startswith(name)]


def _value(checkpoint: Checkpoint, name: str) -> str:
    """The value of the only line with this name.

    Raises:
        ValueError: there is no such line, or more than one.
    """
    (value,) = _values(checkpoint, name)
    return value
