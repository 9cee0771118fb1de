"""The status of the seal: the content of the latest checkpoint, and whether it can be trusted."""

from collections.abc import Callable
from typing import Literal

import msgspec
import psycopg

from pulse.evidence.chain import is_same_signer
from pulse.evidence.note import Checkpoint, NoteInvalid, VerifierKey, open_checkpoint, split_note
from pulse.evidence.state import SealHealth, read_seal_health
from pulse.evidence.tree import read_root
from pulse.postgres import Connection, Database

KeyOrigin = Literal["PROCESS", "DATABASE"]
"""The source of the key that verified a signature.

Anyone who can write to the database can replace its key, so only the key of the process is proof.
"""


class SealStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The seal now.

    `checkpoint` is None if none was signed, or it is malformed. `signature_fault` is why the
    signature was not verified, None if it is right; `key_origin` is the source of the key.
    `has_root` is whether the stored tree has the signed root; None without a checkpoint.
    """

    health: SealHealth
    checkpoint: Checkpoint | None
    key_name: str | None
    signature_fault: str | None
    key_origin: KeyOrigin
    has_root: bool | None

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the log cannot be trusted; empty if every check passed."""
        found = []
        if self.signature_fault is not None:
            found.append(self.signature_fault)
        if self.has_root is False:
            found.append("the stored tree does not have the root that was signed")
        if not self.health.last_event_in_log:
            found.append(
                f"the last sealed event, at position {self.health.position}, is not in the log"
            )
        return tuple(found)


class SealReader:
    """Reads and checks the latest checkpoint.

    `own_key` returns the verifier key of this process, None if it does not seal. `require_served`
    is called before every answer, as in `InProcessOrders`.
    """

    def __init__(
        self,
        database: Database,
        own_key: Callable[[], VerifierKey | None],
        *,
        require_served: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._own_key = own_key
        self._require_served = require_served

    async def status(self) -> SealStatus | None:
        """The status, or None if this role may not read the seal or its tables are locked.

        Of the log, only the last sealed event is looked up. The root is computed from at most 255
        hashes for each level of tiles.

        Raises:
            DatabaseUnavailable: the seal cannot be read.
        """
        self._require_served()
        own_key = self._own_key()
        return await self._database.read(lambda connection: _read_status(connection, own_key))


async def _read_status(connection: Connection, own_key: VerifierKey | None) -> SealStatus | None:
    try:
        health = await read_seal_health(connection)
        root = await _read_root(connection, health)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable):
        return None
    key, fault = own_key, None
    if health.verifier_key is not None:
        try:
            recorded = VerifierKey.parse(health.verifier_key)
            if key is None or is_same_signer(key, recorded):
                key = recorded  # after a fork the own key signs under another name
        except NoteInvalid as error:
            fault = None if key else f"the key in the database is malformed: {error}"
    checkpoint = None
    if health.checkpoint is not None:
        checkpoint, fault = _opened(health.checkpoint, key, fault)
    return SealStatus(
        health=health,
        checkpoint=checkpoint,
        key_name=None if key is None else key.name,
        signature_fault=fault,
        key_origin="DATABASE" if own_key is None else "PROCESS",
        has_root=None if checkpoint is None else root == checkpoint.root,
    )


def _opened(
    note: str, key: VerifierKey | None, fault: str | None
) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint of the note, and why it cannot be trusted."""
    if key is not None:
        try:
            return open_checkpoint(note, key), None
        except NoteInvalid as error:
            fault = str(error)
    try:
        return Checkpoint.parse(split_note(note)[0]), fault or "no key to verify the signature"
    except NoteInvalid as error:
        return None, str(error)


async def _read_root(connection: Connection, health: SealHealth) -> bytes | None:
    if health.checkpoint is None:
        return None
    return await read_root(connection, health.checkpoint_size)
