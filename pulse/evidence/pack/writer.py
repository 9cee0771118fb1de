"""Writes a pack: the members one after the other, each computed from those before it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import BinaryIO, Final, Protocol, Self
from uuid import UUID

import msgspec

from pulse.errors import PulseError
from pulse.eventstore import EventMapper, RecordedEvent
from pulse.evidence.merkle import TILE_BITS
from pulse.evidence.note import Checkpoint, NoteInvalid
from pulse.evidence.pack.archive import Archive, ArchiveWriter, MemberWriter
from pulse.evidence.pack.contents import Contents, streams_in
from pulse.evidence.pack.hash_tree import HashTree, TreeWrong, tiles_needed
from pulse.evidence.pack.keys import TrustedKey, open_trusted, parse_keys, trees_of, unsigned
from pulse.evidence.pack.members import (
    ANCHORS,
    CHECKPOINT,
    CLOCKS,
    CONTENT,
    EVENTS,
    EXPORT,
    KEYS,
    MANIFEST,
    MAX_CLOCKS_BYTES,
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
from pulse.evidence.tiles import TileId

_STREAMS_BETWEEN_YIELDS: Final = 50

OnProgress = Callable[[str, int, int], None]


class PackRefused(PulseError):
    """There is nothing to export, or no proof of it; the message says why."""


class PackRequest(msgspec.Struct, frozen=True):
    """What to export: the events of an order, or those recorded in a period.

    `recorded_from` is inclusive, `recorded_before` exclusive.
    """

    order_id: UUID | None = None
    recorded_from: datetime | None = None
    recorded_before: datetime | None = None


class Bounds(msgspec.Struct, frozen=True):
    """The positions of the selected events: those after `after`, up to `until`.

    With an `order_id`, only those of its stream.
    """

    after: int
    until: int
    order_id: UUID | None


class SealedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of the log, with its leaf and its entry in the seal."""

    record: RecordedEvent
    index: int
    entry: bytes


class Exporter(msgspec.Struct, frozen=True):
    """Who exports from which log, when, and with which code version."""

    exported_at: datetime
    exported_by: str
    database_role: str
    code_version: str
    log_id: UUID


class Anchor(msgspec.Struct, frozen=True):
    """A checkpoint as it was signed, and the size of its tree."""

    size: int
    note: str


class Source(Protocol):
    """Where a pack comes from."""

    def streams(self, bounds: Bounds) -> AsyncIterator[tuple[int, list[list[SealedEvent]]]]:
        """The streams that have selected events, and how far the log was read."""

    async def entry(self, index: int, size: int) -> bytes | None:
        """The entry of a leaf, None if the tree of this size does not have it."""

    async def tile(self, tile: TileId) -> bytes:
        """The bytes of a tile."""


class PackWriter:
    """Writes a pack to an empty file. Call the methods in the order in which they are defined.

    `written` is the same file, opened for reading. `on_progress` receives the unit that is counted,
    the number done and the total.
    """

    def __init__(
        self,
        source: Source,
        mapper: EventMapper,
        file: BinaryIO,
        written: BinaryIO,
        on_progress: OnProgress,
    ) -> None:
        self.contents = Contents(mapper)
        self._source = source
        self._file = file
        self._written = written
        self._on_progress = on_progress
        self._archive = ArchiveWriter(file)
        self._clocks = Clocks()
        self._anchors: Sequence[Anchor] = ()
        self._rotated: Sequence[Checkpoint] = ()
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

    async def add_schedules(self, events: int) -> None:
        """Read the events from the pack, check them, and add what schedules were derived from."""
        archive = self._so_far()
        with _Parts(self._archive, SCHEDULES) as parts:
            for number, stream in enumerate(streams_in(archive), 1):
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
            PackRefused: the last key did not sign the checkpoint, or the chain of keys is invalid.
        """
        try:
            verifiers = parse_keys(keys)
            opened = open_trusted(note, [TrustedKey(key) for key in verifiers[-1:]])
            self._rotated = trees_of(keys)
        except NoteInvalid as error:
            raise differs(f"the keys that signed: {error}") from error
        if opened is None:
            raise differs("the checkpoint is not signed by a key of the log")
        signer = opened[1]
        self._anchors = anchors
        self._leaf_tiles.update((tree.size - 1) >> TILE_BITS for tree in self._rotated if tree.size)
        self._leaf_tiles.update((anchor.size - 1) >> TILE_BITS for anchor in anchors)
        self._archive.add(CHECKPOINT, note.encode())
        notes = [anchor.note for anchor in anchors]
        self._archive.add(ANCHORS, msgspec.json.encode(notes) + b"\n")
        self._archive.add(KEYS, msgspec.json.encode(keys) + b"\n")
        sizes = tuple(anchor.size for anchor in anchors)
        return Signed(str(signer), unsigned(note).size, sizes)

    async def add_clocks(self, offsets: AsyncIterator[ClockOffset]) -> None:
        """Add the offsets of clocks around the time of the events."""
        with self._archive.member(CLOCKS) as member:
            async for offset in offsets:
                self._clocks.add(offset)
                member.write(encode(offset))
                if member.size > MAX_CLOCKS_BYTES:
                    raise PackRefused("there are too many clock offsets: select a shorter period")

    async def add_tree(self, selection: Selection, note: str) -> None:
        """Add the entries before and after the period, and the tiles.

        Raises:
            PackRefused: the tree is not the one that was signed.
        """
        checkpoint = unsigned(note)
        first, last = selection.first_index, selection.last_index
        lines = []
        for index in () if selection.order_id else (first - 1, last + 1):
            entry = await self._source.entry(index, checkpoint.size)
            if entry is not None:
                lines.append(render_line(index, entry, None))
                self._leaf_tiles.add(index >> TILE_BITS)
        self._archive.add(NEIGHBOURS, b"".join(lines))
        tiles = tiles_needed(checkpoint.size, self._leaf_tiles)
        for number, tile in enumerate(tiles, 1):
            self._archive.add(tile_member(tile), await self._source.tile(tile))
            self._on_progress("tile", number, len(tiles))
        archive = self._so_far()
        tree = HashTree(
            checkpoint.size, tiles, lambda tile: archive.read(tile_member(tile), tile_bytes(tile))
        )
        try:
            tree.require(checkpoint.root)
            for stated in self._rotated:
                if tree.root_of(stated.size) != stated.root:
                    raise differs(f"a rotation note of {stated.size} entries has another root")
            for anchor in self._anchors:
                if tree.root_of(anchor.size) != unsigned(anchor.note).root:
                    raise differs(f"an anchor of {anchor.size} entries has another root")
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

    def _so_far(self) -> Archive:
        self._file.flush()
        return Archive(self._written, self._archive.members)


class _Parts:
    """Members that are numbered from 1; each ends with the write that fills it to PART_BYTES."""

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


def differs(detail: str) -> PackRefused:
    """The refusal of a log that is not the one that was sealed."""
    return PackRefused(
        f"the log differs from its seal, so nothing can be proven: {detail}; `pulse verify` lists "
        "the differences"
    )
