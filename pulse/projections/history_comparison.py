"""The rows of queue_history, and how they differ from those that the log gives."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Final

import msgspec

from pulse.eventstore import AFTER_LOG, EventMapper
from pulse.postgres import Connection, fetch, load_sql
from pulse.projections.position import read_position
from pulse.projections.queue_history import (
    WINDOW_POSITIONS,
    QueueTotals,
    read_effects,
    read_effects_end,
)

_SELECT_ROWS: Final = load_sql(__package__, "select_history_to_compare")


class HistoryComparison:
    """Computes each row again from its window's events, with the functions that write the rows.

    Only windows that begin at or after the position `since` are compared. The last windows may have
    no row yet, because they have not been summed up.
    """

    def __init__(self, mapper: EventMapper, *, since: int) -> None:
        self._mapper = mapper
        self._read_to = since
        self._compared_to = max(0, _end_of_window(since))

    async def differences(self, connection: Connection, until: int) -> list[str]:
        """How the rows up to a position differ, starting after the rows of the previous call.

        Raises:
            EventTooNew: newer code must compare them.
        """
        found: list[str] = []
        rows = await fetch(connection, _SELECT_ROWS, (self._read_to, until))
        self._read_to = until
        for end, recorded_at, *sums in rows:
            begin = end - WINDOW_POSITIONS
            if end % WINDOW_POSITIONS or end <= 0:
                found.append(f"{_row(end)} is wrong: no window ends there")
            elif begin >= self._compared_to:
                found += [
                    f"queue_history has no row with until_position {missing}, the log gives one"
                    async for missing in self._windows_with_events(connection, begin)
                ]
                expected = await read_effects(connection, self._mapper, begin, end)
                found += _differing(end, (QueueTotals(*map(int, sums)), recorded_at), expected)
                self._compared_to = end
        return found

    async def differences_ahead(self, connection: Connection) -> list[str]:
        """The rows of windows that the projection has not passed."""
        projected = await read_position(connection)
        rows = await fetch(connection, _SELECT_ROWS, (projected, AFTER_LOG))
        return [f"{_row(row[0])} is of a window that is not projected" for row in rows]

    async def _windows_with_events(self, connection: Connection, until: int) -> AsyncIterator[int]:
        """The ends of the windows with events, from the first one not compared up to a position."""
        after = self._compared_to
        while after < until:
            first = await read_effects_end(connection, after, until, events=1)
            if first is None:
                return
            after = _end_of_window(first)
            yield after


def _end_of_window(position: int) -> int:
    return -(-position // WINDOW_POSITIONS) * WINDOW_POSITIONS


def _differing(
    end: int,
    stored: tuple[QueueTotals, datetime],
    expected: tuple[QueueTotals, datetime | None],
) -> Iterator[str]:
    if expected[1] is None:
        yield f"{_row(end)} is of a window without events"
        return
    columns = ("max_recorded_at", *QueueTotals.__struct_fields__)
    values, others = (
        (recorded_at, *msgspec.structs.astuple(totals))
        for totals, recorded_at in (stored, expected)
    )
    for column, value, other in zip(columns, values, others, strict=True):
        if value != other:
            text, right = (str(msgspec.to_builtins(each)) for each in (value, other))
            yield f"{_row(end)} has {column} {text}, the log gives {right}"


def _row(end: int) -> str:
    return f"the row of queue_history with until_position {end}"
