"""Checks the log against the entries of the seal, and these against signed and anchored trees."""

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from pulse.domain import HALTS_STREAM_ID
from pulse.eventstore.log_fork import LogFork, read_forks, read_identity
from pulse.evidence.anchors import read_notes
from pulse.evidence.chain import (
    declared_fork,
    keys_of_earlier_logs,
    require_chain,
    signer_index,
    sizes_before_forks,
)
from pulse.evidence.findings import Fault, Finding
from pulse.evidence.losses import (
    DeclaredLoss,
    LostEvents,
    declared_losses,
    decoded_row,
    key_of_loss,
    lost_events,
    position_of,
)
from pulse.evidence.merkle import Frontier, Node, leaf_hash
from pulse.evidence.note import Checkpoint, NoteInvalid, VerifierKey, open_checkpoint
from pulse.evidence.state import RecordedKey, SealState, TreeDamaged, read_keys, read_state
from pulse.postgres import Connection, fetch, load_sql

_ROWS: Final = 64
"""Rows of entries that are read at once, each of up to 256."""

_MAX_NAMED: Final = 100

_SELECT_ROWS: Final = load_sql(__package__, "select_rows_of_entries")
_SELECT_LOG_ENTRIES: Final = load_sql(__package__, "select_log_entries")
_SELECT_NODES: Final = load_sql(__package__, "select_some_nodes")


class Trust(msgspec.Struct, frozen=True):
    """What the seal is checked against, from outside of the database.

    `key` signed the latest checkpoint, or introduced the key that did; without it the keys in the
    database are trusted. `anchors` is the content of a file of checkpoints, None without one.
    """

    key: VerifierKey | None = None
    anchors: bytes | None = None


class EarlierAnchors(msgspec.Struct, frozen=True):
    """The anchors that are only of the log before a fork: their number, the largest size."""

    count: int = 0
    largest: int = 0


class CheckedSeal(msgspec.Struct, frozen=True):
    """A checked part of the tree: `entries` leaves that end at leaf `size` of `whole` leaves.

    `entries` does not count events that a signed note declares lost. `lost` counts these, of all
    parts so far.

    `signer` is the key that the database has for the latest checkpoint, None if the log is not
    sealed. `anchors` counts the anchors that the whole tree was compared with. `earlier` are those
    that are only of the log before a fork. `forks` are the recorded forks.
    """

    entries: int
    size: int
    whole: int
    signer: str | None
    anchors: int
    findings: tuple[Finding, ...]
    earlier: EarlierAnchors
    forks: tuple[LogFork, ...] = ()
    lost: tuple[LostEvents, ...] = ()


async def check_seal(
    connection: Connection, trust: Trust, *, since: int
) -> AsyncGenerator[CheckedSeal, None]:
    """Check the tree, and compare its events after position `since` with the log."""
    async for part in _SealCheck(connection, trust, since).parts():
        yield part


class _Tree(msgspec.Struct, frozen=True):
    """A tree that was signed: its size, its root, and where the checkpoint was found."""

    size: int
    root: bytes
    fault: Fault
    name: str


