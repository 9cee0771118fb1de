"""Exports a pack: writes its members one after the other, and derives the rest from them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Self
from uuid import UUID

import msgspec
import psycopg

from pulse.eventstore import EventMapper
from pulse.evidence.merkle import TILE_BITS
from pulse.evidence.note import Checkpoint, VerifierKey, split_note
from pulse.evidence.pack.archive import Archive, ArchiveWriter, MemberWriter
from pulse.evidence.pack.contents import Contents, streams_in
from pulse.evidence.pack.hash_tree import HashTree, TreeWrong, tiles_needed
from pulse.evidence.pack.members import (
    ANCHORS,
    CHECKPOINT,
    CLOCKS,
    CONTENT,
    EVENTS,
    EXPORT,
    KEYS,
    MANIFEST,
    MAX_LINE_BYTES,
    MAX_STREAM_BYTES,
    NEIGHBOURS,
    PART_BYTES,
    README,
    README_TEXT,
    SCHEDULES,
    SELECTION,
    SUMMARY,
    ClockOffset,
    Export,
    PackKey,
    Selection,
    encode,
    is_content,
    part_of,
    render_hashes,
    render_line,
    tile_bytes,
    tile_member,
)
from pulse.evidence.pack.summary import Clocks, Signed, render_summary
from pulse.evidence.pack_anchors import Anchor, all_anchors, choose_anchors, opened
from pulse.evidence.pack_source import (
    Bounds,
    PackRefused,
    PackRequest,
    PackSource,
    SealedEvent,
    differs,
)
from pulse.evidence.state import TreeDamaged, read_keys
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe
from pulse.projections.queue_history import QueueHistory

_STREAMS_BETWEEN_YIELDS: Final = 50
_CLOCK_MARGIN: Final = timedelta(minutes=2)
"""Offsets are recorded each minute, after they were measured."""

OnProgress = Callable[[str, int, int], None]
"""Receives what is counted, how far the export is, and where it ends."""

ClockReader = Callable[[Connection, datetime, datetime], AsyncIterator[ClockOffset]]


class Exporter(msgspec.Struct, frozen=True):
    """Who exports, with which code, from which log, and when."""

    exported_at: datetime
    exported_by: str
    database_role: str
    code_version: str
    log_id: UUID


class ExportedPack(msgspec.Struct, frozen=True):
    """What a pack has. `findings` is the number of those about its events."""

    selection: Selection
    export: Export
    tree_size: int
    orders: int
    schedules: int
    findings: int


class PackExport:
    """Exports packs.

    Some of the checkpoints in `anchor_file` are chosen for a pack; those in `kept_file` are all in
    it.
    """

    def __init__(  # noqa: PLR0913 - what it reads from
        self,
        database: Database,
        mapper: EventMapper,
        history: QueueHistory,
        clocks: ClockReader,
        *,
        anchor_file: Path,
        kept_file: Path | None = None,
    ) -> None:
        self._database = database
        self._mapper = mapper
        self._history = history
        self._clocks = clocks
        self._anchor_file = anchor_file
        self._kept_file = kept_file

    async def write(
        self, request: PackRequest, exporter: Exporter, path: Path, on_progress: OnProgress
    ) -> ExportedPack:
        """Write a pack to this file, and flush it to the disk.

        Raises:
            PackRefused: there is no such event, or the log differs from its seal.
            NoSuchOrder: no order has this id.
            NothingSealed: the log is not sealed.
            PackInvalid: there is more than a pack can hold.
            AnchorUnusable: a file of anchors cannot be read.
            DatabaseUnavailable: something cannot be read.
            OSError: the file cannot be written.
        """
        async with self._connection() as connection:
            source = PackSource(connection, self._history)
            try:
                bounds = await source.bounds(request)
                note = await source.wait_for_checkpoint(bounds.until)
                keys = [
                    PackKey(key.verifier_key, key.rotation) for key in await read_keys(connection)
                ]
                with path.open("w+b") as file, path.open("rb") as written:
                    pack = _Pack(source, self._mapper, file, on_progress)
                    selection = await pack.add_events(bounds, request)
                    await pack.add_schedules(written, selection.events)
                    export = pack.add_content(selection, exporter)
                    signed = pack.add_signatures(note, keys, self._anchors(selection, note, keys))
                    await pack.add_clocks(self._clocks, connection)
                    await pack.add_tree(written, selection, note)
                    pack.finish(selection, export, signed)
                    os.fsync(file.fileno())
            except TreeDamaged as error:
                raise differs(str(error)) from error
        contents = pack.contents
        return ExportedPack(
            selection=selection,
            export=export,
            tree_size=signed.size,
            orders=contents.orders,
            schedules=contents.schedules,
            findings=contents.faults.total(),
        )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with await self._database.connect("evidence") as connection:
                await connection.set_read_only(True)
                yield connection
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error

    def _anchors(self, selection: Selection, note: str, keys: Sequence[PackKey]) -> list[Anchor]:
        verifiers, size = _verifiers(keys), _unsigned(note).size
        first, last = selection.first_index, selection.last_index
        chosen = choose_anchors(self._anchor_file, verifiers, first, last, size)
        if self._kept_file is not None:
            chosen += all_anchors(self._kept_file, verifiers, size)
        found = {anchor.note: anchor for anchor in chosen}
        return sorted(found.values(), key=lambda anchor: (anchor.size, anchor.note))


class _Pack:
    """A pack while it is written. Its methods are called in the order in which they are."""

    def __init__(
        self, source: PackSource, mapper: EventMapper, file: BinaryIO, on_progress: OnProgress
    ) -> None:
        self.contents = Contents(mapper)
        self._source = source
        self._file = file
        self._on_progress = on_progress
        self._archive = ArchiveWriter(file)
        self._clocks = Clocks()
        self._anchors: Sequence[Anchor] = ()
        self._leaf_tiles: set[int] = set()
        self._archive.add(README, README_TEXT.encode())

    async def add_events(self, bounds: Bounds, request: PackRequest) -> Selection:
        """Add the events; returns what was selected."""
        indices: list[int] = []
        events = streams = within = 0
        first, last = 2**63, -1
        with _Parts(self._archive, EVENTS) as parts:
            async for position, found in self._source.streams(bounds):
                for stream in found:
                    indices = [e.index for e in stream if e.record.position > bounds.after]
                    first, last = min(first, *indices), max(last, *indices)
                    within += len(indices)
                    events, streams = events + len(stream), streams + 1
                    self._leaf_tiles.update(event.index >> TILE_BITS for event in stream)
                    parts.write(_lines(stream))
                done, whole = position - bounds.after, bounds.until - bounds.after
                self._on_progress("position", done, whole)
        if bounds.order_id is None and within != last - first + 1:
            missing = last - first + 1 - within
            raise differs(f"{missing} events of the period were sealed and are not in the log")
        return Selection(
            order_id=request.order_id,
            recorded_from=request.recorded_from,
            recorded_before=request.recorded_before,
            first_index=first,
            last_index=last,
            events=events,
            streams=streams,
        )

    async def add_schedules(self, written: BinaryIO, events: int) -> None:
        """Read the events from the pack, check them, and add what schedules were derived from."""
        self._file.flush()
        with _Parts(self._archive, SCHEDULES) as parts:
            for number, stream in enumerate(streams_in(self._so_far(written)), 1):
                if line := self.contents.add(stream):
                    parts.write([line])
                if number % _STREAMS_BETWEEN_YIELDS == 0:
                    self._on_progress("event", self.contents.events, events)
                    await asyncio.sleep(0)

    def add_content(self, selection: Selection, exporter: Exporter) -> Export:
        """Add what was selected, the hashes of the content, and who exported it."""
        self._archive.add(SELECTION, encode(selection))
        content = render_hashes(
            {name: value for name, value in self._archive.hashes.items() if is_content(name)}
        )
        self._archive.add(CONTENT, content)
        export = Export(
            exported_at=exporter.exported_at,
            exported_by=exporter.exported_by,
            database_role=exporter.database_role,
            code_version=exporter.code_version,
            log_id=exporter.log_id,
            content_hash=sha256(content).hexdigest(),
        )
        self._archive.add(EXPORT, encode(export))
        return export

    def add_signatures(
        self, note: str, keys: Sequence[PackKey], anchors: Sequence[Anchor]
    ) -> Signed:
        """Add the checkpoint, earlier ones, and the keys.

        Raises:
            PackRefused: none of the keys signed the checkpoint.
        """
        signer = next((key for key in _verifiers(keys) if opened(note, [key])), None)
        if signer is None:
            raise differs("the checkpoint is not signed by a key of the log")
        self._anchors = anchors
        self._leaf_tiles.update((anchor.size - 1) >> TILE_BITS for anchor in anchors)
        self._archive.add(CHECKPOINT, note.encode())
        notes = [anchor.note for anchor in anchors]
        self._archive.add(ANCHORS, msgspec.json.encode(notes) + b"\n")
        self._archive.add(KEYS, msgspec.json.encode(keys) + b"\n")
        sizes = tuple(anchor.size for anchor in anchors)
        return Signed(str(signer), _unsigned(note).size, sizes)

    async def add_clocks(self, read: ClockReader, connection: Connection) -> None:
        """Add the offsets of clocks around the time of the events."""
        first, last = self.contents.first_recorded_at, self.contents.last_recorded_at
        with self._archive.member(CLOCKS) as member:
            if first is None or last is None:
                return
            async for offset in read(connection, first - _CLOCK_MARGIN, last + _CLOCK_MARGIN):
                self._clocks.add(offset)
                member.write(encode(offset))

    async def add_tree(self, written: BinaryIO, selection: Selection, note: str) -> None:
        """Add the entries beside the period, and the tiles.

        Raises:
            PackRefused: the tree is not the one that was signed.
        """
        checkpoint = _unsigned(note)
        beside = () if selection.order_id else (selection.first_index - 1, selection.last_index + 1)
        lines = []
        for index in beside:
            entry = await self._source.entry(index, checkpoint.size)
            if entry is not None:
                lines.append(render_line(index, entry, None))
                self._leaf_tiles.add(index >> TILE_BITS)
        self._archive.add(NEIGHBOURS, b"".join(lines))
        tiles = tiles_needed(checkpoint.size, self._leaf_tiles)
        for number, tile in enumerate(tiles, 1):
            self._archive.add(tile_member(tile), await self._source.tile(tile))
            self._on_progress("tile", number, len(tiles))
        self._file.flush()
        archive = self._so_far(written)
        tree = HashTree(
            checkpoint.size, tiles, lambda tile: archive.read(tile_member(tile), tile_bytes(tile))
        )
        try:
            tree.require(checkpoint.root)
            for anchor in self._anchors:
                if tree.root_of(anchor.size) != _unsigned(anchor.note).root:
                    raise differs(f"an anchor of {anchor.size} entries contradicts it")
        except TreeWrong as error:
            raise differs(str(error)) from error

    def finish(self, selection: Selection, export: Export, signed: Signed) -> None:
        """Add the summary and the manifest, and end the archive."""
        summary = render_summary(selection, export, signed, self.contents, self._clocks)
        self._archive.add(SUMMARY, summary)
        others = {name: v for name, v in self._archive.hashes.items() if not is_content(name)}
        self._archive.add(MANIFEST, render_hashes(others))
        self._archive.finish()
        self._file.flush()

    def _so_far(self, written: BinaryIO) -> Archive:
        return Archive(written, self._archive.members)


class _Parts:
    """Members that are numbered from 1; each ends with the write that makes it large enough."""

    def __init__(self, archive: ArchiveWriter, group: str) -> None:
        self._archive = archive
        self._group = group
        self._number = 0
        self._open: MemberWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._open is not None and kind is None:
            self._archive.end(self._open)

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, which stay in one member."""
        if self._open is None:
            self._number += 1
            self._open = self._archive.begin(part_of(self._group, self._number))
        for line in lines:
            self._open.write(line)
        if self._open.size >= PART_BYTES:
            self._archive.end(self._open)
            self._open = None


def _lines(stream: Sequence[SealedEvent]) -> list[bytes]:
    """The lines of a stream, in the order of the leaves.

    Raises:
        PackRefused: they are larger than a pack can hold.
    """
    ordered = sorted(stream, key=lambda event: event.index)
    lines = [render_line(event.index, event.entry, event.record.state) for event in ordered]
    size = sum(map(len, lines))
    if max(map(len, lines)) > MAX_LINE_BYTES or size > MAX_STREAM_BYTES:
        stream_id = stream[0].record.originator_id
        raise PackRefused(f"the events of {stream_id} are too large for a pack: {size:,} bytes")
    return lines


def _verifiers(keys: Sequence[PackKey]) -> list[VerifierKey]:
    return [VerifierKey.parse(key.verifier_key) for key in keys]


def _unsigned(note: str) -> Checkpoint:
    """The checkpoint of a note, whose signature is not checked here."""
    return Checkpoint.parse(split_note(note)[0])
