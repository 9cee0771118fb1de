"""Rotation: another key signs the checkpoints from now on, and the previous key vouches for it."""

import asyncio
from itertools import pairwise
from typing import Final

import msgspec
import psycopg

from pulse.errors import PulseError
from pulse.evidence.anchors import AnchorFile
from pulse.evidence.note import (
    Checkpoint,
    NoteInvalid,
    SigningKey,
    VerifierKey,
    open_checkpoint,
    split_note,
)
from pulse.evidence.sealer import require_anchored
from pulse.evidence.state import (
    RecordedKey,
    SealState,
    accept_loss,
    lock_state,
    record_key,
    sign_tree,
)
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe

_NEXT_KEY: Final = "next-key "
_LOSS: Final = "loss-accepted-after "


class RotationRefused(PulseError):
    """The key cannot be rotated now; the message says what to do."""


class Rotation(msgspec.Struct, frozen=True):
    """The rotation note, and the first checkpoint of the new key; None if nothing is sealed yet."""

    note: str
    checkpoint: str | None


async def rotate_key(
    database: Database,
    old: SigningKey,
    new: SigningKey,
    anchors: AnchorFile,
    *,
    accepts_loss: bool = False,
) -> Rotation:
    """Let the new key sign the checkpoints from now on.

    The rotation note is a checkpoint of the tree as it is, with a line that names the new key, and
    both keys sign it. It is stored and anchored. Processes with the old key stop sealing.

    With `accepts_loss` a tree whose last events are lost continues with the events that the log
    has. The new key must have another origin then: one origin must not have two different trees.

    Raises:
        RotationRefused: the old key is not the one that seals, or nothing was sealed.
        Diverged: the log or the tree was changed, and `accepts_loss` is not set.
        DatabaseUnavailable: nothing was changed.
        AnchorUnusable: the key was rotated, but the note was not anchored.
    """
    if accepts_loss and old.verifier.name == new.verifier.name:
        raise RotationRefused(
            "a log that lost events needs another name: make the new key with another --origin"
        )
    try:
        async with database.connection() as connection, connection.transaction():
            rotation = await _rotated(connection, old, new, anchors, accepts_loss=accepts_loss)
    except psycopg.Error as error:
        raise DatabaseUnavailable(describe(error)) from error
    for note in filter(None, (rotation.note, rotation.checkpoint)):
        await asyncio.to_thread(anchors.append, note)
    return rotation


async def _rotated(
    connection: Connection,
    old: SigningKey,
    new: SigningKey,
    anchors: AnchorFile,
    *,
    accepts_loss: bool,
) -> Rotation:
    state = await _sealed_by(connection, old.verifier)
    if str(new.verifier) == state.verifier_key:
        raise RotationRefused("this key signs the checkpoints already")
    extensions = [f"{_NEXT_KEY}{new.verifier}"]
    if accepts_loss:
        extensions.append(f"{_LOSS}{await accept_loss(connection)}")
    else:
        await require_anchored(connection, state, old.verifier, anchors)
    tree = state.frontier
    note = Checkpoint(old.verifier.name, tree.size, tree.root, tuple(extensions)).signed_by(
        old, new
    )
    await record_key(connection, new.verifier, note)
    checkpoint = await sign_tree(connection, tree, new) if tree.size else None
    return Rotation(note, checkpoint)


async def _sealed_by(connection: Connection, key: VerifierKey) -> SealState:
    state = await lock_state(connection, wait=True)
    if state is None or state.verifier_key is None:
        raise RotationRefused(
            "nothing is sealed yet, so no key has to be replaced: set PULSE_SEAL_KEY to the new one"
        )
    if state.verifier_key != str(key):
        raise RotationRefused(
            f"the database is sealed with {state.verifier_key}, and PULSE_SEAL_KEY has {key}"
        )
    return state


def next_key(note: str, key: VerifierKey) -> VerifierKey:
    """The key that a rotation note introduces, if this key and the new one signed it.

    Raises:
        NoteInvalid: it is no rotation note of this key.
    """
    lines = open_checkpoint(note, key).extensions
    names = [line.removeprefix(_NEXT_KEY) for line in lines if line.startswith(_NEXT_KEY)]
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
        NoteInvalid: it is no rotation note.
    """
    if note is None:
        return None
    checkpoint = Checkpoint.parse(split_note(note)[0])
    positions = [
        line.removeprefix(_LOSS) for line in checkpoint.extensions if line.startswith(_LOSS)
    ]
    try:
        return (checkpoint.size, int(positions[0])) if positions else None
    except ValueError:
        raise NoteInvalid("the note declares a loss without a position") from None


def require_chain(keys: list[RecordedKey]) -> None:
    """Require that each key after the first was introduced by the previous one.

    Raises:
        NoteInvalid: it was not.
    """
    for before, key in pairwise(keys):
        introduced = next_key(key.rotation or "", VerifierKey.parse(before.verifier_key))
        if str(introduced) != key.verifier_key:
            raise NoteInvalid(f"key {key.number} was not introduced by the key before it")
