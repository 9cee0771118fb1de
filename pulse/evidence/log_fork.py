"""Forking a log: after a restore to an earlier point it continues under another identity.

The `log_id` is renewed, so that every reader of the earlier log stops. If the log is sealed, the
same key signs from now on under a new origin, because the earlier log may have other events at the
same places of the tree. The note that introduces this origin declares the fork.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import psycopg

from pulse.errors import PulseError
from pulse.eventstore.log_fork import (
    LogFork,
    lock_log,
    read_fork_rights,
    read_identity,
    record_fork,
)
from pulse.evidence.anchors import AnchorFile, AnchorUnusable, stream_notes
from pulse.evidence.chain import (
    DeclaredFork,
    fork_lines,
    keys_of_earlier_logs,
    loss_line,
    next_key_line,
    origin_of_fork,
)
from pulse.evidence.losses import DeclaredLoss, count_lost, declared_losses
from pulse.evidence.note import Checkpoint, NoteInvalid, SigningKey, VerifierKey, open_checkpoint
from pulse.evidence.sealer import key_of_log
from pulse.evidence.state import (
    SealState,
    TreeDamaged,
    accept_loss,
    has_last_entry,
    lock_state,
    read_keys,
    read_last_position,
    read_state,
    record_key,
    sign_tree,
)
from pulse.evidence.tree import read_root
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe
from pulse.postgres.other_processes import OtherProcess, read_other_processes

MAX_REASON_CHARACTERS: Final = 255
_NOTES_AT_ONCE: Final = 4_096
"""How many checkpoints of the file are sorted by size at a time."""

_SIZE_DIGITS: Final = 19


class ForkRefused(PulseError):
    """The log cannot be forked now; the message says what to do."""


class ForkPlan(msgspec.Struct, frozen=True):
    """What a fork will do.

    The log has the identity `log_id` and ends at `position`. `origin` is that of the seal, None if
    the fork does not concern a seal. `size` is the number of sealed events, and `known_size` that
    of the largest checkpoint in the file of anchors, None if it has none of this log.
    `lacks_sealed` is whether the log lacks its last sealed event, and `missing_sealed` how many of
    its last sealed events it lacks: the note will declare them lost. `processes` prevent the fork.
    """

    log_id: UUID
    position: int
    origin: str | None
    size: int | None
    known_size: int | None
    lacks_sealed: bool
    missing_sealed: int
    processes: tuple[OtherProcess, ...]

    @property
    def lost_sealed_events(self) -> int | None:
        """How many events the largest known checkpoint has beyond the seal; None if none is known.

        At most this many of its events are lost: the log may have some that are not sealed yet.
        """
        if self.size is None or self.known_size is None:
            return None
        return max(0, self.known_size - self.size)


class Forked(msgspec.Struct, frozen=True):
    """The fork, its note, and the first checkpoint under the new origin.

    Without a seal both are None. If nothing is sealed yet, the checkpoint is None.
    """

    fork: LogFork
    note: str | None
    checkpoint: str | None


class ForkNotAnchored(PulseError):
    """The log was forked as `forked` says, but the note was not appended to the anchors."""

    def __init__(self, forked: Forked, reason: AnchorUnusable) -> None:
        super().__init__(
            f"the log was forked, but its note was not anchored: {reason}; do not fork it again: "
            "`pulse key show` has the note"
        )
        self.forked = forked


class LogForker:
    """Forks a log. `key` is that of the seal, None if this log is not sealed.

    The seal is compared with the checkpoints in `known`; the note is appended to `anchors`.
    """

    def __init__(
        self, database: Database, key: SigningKey | None, *, known: Path, anchors: AnchorFile
    ) -> None:
        self._database = database
        self._key = key
        self._known = known
        self._anchors = anchors

    async def plan(self) -> ForkPlan:
        """What a fork will do now. Changes nothing.

        Raises:
            ForkRefused: the role may not fork the log, the key is not that of the seal, or the seal
                contradicts the checkpoints.
            AnchorUnusable: the file of checkpoints cannot be read.
            DatabaseUnavailable: something cannot be read.
        """
        return await self._database.read(self._plan)

    async def fork(self, plan: ForkPlan, *, forked_by: str, reason: str) -> Forked:
        """Carry out the plan, in one transaction.

        Raises:
            ForkRefused: the log or the seal changed since the plan, processes are present, or the
                reason is invalid.
            AnchorUnusable: the file of anchors cannot be written; nothing was changed.
            DatabaseUnavailable: nothing was changed, or the connection was lost at the commit:
                then the identity of the log says whether it was forked.
            ForkNotAnchored: the log was forked, but the note was not anchored.
        """
        require_reason(reason)
        if plan.origin is not None:
            await asyncio.to_thread(self._anchors.require_writable)
        try:
            async with self._database.connection() as connection, connection.transaction():
                forked = await self._forked(connection, plan, forked_by, reason)
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error
        try:
            for note in filter(None, (forked.note, forked.checkpoint)):
                await asyncio.to_thread(self._anchors.append, note)
        except AnchorUnusable as error:
            raise ForkNotAnchored(forked, error) from error
        return forked

    async def _plan(self, connection: Connection) -> ForkPlan:
        rights = await read_fork_rights(connection)
        if not rights.may_fork:
            raise ForkRefused(
                f"the role {rights.role} may not renew the identity of the log: set "
                "PULSE_DATABASE_URL to that of a member of the owner, as for `pulse migrate`"
            )
        identity = await read_identity(connection)
        state = await _intact_state(connection)
        key = await self._signing_key(connection, state)
        known = None
        if key is not None:
            known = await self._known_checkpoint(connection, state, key.verifier)
        lacks_sealed = not await has_last_entry(connection, state)
        return ForkPlan(
            log_id=identity.log_id,
            position=rights.end,
            origin=None if key is None else key.verifier.name,
            size=None if key is None else state.size,
            known_size=None if known is None else known.size,
            lacks_sealed=lacks_sealed,
            missing_sealed=await _count_missing(connection, state) if lacks_sealed else 0,
            processes=tuple(await read_other_processes(connection)),
        )

    async def _signing_key(self, connection: Connection, state: SealState) -> SigningKey | None:
        """The key under the name with which it signs this log; None if it is not sealed."""
        if state.verifier_key is None:
            return self._key  # the earlier log may have been sealed after the restored point
        if self._key is None:
            raise ForkRefused(
                "the log is sealed, and its key has to sign the fork: set PULSE_SEAL_KEY to the "
                "key's file"
            )
        key = await key_of_log(connection, state.verifier_key, self._key)
        if key is None:
            raise ForkRefused(
                f"the database is sealed with {state.verifier_key}, and PULSE_SEAL_KEY has "
                f"{self._key.verifier}: set it to the file of the key that sealed the log at the "
                "restored point, and rotate the key again after the fork"
            )
        return key

    async def _known_checkpoint(
        self, connection: Connection, state: SealState, key: VerifierKey
    ) -> Checkpoint | None:
        """The largest checkpoint of this origin, or of a lost fork of it, in the file.

        Raises:
            ForkRefused: the tree differs from a checkpoint that it includes.
        """
        recorded = [VerifierKey.parse(each.verifier_key) for each in await read_keys(connection)]
        keys = [key, *(each for each in recorded if each.name == key.name)]
        try:
            largest, included = await asyncio.to_thread(
                _find_checkpoints, self._known, keys, state.size
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnchorUnusable(f"{self._known} cannot be read: {error.strerror}") from error
        if included is not None and included.size:
            root = await read_root(connection, included.size)
            if root != included.root:
                raise ForkRefused(
                    f"the seal contradicts the checkpoint of {included.size:,} entries in "
                    f"{self._known}: Pulse ran on this database after the restore, or the seal was "
                    "changed. Restore the database again, and fork before any process starts"
                )
        return largest

    async def _forked(
        self, connection: Connection, plan: ForkPlan, forked_by: str, reason: str
    ) -> Forked:
        await lock_log(connection)
        state = await lock_state(connection, wait=True)
        if state is None:
            raise ForkRefused("the row of the seal is missing")
        if processes := await read_other_processes(connection):
            raise ForkRefused(f"Pulse is running on this database: {processes_text(processes)}")
        identity, rights = await read_identity(connection), await read_fork_rights(connection)
        found = (identity.log_id, rights.end, None if plan.size is None else state.size)
        if found != (plan.log_id, plan.position, plan.size):
            raise ForkRefused("the log has changed meanwhile: run this again")
        fork = await record_fork(
            connection,
            size=plan.size,
            known_size=plan.known_size,
            forked_by=forked_by,
            reason=reason,
        )
        key = await self._signing_key(connection, state)
        if key is None:
            return Forked(fork, None, None)
        return await _continued(connection, state, key, fork)


async def _continued(
    connection: Connection, state: SealState, key: SigningKey, fork: LogFork
) -> Forked:
    """Continue the locked tree under the origin of the fork, which the key introduces."""
    if state.verifier_key is None:
        await record_key(connection, key.verifier)
    new = key.named(origin_of_fork(key.verifier.name, fork.new_log_id))
    tree = state.frontier
    declared = DeclaredFork(
        fork.position,
        tree.size,
        fork.known_size,
        fork.old_log_id,
        fork.new_log_id,
        fork.forked_at,
        fork.forked_by,
        fork.reason,
    )
    lines = (next_key_line(new.verifier), *fork_lines(declared))
    position, last_entry = await accept_loss(connection)
    if (position, last_entry) != (state.position, state.last_entry):
        lines += (loss_line(position),)
    note = Checkpoint(key.verifier.name, tree.size, tree.root, lines).signed_by(key, new)
    await record_key(connection, new.verifier, note)
    checkpoint = await sign_tree(connection, tree, new) if tree.size else None
    return Forked(fork, note, checkpoint)


async def _intact_state(connection: Connection) -> SealState:
    """The tree's row, if the stored hashes give its root.

    Raises:
        ForkRefused: they do not give it.
    """
    try:
        state = await read_state(connection)
        if not state.size or await read_root(connection, state.size) == state.frontier.root:
            return state
        fault = "entries or hashes differ"
    except TreeDamaged as error:
        fault = str(error)
    raise ForkRefused(f"the tree of the seal was changed ({fault}): restore another backup")


async def _count_missing(connection: Connection, state: SealState) -> int:
    """How many of the last sealed events the log lacks, without those that a note declares lost."""
    declared = declared_losses(await read_keys(connection))
    number = declared[-1].key + 1 if declared else 1
    missing = DeclaredLoss(number, state.size, await read_last_position(connection, state))
    counted = await count_lost(connection, [*declared, missing])
    return sum(lost.events for lost in counted if lost.key == number)


def _find_checkpoints(
    file: Path, keys: Sequence[VerifierKey], size: int
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The largest checkpoint in the file, and the largest of up to `size` entries of this origin.

    A checkpoint counts if it was signed by one of the keys, or by a key that one of them introduced
    in the file: by a rotation, or by a fork that the restore lost. Each part of the file is
    verified from its largest checkpoint downward, as far as needed. So a note without a valid
    signature cannot hide a signed one.
    """
    origin = keys[0].name
    lost = keys_of_earlier_logs(stream_notes(file), keys, [size] * len(keys))
    any_key = _by_name([*keys, *lost])
    of_origin = {origin: any_key[origin]}
    largest: Checkpoint | None = None
    included: Checkpoint | None = None
    notes = (note for note in map(_stated, stream_notes(file)) if note.origin in any_key)
    while part := list(itertools.islice(notes, _NOTES_AT_ONCE)):
        part.sort(key=lambda note: note.size, reverse=True)
        largest = _larger(part, any_key, largest)
        kept = [note for note in part if note.origin == origin and note.size <= size]
        included = _larger(kept, of_origin, included)
    return largest, included


