"""Checks a pack: its members, signature, proofs and events, and everything derived from them.

It needs no database, no network and no configuration.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from hashlib import sha256
from typing import BinaryIO, Final, TypeVar

import msgspec

from pulse.eventstore import EventMapper
from pulse.evidence.anchors import read_notes
from pulse.evidence.chain import (
    DeclaredFork,
    declared_fork,
    keys_of_earlier_logs,
    signer_index,
    sizes_before_forks,
)
from pulse.evidence.findings import Fault, Finding
from pulse.evidence.merkle import leaf_hash
from pulse.evidence.note import Checkpoint, NoteInvalid, VerifierKey
from pulse.evidence.pack.archive import BLOCK_BYTES, Archive, PackInvalid
from pulse.evidence.pack.contents import Contents, Stream, parts_of, streams_in
from pulse.evidence.pack.hash_tree import HashTree, TreeWrong, tiles_needed
from pulse.evidence.pack.keys import (
    Replacement,
    TrustedKey,
    open_trusted,
    parse_keys,
    replaced_keys,
)
from pulse.evidence.pack.members import (
    ANCHORS,
    CHECKPOINT,
    CLOCKS,
    CONTENT,
    EVENTS,
    EXPORT,
    KEYS,
    MANIFEST,
    MAX_CLOCK_LINE_BYTES,
    MAX_CLOCKS_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_SMALL_BYTES,
    MIN_LINE_BYTES,
    NEIGHBOURS,
    README,
    README_TEXT,
    REQUIRED,
    SCHEDULES,
    SELECTION,
    SUMMARY,
    TILE,
    ClockOffset,
    Export,
    PackedEvent,
    PackKey,
    PartSizes,
    Selection,
    encode,
    is_content,
    parse_hashes,
    parse_line,
    place_of,
    require_version,
    tile_bytes,
    tile_member,
)
from pulse.evidence.pack.summary import Clocks, Signed, render_summary
from pulse.evidence.tiles import TileId

T = TypeVar("T")

MAX_ANCHORS: Final = 1_000

_STREAMS_BETWEEN_REPORTS: Final = 50


class CheckProgress(msgspec.Struct, frozen=True):
    """`events` of `whole` events are checked."""

    events: int
    whole: int


class PackReport(msgspec.Struct):
    """The result of a check. A field is None if the check ended before it was known.

    `signer` is the key that signed the checkpoint. `signer_trusted` is whether the chain of keys in
    the pack has the given key; None if no key was given. `is_whole` is whether an entry after the
    period shows that the period has no more events; None for an order, since no pack shows that for
    an order. `compared` counts the checkpoints, of the `given` ones, that the tree of the pack was
    compared with. `larger` are the sizes of those that are larger than this tree. `earlier` counts
    those that are only of the log before a fork. `forks` are the forks that the notes of the pack's
    keys declare.
    """

    selection: Selection | None = None
    export: Export | None = None
    content_hash: str | None = None
    signer: str | None = None
    signer_trusted: bool | None = None
    size: int | None = None
    anchors: tuple[int, ...] = ()
    compared: int = 0
    given: int = 0
    larger: tuple[int, ...] = ()
    earlier: int = 0
    forks: tuple[DeclaredFork, ...] = ()
    is_whole: bool | None = None
    contents: Contents | None = None
    findings: list[Finding] = msgspec.field(default_factory=list)

    @property
    def all_findings(self) -> list[Finding]:
        """The findings about the pack, and those about its events that were kept."""
        return self.findings + (self.contents.findings if self.contents else [])

    @property
    def found(self) -> int:
        """How many findings there are in all."""
        return len(self.findings) + (self.contents.faults.total() if self.contents else 0)


class PackCheck:
    """The check of a pack in an open file.

    `key` is the key that must have signed; without one the keys of the pack are trusted, and the
    check says whether the pack is consistent in itself. `kept` is the content of a file of
    checkpoints that do not come from the pack.
    """

    def __init__(
        self, file: BinaryIO, key: VerifierKey | None = None, kept: bytes | None = None
    ) -> None:
        self.report = PackReport()
        self._file = file
        self._key = key
        self._kept = kept
        self._mapper = EventMapper()
        self._recorded: list[VerifierKey] = []
        self._limits: list[int | None] = []

    def run(self) -> Iterator[CheckProgress]:
        """Check everything; `report` has the result. A pack that cannot be read is a finding."""
        try:
            yield from self._run()
        except PackInvalid as error:
            self._add_finding(str(error))

    def _run(self) -> Iterator[CheckProgress]:
        self._file.seek(0)
        require_version(self._file.read(2 * BLOCK_BYTES))
        archive = Archive.opened(self._file, lambda name: place_of(name) is not None)
        if not self._has_right_members(archive):
            return
        selection = _parsed(archive, SELECTION, Selection)
        export = _parsed(archive, EXPORT, Export)
        self._require_selection(selection)
        self.report.selection, self.report.export = selection, export
        if archive.read(README, MAX_SMALL_BYTES) != README_TEXT.encode():
            self._add_finding(f"{README} has another text than this version of the format")
        if export.content_hash != self.report.content_hash:
            self._add_finding(f"{EXPORT} has another content hash than {CONTENT} gives")
        signed = self._signed(archive, selection)
        if signed is None:
            return
        tree, signer = signed
        contents = self.report.contents = Contents(self._mapper)
        yield from self._events(archive, selection, tree, contents)
        self._boundaries(archive, selection, tree)
        summary = render_summary(selection, export, signer, contents, self._clocks(archive))
        if archive.read(SUMMARY, MAX_SMALL_BYTES) != summary:
            self._add_finding(f"{SUMMARY} is not the summary of what the pack has")

    def _has_right_members(self, archive: Archive) -> bool:
        """Whether the members are those that the manifests name, with their hashes."""
        names = list(archive.members)
        for before, name in itertools.pairwise(names):
            if (place_of(before) or (0, 0, 0)) >= (place_of(name) or (0, 0, 0)):
                self._add_finding(f"{name} is in the wrong place, after {before}")
        for name in sorted(REQUIRED - archive.members.keys()):
            self._add_finding(f"{name} is missing")
        if self.report.findings:
            return False
        content = parse_hashes(CONTENT, archive.read(CONTENT, MAX_MANIFEST_BYTES))
        others = parse_hashes(MANIFEST, archive.read(MANIFEST, MAX_MANIFEST_BYTES))
        self._compare_hashes(archive, content | others)
        for manifest, hashes, has_content in ((CONTENT, content, True), (MANIFEST, others, False)):
            for name in hashes:
                if name == MANIFEST or is_content(name) != has_content:
                    self._add_finding(f"{manifest} must not have {name}")
            if list(hashes) != [name for name in names if name in hashes]:
                self._add_finding(f"{manifest} does not list the members in their order")
        if self.report.findings:
            return False
        self.report.content_hash = archive.sha256(CONTENT)
        return True

    def _compare_hashes(self, archive: Archive, hashes: Mapping[str, str]) -> None:
        for name in hashes:
            if name not in archive.members:
                self._add_finding(f"{name} is missing: a manifest has it")
        for name in archive.members:
            if name == MANIFEST:
                continue
            if name not in hashes:
                self._add_finding(f"{name} was added: no manifest has it")
            elif archive.sha256(name) != hashes[name]:
                self._add_finding(f"{name} was changed: its hash is not the one in the manifest")

    def _require_selection(self, selection: Selection) -> None:
        times = (selection.recorded_from, selection.recorded_before)
        if [at is None for at in times] != 2 * [selection.order_id is not None]:
            raise PackInvalid(f"{SELECTION} must have either an order or a period")
        if any(at is not None and at.tzinfo != UTC for at in times):
            raise PackInvalid(f"{SELECTION} has a time that is not in UTC")

    def _signed(self, archive: Archive, selection: Selection) -> tuple[HashTree, Signed] | None:
        """The tree that the checkpoint signs, and the signer; None if one of them is invalid."""
        keys = self._keys(archive)
        if keys is None:
            return None
        trusted, replaced = keys
        note = archive.read(CHECKPOINT, MAX_SMALL_BYTES)
        opened = open_trusted(note, trusted)
        if opened is None:
            detail = "neither the key nor one that replaced it signed the checkpoint"
            self._add_finding(detail, "SIGNATURE")
            return None
        checkpoint, signer = opened
        self.report.signer, self.report.size = str(signer), checkpoint.size
        if not 0 <= selection.first_index <= selection.last_index < checkpoint.size:
            self._add_finding(
                f"the checkpoint does not include the leaves that {SELECTION} names", "TREE"
            )
            return None
        tiles = [tile for name in archive.members if (tile := _tile_of(name)) is not None]
        for tile in tiles:
            if archive.members[tile_member(tile)].size != tile_bytes(tile):
                raise PackInvalid(f"{tile_member(tile)} has another size than a tile")
        leaf_tiles = (tile.index for tile in tiles if tile.level == 0)
        if tiles != tiles_needed(checkpoint.size, leaf_tiles):
            self._add_finding("the tiles are not those that a tree of this size has", "TREE")
            return None
        tree = HashTree(
            checkpoint.size, tiles, lambda tile: archive.read(tile_member(tile), tile_bytes(tile))
        )
        try:
            tree.require(checkpoint.root)
        except TreeWrong as error:
            self._add_finding(str(error), "TREE")
            return None
        self._anchors(archive, tree, [*trusted, *_trusted_replaced(replaced, tree)])
        return tree, Signed(str(signer), checkpoint.size, self.report.anchors)

    def _keys(self, archive: Archive) -> tuple[list[TrustedKey], list[Replacement]] | None:
        """The given key with its successors, and its predecessors; None if the pack lacks the key.

        Without a given key the last key of the pack is used.
        """
        recorded = _parsed(archive, KEYS, list[PackKey])
        rotations = [key.rotation for key in recorded]
        try:
            keys = parse_keys(recorded)
            number = signer_index(self._key or keys[-1], keys, rotations) if keys else None
            replaced = replaced_keys(recorded[: (number or 0) + 1])
            self._limits = sizes_before_forks(rotations)
            forks = [declared_fork(note) for note in rotations]
        except NoteInvalid as error:
            self._add_finding(f"{KEYS}: {error}", "SIGNATURE")
            return None
        if number is None:
            if self._key is not None:
                self.report.signer_trusted = False
            self._add_finding(f"the pack was not signed with {self._key or 'any key'}", "SIGNATURE")
            return None
        self._recorded = keys
        self.report.forks = tuple(fork for fork in forks if fork is not None)
        if self._key is not None:
            self.report.signer_trusted = True
        trusted = zip(keys[number:], self._limits[number:], strict=True)
        return [TrustedKey(key, limit) for key, limit in trusted], replaced

    def _anchors(self, archive: Archive, tree: HashTree, keys: Sequence[TrustedKey]) -> None:
        """Compare the tree with earlier checkpoints: those of the pack, and the given ones."""
        sizes = []
        notes = _parsed(archive, ANCHORS, list[str])
        if len(notes) > MAX_ANCHORS:
            raise PackInvalid(f"{ANCHORS} has more than {MAX_ANCHORS:,} checkpoints")
        for note in notes:
            opened = open_trusted(note, keys)
            if opened is None:
                self._add_finding("no trusted key signed one of the earlier checkpoints", "ANCHOR")
            elif not tree.has_root_of(opened[0].size):
                self._add_finding(
                    f"the tiles do not give the root of {opened[0].size} entries", "ANCHOR"
                )
            else:
                self._compare_root(tree, opened[0])
                sizes.append(opened[0].size)
        self.report.anchors = tuple(sizes)
        kept = read_notes(self._kept or b"")
        earlier = self._earlier_keys(kept)
        for note in kept:
            self.report.given += 1
            opened = open_trusted(note, keys)
            if opened is None and open_trusted(note, earlier) is not None:
                self.report.earlier += 1
            elif opened is None:
                self._add_finding("no trusted key signed one of the given checkpoints", "ANCHOR")
            elif opened[0].size > tree.size:
                self.report.larger += (opened[0].size,)
            elif tree.has_root_of(opened[0].size):
                self.report.compared += 1
                self._compare_root(tree, opened[0])

    def _earlier_keys(self, kept: Sequence[str]) -> list[TrustedKey]:
        """The keys that signed the log before a fork.

        A checkpoint of such a key that is not trusted belongs to that earlier log.
        """
        forked = [
            key
            for key, limit in zip(self._recorded, self._limits, strict=True)
            if limit is not None
        ]
        lost = keys_of_earlier_logs(kept, self._recorded, self._limits)
        return [TrustedKey(key) for key in (*forked, *lost)]

    def _compare_root(self, tree: HashTree, checkpoint: Checkpoint) -> None:
        if tree.root_of(checkpoint.size) != checkpoint.root:
            detail = f"the checkpoint of {checkpoint.size} entries is of another log"
            self._add_finding(f"{detail}: the tree had another root then", "ANCHOR")

    def _events(
        self, archive: Archive, selection: Selection, tree: HashTree, contents: Contents
    ) -> Iterator[CheckProgress]:
        """Check each event against the tree, and derive the schedules again."""
        schedules, sizes = sha256(), {EVENTS: PartSizes(), SCHEDULES: PartSizes()}
        leaves = _Leaves(archive, selection)
        for number, stream in enumerate(streams_in(archive), 1):
            for event in stream:
                self._check_event(event, tree, contents)
            self._check_stream(stream, selection, leaves, contents)
            schedules.update(line := contents.add(stream))
            sizes[EVENTS].add(sum(event.line_bytes for event in stream))
            sizes[SCHEDULES].add(len(line))
            if number % _STREAMS_BETWEEN_REPORTS == 0:
                yield CheckProgress(contents.events, selection.events)
        if (contents.events, contents.streams) != (selection.events, selection.streams):
            self._add_finding(f"{SELECTION} has other numbers of events and streams than the pack")
        if selection.order_id is not None and not leaves.streams:
            self._add_finding(f"the pack has no event of the order that {SELECTION} names")
        if selection.order_id is None and leaves.missing:
            detail = f"the pack lacks {leaves.missing:,} of the events that the period has"
            self._add_finding(f"{detail}, the first at leaf {leaves.first_missing:,}", "DELETED")
        self._compare_parts(archive, schedules.digest(), sizes)

    def _compare_parts(
        self, archive: Archive, schedules: bytes, sizes: Mapping[str, PartSizes]
    ) -> None:
        stored = sha256()
        for part in parts_of(archive, SCHEDULES):
            for chunk in archive.chunks(part):
                stored.update(chunk)
        if stored.digest() != schedules:
            self._add_finding(f"{SCHEDULES}/ is not what the events give")
            return
        for group, expected in sizes.items():
            if [archive.members[part].size for part in parts_of(archive, group)] != expected.sizes:
                self._add_finding(f"{group}/ is not divided into parts as Pulse divides it")

    def _check_event(self, event: PackedEvent, tree: HashTree, contents: Contents) -> None:
        record = event.record
        try:
            is_sealed = tree.hash_of(0, event.index) == leaf_hash(event.entry)
        except TreeWrong:
            is_sealed = False
        if not is_sealed:
            detail = f"its entry is not leaf {event.index} of the signed tree"
        elif sha256(record.state).hexdigest() != event.state_sha256:
            detail = "its state is not the one that was sealed"
        else:
            return
        contents.add_findings(Finding("ALTERED", detail, record.position, record.originator_id))

    def _check_stream(
        self, stream: Stream, selection: Selection, leaves: "_Leaves", contents: Contents
    ) -> None:
        indices = [event.index for event in stream]
        order_id = stream[0].record.originator_id
        if any(later <= earlier for earlier, later in itertools.pairwise(indices)):
            raise PackInvalid(f"the events of {order_id} are not in the order of their leaves")
        if indices[-1] < selection.first_index or indices[-1] > selection.last_index:
            raise PackInvalid(f"the events of {order_id} are not those that {SELECTION} names")
        if selection.order_id not in {None, order_id}:
            raise PackInvalid(f"the pack of one order has events of {order_id}")
        if selection.order_id is not None:
            first_and_last = (selection.first_index, selection.last_index)
            if (indices[0], indices[-1]) != first_and_last:
                raise PackInvalid(f"{SELECTION} has other leaves than those of the order's events")
        leaves.begin(next(index for index in indices if index >= selection.first_index))
        for event in stream:
            if event.index >= selection.first_index:
                leaves.add(event.index)
                self._check_time(event, selection, contents)

    def _check_time(self, event: PackedEvent, selection: Selection, contents: Contents) -> None:
        """Check that an event of the period was recorded in it.

        Where the database's clock was set back, later events may have earlier times.
        """
        at, start, before = (
            event.record.recorded_at,
            selection.recorded_from,
            selection.recorded_before,
        )
        is_early = start is not None and event.index == selection.first_index and at < start
        if is_early or (before is not None and at >= before):
            detail = "the event was not recorded in the period"
            position, order_id = event.record.position, event.record.originator_id
            contents.add_findings(Finding("INSERTED", detail, position, order_id))

    def _boundaries(self, archive: Archive, selection: Selection, tree: HashTree) -> None:
        """Check that the events before and after the period were recorded outside of it."""
        neighbours = [
            _neighbour(line)
            for line in archive.read(NEIGHBOURS, MAX_SMALL_BYTES).splitlines(keepends=True)
        ]
        start, before = selection.recorded_from, selection.recorded_before
        if start is None or before is None:
            if neighbours:
                self._add_finding(
                    f"{NEIGHBOURS} or {SELECTION} does not belong to what was selected"
                )
            return
        last = selection.last_index
        expected = [i for i in (selection.first_index - 1, last + 1) if 0 <= i < tree.size]
        if [event.index for event in neighbours] != expected:
            self._add_finding(f"{NEIGHBOURS} does not have the entries before and after the period")
            return
        for event in neighbours:
            is_outside = (
                event.record.recorded_at >= before
                if event.index > last
                else event.record.recorded_at < start
            )
            if tree.hash_of(0, event.index) != leaf_hash(event.entry):
                detail = f"{NEIGHBOURS}: the entry is not leaf {event.index} of the signed tree"
                self._add_finding(detail, "ALTERED", event.record.position)
            elif not is_outside:
                detail = (
                    "the event next to the selected ones was recorded in the period, and is not in "
                    "the pack"
                )
                self._add_finding(detail, "DELETED", event.record.position)
        self.report.is_whole = last + 1 < tree.size

    def _clocks(self, archive: Archive) -> Clocks:
        clocks = Clocks()
        if archive.members[CLOCKS].size > MAX_CLOCKS_BYTES:
            raise PackInvalid(f"{CLOCKS} is larger than {MAX_CLOCKS_BYTES:,} bytes")
        for line in archive.lines(CLOCKS, MAX_CLOCK_LINE_BYTES):
            try:
                clocks.add(offset := msgspec.json.decode(line, type=ClockOffset))
            except (msgspec.MsgspecError, ValueError) as error:
                raise PackInvalid(f"a line of {CLOCKS} cannot be read: {error}") from error
            if encode(offset) != line:
                raise PackInvalid(f"a line of {CLOCKS} is not in the form that Pulse writes")
        return clocks

    def _add_finding(
        self, detail: str, fault: Fault = "MEMBER", position: int | None = None
    ) -> None:
        self.report.findings.append(Finding(fault, detail, position))


class _Leaves:
    """Which leaves of the selection the pack has."""

    def __init__(self, archive: Archive, selection: Selection) -> None:
        self._first = selection.first_index
        self._count = selection.last_index - selection.first_index + 1
        size = sum(archive.members[part].size for part in parts_of(archive, EVENTS))
        if selection.order_id is None and self._count > size // MIN_LINE_BYTES:
            raise PackInvalid(f"{SELECTION} names more leaves than the pack has events")
        self._seen = bytearray(self._count if selection.order_id is None else 0)
        self._last_begin = -1
        self.streams = 0

    def begin(self, index: int) -> None:
        """Begin a stream with its first leaf of the selection."""
        if index <= self._last_begin:
            raise PackInvalid("the streams are not in the order of their first selected leaves")
        self._last_begin = index
        self.streams += 1

    def add(self, index: int) -> None:
        if not self._seen:
            return
        if self._seen[index - self._first]:
            raise PackInvalid(f"the pack has the event of leaf {index:,} twice")
        self._seen[index - self._first] = 1

    @property
    def missing(self) -> int:
        return self._seen.count(0)

    @property
    def first_missing(self) -> int:
        return self._first + self._seen.find(0)


def _parsed(archive: Archive, name: str, kind: type[T]) -> T:
    content = archive.read(name, MAX_SMALL_BYTES)
    try:
        parsed = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PackInvalid(f"{name} cannot be read: {error}") from error
    if msgspec.json.encode(parsed) + b"\n" != content:
        raise PackInvalid(f"{name} is not in the form that Pulse writes")
    return parsed


def _trusted_replaced(replaced: Sequence[Replacement], tree: HashTree) -> Iterator[TrustedKey]:
    """Replaced keys, newest first, while the tree has the root that the rotation note states.

    Ends also at a note that declares a loss, and if the tiles do not give the root.
    """
    for one in replaced:
        stated = one.tree
        if stated is None or not tree.has_root_of(stated.size):
            return
        if tree.root_of(stated.size) != stated.root:
            return
        yield TrustedKey(one.key, stated.size)


def _tile_of(name: str) -> TileId | None:
    """The tile in this member, None if it is another one."""
    return TileId.parse(name.removeprefix(f"{TILE}/")) if name.startswith(f"{TILE}/") else None


def _neighbour(line: bytes) -> PackedEvent:
    try:
        return parse_line(line, has_state=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PackInvalid(f"a line of {NEIGHBOURS} cannot be read: {error}") from error
