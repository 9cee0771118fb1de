"""A stored event as it is read from the log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """A row of the log: `position` is its place there, `recorded_at` the database's clock."""

    position: int
    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes
    recorded_at: datetime

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "RecordedEvent":
        """From the columns every select of the log has, in their order.

        The library's table allows NULL as topic and state; both are read as empty, so that such a
        row is a foreign event, or one that cannot be read, and fails no reader.
        """
        position, originator_id, originator_version, topic, state, recorded_at = row
        return cls(
            position, originator_id, originator_version, topic or "", state or b"", recorded_at
        )
