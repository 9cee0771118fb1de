"""Exports evidence packs, and keeps the record of who exported what."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Final

from pulse.application.callers import Caller
from pulse.eventstore import EventStore
from pulse.evidence.exports import RecordedExport, read_exporter, read_exports, record_export
from pulse.evidence.pack.members import ClockOffset
from pulse.evidence.pack.writer import Exporter, OnProgress, PackRefused, PackRequest
from pulse.evidence.pack_export import ExportedPack, PackExport
from pulse.postgres import Connection, Database, load_sql
from pulse.projections.queue_history import QueueHistory

_SELECT_CLOCK_OFFSETS: Final = load_sql(__package__, "select_clock_offsets")


class EvidencePacks:
    """Exports packs of the log in this database. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, store: EventStore, code_version: str) -> None:
        self._database = database
        self._store = store
        self._code_version = code_version

    async def export(  # noqa: PLR0913 - what, for whom, where to
        self,
        request: PackRequest,
        caller: Caller,
        path: Path,
        *,
        anchor_file: Path,
        kept_file: Path | None,
        on_progress: OnProgress,
    ) -> ExportedPack:
        """Write a pack to this file, and record the export.

        The file may be incomplete until this returns.

        Raises:
            PackRefused: the selection is empty, invalid or too large, it cannot be proven, or the
                role may not record exports.
            NoSuchOrder: no order has the id.
            NothingSealed: the log is not sealed.
            PackInvalid: there is more than a pack can hold.
            AnchorUnusable: a file of anchors cannot be read.
            OSError: the file cannot be written.
        """
        exported_at, role, may_record = await self._database.read(read_exporter)
        if not may_record:
            raise PackRefused(
                f"the database role {role} may not record exports: export with one that may, such "
                "as the runtime role"
            )
        log_id = (await self._store.read_log_page(after=0, limit=1)).log_id
        exporter = Exporter(
            exported_at=exported_at,
            exported_by=caller.placed_by,
            database_role=role,
            code_version=self._code_version,
            log_id=log_id,
        )
        mapper = self._store.mapper
        packs = PackExport(
            self._database,
            mapper,
            QueueHistory(self._database, mapper),
            _clock_offsets,
            anchor_file=anchor_file,
            kept_file=kept_file,
        )
        exported = await packs.write(request, exporter, path, on_progress)
        async with self._database.connection() as connection:
            await record_export(connection, exported.selection, exported.export, exported.tree_size)
        return exported

    async def recorded(self) -> list[RecordedExport]:
        """Every export, the oldest first."""
        return await self._database.read(read_exports)


async def _clock_offsets(
    connection: Connection, first: datetime, last: datetime
) -> AsyncIterator[ClockOffset]:
    """The offsets that were recorded between two times; only a few rows are in memory at once."""
    async with connection.transaction(), connection.cursor("clock_offsets") as cursor:
        await cursor.execute(_SELECT_CLOCK_OFFSETS, (first, last))
        async for row in cursor:
            yield ClockOffset(*row)