class _SealCheck:
    def __init__(self, connection: Connection, trust: Trust, since: int) -> None:
        self._connection = connection
        self._trust = trust
        self._findings: list[Finding] = []
        self._compared_to = since
        self._tree = Frontier()
        self._losses: list[DeclaredLoss] = []
        self._lost: Counter[int] = Counter()
        self._limits: list[int | None] = []
        self._forks: tuple[LogFork, ...] = ()
        self._earlier = EarlierAnchors()
        self._missing: list[dict[str, Any]] = []

    async def parts(self) -> AsyncGenerator[CheckedSeal, None]:
        try:
            state = await read_state(self._connection)
        except TreeDamaged as error:
            self._add_finding("TREE", str(error))
            yield self._part(0, 0, None, 0)
            return
        recorded = await read_keys(self._connection)
        await self._compare_forks(recorded)
        if state.verifier_key != (recorded[-1].verifier_key if recorded else None):
            self._add_finding("SIGNATURE", "seal_keys does not end with the key in seal_state")
        keys = self._trusted(recorded)
        anchors = self._anchored(keys)
        trees = sorted([*self._signed(state, keys), *anchors], key=lambda tree: tree.size)
        signer = state.verifier_key
        try:
            async for entries in self._entries(state.size):
                await self._extend(entries, trees)
                lost = await self._compare(entries)
                yield self._part(len(entries) - lost, state.size, signer, len(anchors))
        except TreeDamaged as error:
            self._add_finding("TREE", str(error))
        self._report_missing()
        if self._tree.size == state.size and self._tree != state.frontier:
            self._add_finding(
                "TREE", "the hashes in seal_state are not those that the entries give"
            )
        for tree in [each for each in trees if each.size > self._tree.size][:1]:
            detail = f"{tree.name} has {tree.size} entries, the tree has {self._tree.size}"
            self._add_finding(tree.fault, detail)
        yield self._part(0, state.size, signer, len(anchors))

    def _part(self, entries: int, whole: int, signer: str | None, anchors: int) -> CheckedSeal:
        findings, self._findings = tuple(self._findings), []
        return CheckedSeal(
            entries,
            self._tree.size,
            whole,
            signer,
            anchors,
            findings,
            self._earlier,
            self._forks,
            lost_events(self._lost),
        )

    async def _compare_forks(self, recorded: list[RecordedKey]) -> None:
        """Compare the recorded forks with the signed notes, and with the identity of the log."""
        forks = await read_forks(self._connection)
        identity = await read_identity(self._connection)
        self._forks = tuple(forks)
        if forks and forks[-1].new_log_id != identity.log_id:
            self._add_finding(
                "FORK",
                f"log_identity has {identity.log_id}, the last fork gave the log "
                f"{forks[-1].new_log_id}",
                forks[-1].position,
            )
        rows = {msgspec.structs.astuple(fork) for fork in forks}
        for key in recorded:
            with contextlib.suppress(NoteInvalid):  # the check of the chain reports it
                declared = declared_fork(key.rotation)
                if declared is not None and msgspec.structs.astuple(declared) not in rows:
                    detail = f"log_forks does not have the fork that the note of key {key.number}"
                    self._add_finding("FORK", f"{detail} declares", declared.position)

    def _add_finding(
        self, fault: Fault, detail: str, position: int | None = None, order_id: str | None = None
    ) -> None:
        own = None if order_id in {None, str(HALTS_STREAM_ID)} else UUID(order_id)
        self._findings.append(Finding(fault, detail, position, own))

    def _trusted(self, recorded: list[RecordedKey]) -> list[VerifierKey]:
        """The keys whose signatures count, oldest first. Reports what contradicts the given key."""
        keys: list[VerifierKey] = []
        try:
            require_chain(recorded)
            self._limits = sizes_before_forks([key.rotation for key in recorded])
            keys = [VerifierKey.parse(key.verifier_key) for key in recorded]
            self._losses = declared_losses(recorded)
        except NoteInvalid as error:
            self._add_finding("SIGNATURE", f"seal_keys: {error}")
        key = self._trust.key
        rotations = [each.rotation for each in recorded]
        if key is None or signer_index(key, keys, rotations) is not None:
            return keys
        if recorded:
            detail = f"the database was sealed with {recorded[-1].verifier_key}, not with {key}"
            self._add_finding("SIGNATURE", detail)
        return [key]

    def _signed(self, state: SealState, keys: Sequence[VerifierKey]) -> Iterator[_Tree]:
        """The tree of the latest checkpoint."""
        if state.checkpoint is None:
            if state.size:
                self._add_finding("SIGNATURE", "seal_state has entries but no checkpoint")
            return
        checkpoint = _opened(state.checkpoint, keys)
        if checkpoint is None:
            self._add_finding(
                "SIGNATURE", "the checkpoint in seal_state is not signed by a trusted key"
            )
        elif checkpoint.size != state.checkpoint_size:
            self._add_finding(
                "TREE", "the checkpoint in seal_state is of another size than its row says"
            )
        else:
            name = "the checkpoint in seal_state"
            yield _Tree(checkpoint.size, checkpoint.root, "TREE", name)

    def _anchored(self, keys: Sequence[VerifierKey]) -> list[_Tree]:
        """The trees of the anchors. Reports anchors that no trusted key signed.

        A tree belongs to the earlier log if it was signed before a fork and is larger than the tree
        at the fork, or if its key was introduced only in the lost part of that log.
        """
        if self._trust.anchors is None:
            return []
        limits = self._limits if len(keys) == len(self._limits) else [None] * len(keys)
        notes = read_notes(self._trust.anchors)
        lost_keys = keys_of_earlier_logs(notes, keys, limits)
        found: set[tuple[int, bytes]] = set()
        earlier: list[int] = []
        unsigned = 0
        for note in notes:
            opened = _opened_by(note, keys)
            if opened is None:
                lost = _opened(note, lost_keys)
                unsigned += lost is None
                earlier += () if lost is None else (lost.size,)
                continue
            checkpoint, number = opened
            limit = limits[number]
            if limit is not None and checkpoint.size > limit:
                earlier.append(checkpoint.size)
            else:
                found.add((checkpoint.size, checkpoint.root))
        if unsigned:
            self._add_finding("ANCHOR", f"{unsigned} anchors are not signed by a trusted key")
        self._earlier = EarlierAnchors(len(earlier), max(earlier, default=0))
        return [_Tree(size, root, "ANCHOR", "an anchor") for size, root in found]

    async def _entries(self, size: int) -> AsyncGenerator[list[bytes], None]:
        """The stored entries in order, some rows at a time.

        Raises:
            TreeDamaged: rows are missing or malformed.
        """
        index = 0
        while index < size:
            rows = await fetch(self._connection, _SELECT_ROWS, (index, _ROWS))
            entries: list[bytes] = []
            for first_index, first_position, bundle in rows:
                if first_index != index:
                    break
                own = decoded_row(index, bundle)
                if position_of(own[0]) != first_position:
                    raise TreeDamaged(f"the row of seal_entries from leaf {index} on was changed")
                entries += own
                index += len(own)
            if not entries:
                raise TreeDamaged(f"seal_entries has no row for leaf {index}, of {size}")
            yield entries[: len(entries) - max(0, index - size)]

    async def _extend(self, entries: Sequence[bytes], trees: list[_Tree]) -> None:
        """Append the leaves; compare the stored hashes, and the signed trees up to the new size."""
        hashes = [leaf_hash(entry) for entry in entries]
        begin, end = self._tree.size, self._tree.size + len(hashes)
        sizes = sorted({tree.size for tree in trees if begin < tree.size < end} | {end})
        full: dict[Node, bytes] = {}
        for size in sizes:
            part = hashes[self._tree.size - begin : size - begin]
            self._tree, added = self._tree.extended(part)
            full |= added
            while trees and trees[0].size <= size:
                tree = trees.pop(0)
                if tree.size == size and tree.root != self._tree.root:
                    detail = f"{tree.name} of {size} entries has another root than the entries give"
                    self._add_finding(tree.fault, detail)
        if full:
            levels, indices = zip(*full, strict=True)
            rows = await fetch(self._connection, _SELECT_NODES, (list(levels), list(indices)))
            stored = {(level, index): value for level, index, value in rows}
            wrong = [node for node in full if stored.get(node) != full[node]]
            for level, index in wrong[:1]:
                detail = f"{len(wrong)} rows of seal_nodes are wrong or missing, from level {level}"
                self._add_finding("TREE", f"{detail}, node_index {index} on")

    async def _compare(self, entries: Sequence[bytes]) -> int:
        """Compare these entries, the last of the tree so far, with the events in the log.

        Returns how many of them a signed note declares lost.
        """
        lost: Counter[int] = Counter()
        sealed: dict[int, bytes] = {}
        for index, entry in enumerate(entries, self._tree.size - len(entries)):
            position = position_of(entry)
            if (key := key_of_loss(self._losses, index, position)) is not None:
                lost[key] += 1
            elif position > self._compared_to:
                sealed[position] = entry
        self._lost += lost
        await self._compare_present(sealed)
        return lost.total()

    async def _compare_present(self, sealed: dict[int, bytes]) -> None:
        """Compare these entries, by position, with the events that the log has there."""
        if not sealed:
            return
        until = max(sealed)
        rows = await fetch(self._connection, _SELECT_LOG_ENTRIES, (self._compared_to, until))
        self._compared_to = until
        present: dict[int, bytes] = dict(rows)
        for position in sorted(sealed.keys() | present.keys()):
            was, now = sealed.get(position), present.get(position)
            if was != now:
                self._differs(position, was, now)

    def _differs(self, position: int, was: bytes | None, now: bytes | None) -> None:
        if was is None or now is None:
            fields = msgspec.json.decode(was or now or b"", type=dict[str, Any])
        if was is None:
            detail = "the event was not in the log when this part of the log was sealed"
            self._add_finding("INSERTED", detail, position, fields["order_id"])
        elif now is None:
            self._missing.append(fields)
        else:
            before = msgspec.json.decode(was, type=dict[str, Any])
            after = msgspec.json.decode(now, type=dict[str, Any])
            names = ", ".join(name for name, value in before.items() if after[name] != value)
            detail = f"the event is not the one that was sealed: it differs in {names}"
            self._add_finding("ALTERED", detail, position, before["order_id"])

    def _report_missing(self) -> None:
        """Report the first missing events one by one, and all others in one finding."""
        for fields in self._missing[:_MAX_NAMED]:
            detail = f"version {fields['version']} was sealed and is not in the log"
            self._add_finding("DELETED", detail, fields["position"], fields["order_id"])
        if rest := self._missing[_MAX_NAMED:]:
            first, last = rest[0]["position"], rest[-1]["position"]
            detail = f"{len(rest)} further sealed events, up to position {last}, are not in the log"
            self._add_finding("DELETED", detail, first)


def _opened(note: str, keys: Sequence[VerifierKey]) -> Checkpoint | None:
    """The checkpoint of the note, if one of the keys signed it."""
    opened = _opened_by(note, keys)
    return None if opened is None else opened[0]


def _opened_by(note: str, keys: Sequence[VerifierKey]) -> tuple[Checkpoint, int] | None:
    """The checkpoint of the note, and which of the keys signed it; None if none did."""
    for number, key in enumerate(keys):
        try:
            return open_checkpoint(note, key), number
        except NoteInvalid:
            continue
    return None
