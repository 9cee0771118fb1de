"""Places in lists that are positions of a log: after a restore they mean nothing any more."""

from collections.abc import Awaitable
from typing import TypeVar
from uuid import UUID

from pulse.application.list_reads import PositionNotReached
from pulse.application.orders import CursorRefused
from pulse.eventstore import EventStore, PositionBeyondLog
from pulse.projections.due_slices import DuePage
from pulse.projections.lists import OrderPage, SlicePage

Page = TypeVar("Page", OrderPage, SlicePage, DuePage)


async def page_of_log(store: EventStore, reading: Awaitable[Page], log_id: UUID | None) -> Page:
    """The page that is read, which must be of the log `log_id`; None requires nothing.

    The server that has the page says of which log it is, so a page of a replica needs no primary.

    Raises:
        CursorRefused: it is of another log.
        DatabaseUnavailable: it cannot be read.
    """
    try:
        page = await reading
    except (PositionBeyondLog, PositionNotReached):  # of the cursor, perhaps, in an earlier log
        if log_id is not None and log_id != await store.log_id():
            raise CursorRefused(CursorRefused.OF_EARLIER_LOG) from None
        raise
    if log_id is not None and log_id != page.log_id:
        raise CursorRefused(CursorRefused.OF_EARLIER_LOG)
    return page
