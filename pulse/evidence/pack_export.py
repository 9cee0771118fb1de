"""Exports a pack from the database."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import psycopg

from pulse.eventstore import EventMapper
from pulse.evidence.pack.contents import Contents
from pulse.evidence.pack.keys import keys_until, trusted_keys, unsigned
from pulse.evidence.pack.members import (
    ClockOffset,
    Export,
    PackKey,
    Selection,
)
from pulse.evidence.pack.writer import (
    Anchor,
    Bounds,
    Exporter,
    OnProgress,
    PackRefused,
    PackRequest,
    PackWriter,
    differs,
)
from pulse.evidence.pack_anchors import all_anchors, choose_anchors
from pulse.evidence.pack_source import PackSource
from pulse.evidence.state import TreeDamaged, read_keys
from pulse.postgres import Connection, Database, DatabaseUnavailable, describe
from pulse.projections.queue_history import QueueHistory

_CLOCK_MARGIN: Final = timedelta(minutes=2)
"""A row has the offsets that were measured in about the minute before it was written."""

_FOLLOWING_SECONDS: Final = 3.0

ClockReader = Callable[[Connection, datetime, datetime], AsyncIterator[ClockOffset]]


class ExportedPack(msgspec.Struct, frozen=True):
    """The content of an exported pack. `findings` is the number of findings about its events.

    `is_whole` is whether an entry after the period proves that the period has no more events; None
    for an order.
    """

    selection: Selection
    export: Export
    tree_size: int
    orders: int
    schedules: int
    findings: int
    is_whole: bool | None


class PackExport:
    """Exports packs.

    A pack has some of the checkpoints in `anchor_file` and all of those in `kept_file`, except
    those that are larger than its tree or that no trusted key signed.
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
            PackRefused: there is no such event, the log differs from its seal, or the seal does not
                reach the last event within 15 s.
            HistoryIncomplete: the events of the period are not known yet; retry later.
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
                note = await self._checkpoint(source, bounds)
                recorded = await read_keys(connection)
                keys = keys_until(note, [PackKey(k.verifier_key, k.rotation) for k in recorded])
                with path.open("wb") as file, path.open("rb") as written:
                    pack = PackWriter(source, self._mapper, file, written, on_progress)
                    selection = await pack.add_events(bounds, request)
                    await pack.add_schedules(selection.events)
                    export = pack.add_content(selection, exporter)
                    signed = pack.add_signatures(note, keys, self._anchors(selection, note, keys))
                    await pack.add_clocks(self._offsets(connection, pack.contents))
                    await pack.add_tree(selection, note)
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
            is_whole=(
                selection.last_index + 1 < signed.size if selection.order_id is None else None
            ),
        )

    async def _checkpoint(self, source: PackSource, bounds: Bounds) -> str:
        """The latest checkpoint, which includes the selected events.

        Waits briefly until it also includes the event after a period, if there is one: that proves
        that the period has no more events.
        """
        following = None if bounds.order_id else await source.following(bounds.until)
        if following is not None:
            with suppress(PackRefused):
                await source.wait_for_checkpoint(following, seconds=_FOLLOWING_SECONDS)
        return await source.wait_for_checkpoint(bounds.until)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with await self._database.connect("evidence") as connection:
                await connection.set_read_only(True)
                yield connection
        except psycopg.Error as error:
            raise DatabaseUnavailable(describe(error)) from error

    def _anchors(self, selection: Selection, note: str, keys: Sequence[PackKey]) -> list[Anchor]:
        trusted, size = trusted_keys(keys), unsigned(note).size
        first, last = selection.first_index, selection.last_index
        chosen = choose_anchors(self._anchor_file, trusted, first, last, size)
        if self._kept_file is not None:
            chosen += all_anchors(self._kept_file, trusted, size)
        found = {anchor.note: anchor for anchor in chosen}
        return sorted(found.values(), key=lambda anchor: (anchor.size, anchor.note))

    async def _offsets(
        self, connection: Connection, contents: Contents
    ) -> AsyncIterator[ClockOffset]:
        """The offsets of clocks around the time of the events."""
        first, last = contents.first_recorded_at, contents.last_recorded_at
        if first is not None and last is not None:
            begin, end = first - _CLOCK_MARGIN, last + _CLOCK_MARGIN
            async for offset in self._clocks(connection, begin, end):
                yield offset
