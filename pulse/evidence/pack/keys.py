"""The keys whose signatures in a pack are trusted, and up to which size of the tree."""

import itertools
from collections.abc import Iterable, Sequence

import msgspec

from pulse.evidence.chain import loss_accepted_after, next_key, require_declared_origin
from pulse.evidence.note import Checkpoint, NoteInvalid, VerifierKey, open_checkpoint, split_note
from pulse.evidence.pack.members import PackKey


class TrustedKey(msgspec.Struct, frozen=True):
    """A key whose signatures are trusted for trees of up to `max_size` entries; None: no limit."""

    key: VerifierKey
    max_size: int | None = None


class Replacement(msgspec.Struct, frozen=True):
    """A replaced key, and the tree in the note that replaced it; None if the note declares a loss.

    A replaced key may have been stolen. Its signatures are trusted only up to the size of that
    tree, and only if the tree of the pack had the same root at that size.
    """

    key: VerifierKey
    tree: Checkpoint | None


def parse_keys(keys: Sequence[PackKey]) -> list[VerifierKey]:
    """The keys, oldest first, of which each one introduced the next.

    Raises:
        NoteInvalid: a key is malformed, was not introduced by the one before it, or has the origin
            of a fork that no note declares.
    """
    parsed: list[VerifierKey] = []
    for packed in keys:
        key = VerifierKey.parse(packed.verifier_key)
        if str(key) != packed.verifier_key:
            raise NoteInvalid("not a verifier key in the form that Pulse writes")
        if not parsed and packed.rotation is not None:
            raise NoteInvalid("the first key has a rotation note")
        if parsed and next_key(packed.rotation or "", parsed[-1]) != key:
            raise NoteInvalid("a rotation note introduces another key")
        require_declared_origin(parsed[-1] if parsed else None, key, packed.rotation)
        parsed.append(key)
    return parsed


def replaced_keys(keys: Sequence[PackKey]) -> list[Replacement]:
    """The keys before the last one, newest first.

    Raises:
        NoteInvalid: a rotation note is malformed.
    """
    replaced = []
    for number in range(len(keys) - 1, 0, -1):
        note = keys[number].rotation or ""
        tree = None if loss_accepted_after(note) else unsigned(note)
        replaced.append(Replacement(VerifierKey.parse(keys[number - 1].verifier_key), tree))
    return replaced


def trusted_keys(keys: Sequence[PackKey]) -> list[TrustedKey]:
    """The keys, newest first, of a log whose tree has the root of each rotation note.

    Those before a loss of events are left out.

    Raises:
        NoteInvalid: a key or a rotation note is malformed.
    """
    newest = [TrustedKey(VerifierKey.parse(key.verifier_key)) for key in keys[-1:]]
    trees = trees_of(keys)
    replaced = replaced_keys(keys)[: len(trees)]
    return newest + [TrustedKey(r.key, t.size) for r, t in zip(replaced, trees, strict=True)]


def keys_until(note: str, keys: Sequence[PackKey]) -> list[PackKey]:
    """The keys up to the newest that signed this checkpoint; all if none did."""
    for number in range(len(keys), 0, -1):
        if open_trusted(note, [TrustedKey(VerifierKey.parse(keys[number - 1].verifier_key))]):
            return list(keys[:number])
    return list(keys)


def trees_of(keys: Sequence[PackKey]) -> list[Checkpoint]:
    """The trees that the rotation notes state, newest first, back to a loss of events.

    Raises:
        NoteInvalid: a rotation note is malformed.
    """
    trees = [one.tree for one in replaced_keys(keys)]
    return [tree for tree in itertools.takewhile(lambda tree: tree is not None, trees) if tree]


def open_trusted(
    note: bytes | str, keys: Iterable[TrustedKey]
) -> tuple[Checkpoint, VerifierKey] | None:
    """The checkpoint of a note, and which of the keys signed it; None if none of them did."""
    for trusted in keys:
        try:
            checkpoint = open_checkpoint(note, trusted.key)
        except NoteInvalid:
            continue
        if trusted.max_size is None or checkpoint.size <= trusted.max_size:
            return checkpoint, trusted.key
    return None


def unsigned(note: str) -> Checkpoint:
    """The checkpoint of a note, whose signature is not checked here.

    Raises:
        NoteInvalid: it is not a checkpoint.
    """
    return Checkpoint.parse(split_note(note)[0])
