"""Rotation: another key signs the checkpoints from now on; the previous key signs the change."""

import asyncio

import msgspec
import psycopg

from pulse.errors import PulseError
from pulse.evidence.anchors import AnchorFile
from pulse.evidence.chain import next_key_line, origin_before_forks
from pulse.evidence.note import Checkpoint, SigningKey
from pulse.evidence.sealer import key_of_log, require_anchored
from pulse.evidence.state import SealState, lock_state, record_key, sign_tree
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe


class RotationRefused(PulseError):
    """The key cannot be rotated now; the message says what to do."""


class Rotation(msgspec.Struct, frozen=True):
    """The rotation note, and the first checkpoint of the new key; None if nothing is sealed yet."""

    note: str
    checkpoint: str | None


async def rotate_key(
    database: Database, old: SigningKey, new: SigningKey, anchors: AnchorFile
) -> Rotation:
    """Replace the key that signs the checkpoints with the new one.

    The rotation note is a checkpoint of the tree as it is, with a line that names the new key, and
    both keys sign it. It is stored and anchored. Processes seal again once their key file has the
    new key. After a fork of the log both keys sign under the name that the fork gave the log.

    Raises:
        RotationRefused: the old key is not the one that seals, the new one already is, or no key
            has sealed yet.
        Diverged: the tree was changed, or the database was restored to an earlier point.
        DatabaseUnavailable: nothing was changed, unless the connection was lost at the commit.
        AnchorUnusable: the key was rotated, but the note was not anchored.
    """
    try:
        async with database.connection() as connection, connection.transaction():
            rotation = await _rotated(connection, old, new, anchors)
    except psycopg.Error as error:
        raise DatabaseUnavailable(describe(error)) from error
    for note in filter(None, (rotation.note, rotation.checkpoint)):
        await asyncio.to_thread(anchors.append, note)
    return rotation


async def _rotated(
    connection: Connection, old: SigningKey, new: SigningKey, anchors: AnchorFile
) -> Rotation:
    state, old = await _sealed_by(connection, old)
    if origin_before_forks(new.verifier.name) == origin_before_forks(old.verifier.name):
        new = new.named(old.verifier.name)
    if str(new.verifier) == state.verifier_key:
        raise RotationRefused("this key already signs the checkpoints")
    await require_anchored(connection, state, old.verifier, anchors)
    tree = state.frontier
    note = Checkpoint(
        old.verifier.name, tree.size, tree.root, (next_key_line(new.verifier),)
    ).signed_by(old, new)
    await record_key(connection, new.verifier, note)
    checkpoint = await sign_tree(connection, tree, new) if tree.size else None
    return Rotation(note, checkpoint)


async def _sealed_by(connection: Connection, key: SigningKey) -> tuple[SealState, SigningKey]:
    """The locked tree, and the key under the name that it signs with."""
    state = await lock_state(connection, wait=True)
    if state is None or state.verifier_key is None:
        raise RotationRefused(
            "nothing is sealed yet, so no key has to be replaced: set PULSE_SEAL_KEY to the new one"
        )
    named = await key_of_log(connection, state.verifier_key, key)
    if named is None:
        raise RotationRefused(
            f"the database is sealed with {state.verifier_key}, and PULSE_SEAL_KEY has "
            f"{key.verifier}"
        )
    return state, named
