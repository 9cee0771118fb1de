"""Cursors that contain positions of the log. A restore to an earlier point invalidates them."""

from collections.abc import Awaitable
from typing import TypeVar
from uuid import UUID

from pulse.application.list_reads import PositionNotReached
from pulse.application.orders import CursorRefused
from pulse.eventstore import EventStore, PositionBeyondLog
from pulse.projections.due_slices import SliceWithOrderPage
from pulse.projections.lists import OrderPage, SlicePage

Page = TypeVar("Page", OrderPage, SlicePage, SliceWithOrderPage)


async def page_of_log(store: EventStore, reading: Awaitable[Page], log_id: UUID | None) -> Page:
    """The page, which must be of the log `log_id`; None accepts any log.

    The page carries the `log_id` of its server, so a page of a replica needs no query on the
    primary.

    Raises:
        CursorRefused: the page is of another log.
        DatabaseUnavailable: the page cannot be read.
    """
    try:
        page = await reading
    except (PositionBeyondLog, PositionNotReached):  # the cursor may be from an earlier log
        if log_id is not None and log_id != await store.log_id():
            raise CursorRefused(CursorRefused.OF_EARLIER_LOG) from None
        raise
    if log_id is not None and log_id != page.log_id:
        raise CursorRefused(CursorRefused.OF_EARLIER_LOG)
    return page
