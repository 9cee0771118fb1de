"""Places in lists that are positions of a log: after a restore they mean nothing any more."""

from typing import TypeVar
from uuid import UUID

import msgspec

from pulse.application.orders import CursorRefused
from pulse.eventstore import EventStore
from pulse.projections.due_slices import DuePage
from pulse.projections.lists import OrderPage, SlicePage

Page = TypeVar("Page", OrderPage, SlicePage, DuePage)


async def require_log(store: EventStore, log_id: UUID | None) -> None:
    """Require that the log has this identity; None requires nothing.

    Raises:
        CursorRefused: it has another one.
        DatabaseUnavailable: it cannot be read.
    """
    if log_id is not None and log_id != await store.log_id():
        raise CursorRefused(CursorRefused.OF_EARLIER_LOG)


async def with_log_id(
    store: EventStore, page: Page, next_place: object | None, log_id: UUID | None
) -> Page:
    """The page with the identity of its log, if there is a next place; `log_id` if it is known.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    if next_place is None:
        return page
    return msgspec.structs.replace(page, log_id=log_id or await store.log_id())