class _Stated(msgspec.Struct, frozen=True):
    """A note, with the origin and the size that it states; -1 if that size is too large."""

    origin: str
    size: int
    note: str


def _stated(note: str) -> _Stated:
    origin, size, _ = note.split("\n", 2)
    return _Stated(origin, int(size) if len(size) <= _SIZE_DIGITS else -1, note)


def _by_name(keys: Sequence[VerifierKey]) -> dict[str, list[VerifierKey]]:
    names: dict[str, list[VerifierKey]] = {}
    for key in keys:
        names.setdefault(key.name, []).append(key)
    return names


def _larger(
    notes: Sequence[_Stated], keys: Mapping[str, Sequence[VerifierKey]], known: Checkpoint | None
) -> Checkpoint | None:
    """The first of these notes, largest first, that is signed and larger than the known one."""
    for stated in notes:
        if stated.size <= (-1 if known is None else known.size):
            break
        for key in keys[stated.origin]:
            with contextlib.suppress(NoteInvalid):
                return open_checkpoint(stated.note, key)
    return known


def require_reason(reason: str) -> None:
    """Require one line of text, which a note can have.

    Raises:
        ForkRefused: it is empty, too long, or has other characters.
    """
    if not reason.strip() or len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
        raise ForkRefused(
            f"a reason is one line of 1 to {MAX_REASON_CHARACTERS} printable characters"
        )


def processes_text(processes: Sequence[OtherProcess]) -> str:
    """Which processes are present, for a message."""
    return "; ".join(f"{each.process} ({each.purposes})" for each in processes)
