"""The due page: slices due in the next hour, overdue slices, and late or expired ones."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated, Final, NamedTuple

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.due import DueSlices, halt_of
from pulse.application.halts import ReleaseHalts
from pulse.application.known_halts import read_halts
from pulse.application.notices import target_text
from pulse.application.origin import system_clock
from pulse.domain import Halt
from pulse.http.api.lists import SliceParameters, next_slice_cursor_of, slice_query
from pulse.http.console.charts.due import due_chart
from pulse.http.console.own_writes import read_list
from pulse.http.console.pages import AnyRequest, link, page, utc
from pulse.http.console.sessions import CONSOLE_PATH
from pulse.http.rights import needs
from pulse.projections.due_slices import MAX_COUNTED, SliceWithOrder, SliceWithOrderPage
from pulse.projections.lists import MAX_SLICES_PER_PAGE
from pulse.rfc3339 import format_time

DUE_PATH: Final = f"{CONSOLE_PATH}/due"
_LATEST_BEGIN: Final = datetime.max.replace(tzinfo=UTC) - timedelta(hours=1)
_HOUR: Final = timedelta(hours=1)
_MAX_OVERDUE: Final = 50
_SLICES_PER_PAGE: Final = 40
_MAX_LATE: Final = 20


class DueParameters(SliceParameters, frozen=True):
    """The query parameters: those of `GET /internal/slices`, with smaller pages."""

    limit: Annotated[int, Meta(ge=1, le=MAX_SLICES_PER_PAGE)] = _SLICES_PER_PAGE


class SliceRow(NamedTuple):
    """A slice, and the target and reason of the halt that covers it."""

    slice: SliceWithOrder
    halt: str | None


def due_routes(due: DueSlices, halts: ReleaseHalts) -> list[HTTPRouteHandler]:
    """The route of the due page."""

    @get("/due", opt=needs("read"))
    async def show_due(
        request: AnyRequest, parameters: NamedDependency[DueParameters]
    ) -> Response[str]:
        """The slices of the next hour, or of the requested period, in pages."""
        now = system_clock()
        begin = min(parameters.scheduled_from or now.replace(microsecond=0), _LATEST_BEGIN)
        end = parameters.scheduled_before or begin + _HOUR
        query = slice_query(
            msgspec.structs.replace(parameters, scheduled_from=begin, scheduled_before=end)
        )
        is_live = parameters == DueParameters()
        known = await read_halts(halts)
        counted_until = min(end, begin + _HOUR)
        targets = [halt.target for halt in known.in_force]
        found, counts, overdue, late = await asyncio.gather(
            read_list(request.scope, query, due.page),
            due.by_minute(begin, counted_until, targets),
            due.overdue(_MAX_OVERDUE + 1),
            due.late(now - _HOUR, _MAX_LATE),
        )
        return page(
            request,
            "due.html",
            title="Due",
            active="due",
            position=found.as_of_position,
            begin=begin.astimezone(UTC),
            end=end.astimezone(UTC),
            is_live=is_live,
            minutes=_by_minute([_row(s, known.in_force) for s in found.slices]),
            next_page=_next_page(
                found, parameters, begin, end, may_be_older=due.pages_may_be_older
            ),
            chart=due_chart(
                counts.minutes, begin, None if is_live else _period(begin, counted_until)
            ),
            counts=counts,
            counted_until=counted_until.astimezone(UTC),
            max_counted=MAX_COUNTED,
            overdue=[_row(s, known.in_force) for s in overdue[:_MAX_OVERDUE]],
            more_overdue=len(overdue) > _MAX_OVERDUE,
            late=late,
            halts_fault=known.fault,
        )

    return [show_due]


def _period(begin: datetime, end: datetime) -> str:
    return f"from {utc(begin)} to {utc(end)}"


def _row(slice_: SliceWithOrder, in_force: tuple[Halt, ...]) -> SliceRow:
    halt = halt_of(slice_, in_force)
    text = None if halt is None else f"{target_text(halt.target)}: {halt.reason}"
    return SliceRow(slice_, text)


def _by_minute(rows: list[SliceRow]) -> list[tuple[datetime, list[SliceRow]]]:
    """The rows in groups, each with the start of its minute."""
    grouped = groupby(rows, key=lambda r: r.slice.scheduled_at.replace(second=0, microsecond=0))
    return [(minute, list(group)) for minute, group in grouped]


def _next_page(
    found: SliceWithOrderPage,
    parameters: DueParameters,
    begin: datetime,
    end: datetime,
    *,
    may_be_older: bool,
) -> str | None:
    cursor = next_slice_cursor_of(begin, end, found, may_be_older=may_be_older)
    if cursor is None:
        return None
    return link(
        DUE_PATH,
        scheduled_from=format_time(begin),
        scheduled_before=format_time(end),
        limit=None if parameters.limit == _SLICES_PER_PAGE else parameters.limit,
        cursor=cursor,
    )
