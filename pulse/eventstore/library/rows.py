"""Between the log's columns and the library's values."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import DataError, Notification


def notification_of(row: Sequence[Any]) -> Notification:
    """From the columns that every select of the log has first, in their order."""
    position, originator_id, originator_version, topic, state = row[:5]
    return Notification(originator_id, originator_version, topic, state, id=position)


def as_uuid(originator_id: UUID | str) -> UUID:
    """The id as the log has it.

    Raises:
        DataError: it is a string that is no UUID.
    """
    if isinstance(originator_id, UUID):
        return originator_id
    try:
        return UUID(originator_id)
    except ValueError:
        raise DataError(f"originator_id must be a UUID: {originator_id!r}") from None
