"""The record of exports: who made which pack, and when. It is append-only."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from pulse.evidence.pack.members import Export, Selection
from pulse.postgres import Connection, fetch, load_sql

_SELECT_EXPORTER: Final = load_sql(__package__, "select_exporter")
_INSERT: Final = load_sql(__package__, "insert_export")
_SELECT: Final = load_sql(__package__, "select_exports")


class RecordedExport(msgspec.Struct, frozen=True):
    """An export. `exported_at` and `database_role` are the database's own."""

    exported_at: datetime
    exported_by: str
    database_role: str
    code_version: str
    order_id: UUID | None
    recorded_from: datetime | None
    recorded_before: datetime | None
    events: int
    first_index: int
    last_index: int
    tree_size: int
    content_hash: str


async def read_exporter(connection: Connection) -> tuple[datetime, str, bool]:
    """The database's clock, the role of this session, and whether it may record exports."""
    ((now, role, may_record),) = await fetch(connection, _SELECT_EXPORTER)
    return now, role, may_record


async def record_export(
    connection: Connection, selection: Selection, export: Export, tree_size: int
) -> None:
    """Record the export of a pack."""
    parameters: dict[str, Any] = {
        "exported_by": export.exported_by,
        "code_version": export.code_version,
        "order_id": selection.order_id,
        "recorded_from": selection.recorded_from,
        "recorded_before": selection.recorded_before,
        "events": selection.events,
        "first_index": selection.first_index,
        "last_index": selection.last_index,
        "tree_size": tree_size,
        "content_hash": export.content_hash,
    }
    await connection.execute(_INSERT, parameters)


async def read_exports(connection: Connection) -> list[RecordedExport]:
    """Every export, the oldest first."""
    return [RecordedExport(*row) for row in await fetch(connection, _SELECT)]
