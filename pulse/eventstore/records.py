"""A stored event as read from the log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

BEFORE_LOG: Final = -(2**63)
AFTER_LOG: Final = 2**63 - 1
"""Positions before and after every event, including those with ids set by hand."""


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """A row of the log. `position` is its notification_id; `recorded_at` is the database's time."""

    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes
    recorded_at: datetime

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "RecordedEvent":
        """Create from the columns of `recorded_events()`, in their order.

        The library's table allows NULL in topic and state. NULL is read as empty, so that such a
        row is foreign or unreadable and does not crash readers.
        """
        position, originator_id, originator_version, topic, state, recorded_at = row
        return cls(
            position, originator_id, originator_version, topic or "", state or b"", recorded_at
        )
