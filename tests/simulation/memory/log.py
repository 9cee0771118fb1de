"""The in-memory log: unique (originator_id, originator_version), ids from a sequence."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from psycopg import DataError

from pulse.eventstore import RecordedEvent

T = TypeVar("T")
Key = tuple[UUID, int]
Columns = tuple[Sequence[UUID], Sequence[int], Sequence[str], Sequence[bytes]]


class MemoryLog:
    """Simulates `stored_events`. A conflict uses up an id, as with a sequence.

    `on_append` is called with each event when it is appended.
    """

    def __init__(self, on_append: Callable[[RecordedEvent], None] | None = None) -> None:
        self.rows: list[RecordedEvent] = []
        self.by_key: dict[Key, RecordedEvent] = {}
        self.streams: dict[UUID, list[RecordedEvent]] = {}
        self._last_id = 0
        self._on_append = on_append

    @property
    def end(self) -> int:
        """The position of the last event; 0 for an empty log."""
        return self.rows[-1].position if self.rows else 0

    def append(self, columns: Columns, now: datetime) -> list[RecordedEvent]:
        """Append each event whose version is free; returns the appended events."""
        return [
            self._add(record)
            for record in self._records(columns, now)
            if not self.is_taken((record.originator_id, record.originator_version))
        ]

    def append_all(self, columns: Columns, now: datetime) -> list[RecordedEvent] | None:
        """Append all events, or none and return None if a version is taken."""
        records = list(self._records(columns, now))
        keys = [(record.originator_id, record.originator_version) for record in records]
        if len(set(keys)) < len(keys) or any(map(self.is_taken, keys)):
            return None
        return [self._add(record) for record in records]

    def is_taken(self, key: Key) -> bool:
        """Whether an event with this id and version exists."""
        return key in self.by_key

    def after(self, position: int, limit: int) -> list[RecordedEvent]:
        """The visible events after a position, in the order of ids."""
        first = len(self.rows)
        while first and self.rows[first - 1].position > position:
            first -= 1
        return self.rows[first : first + limit]

    def skip_ids(self, count: int) -> None:
        """Leave a gap, as a crash of the server does."""
        self._last_id += count

    @property
    def next_id(self) -> int:
        """The id of the next event."""
        return self._last_id + 1

    def with_ids_from(self, first_id: int, action: Callable[[], T]) -> T:
        """Run an action with ids that were skipped before."""
        last_id, self._last_id = self._last_id, first_id - 1
        try:
            return action()
        finally:
            self._last_id = last_id

    def _records(self, columns: Columns, now: datetime) -> Iterator[RecordedEvent]:
        if any("\x00" in topic for topic in columns[2]):
            raise DataError("a topic cannot contain NUL")
        for originator_id, version, topic, state in zip(*columns, strict=True):
            self._last_id += 1
            yield RecordedEvent(self._last_id, originator_id, version, topic, state, now)

    def _add(self, record: RecordedEvent) -> RecordedEvent:
        self.rows.append(record)
        self.by_key[record.originator_id, record.originator_version] = record
        stream = self.streams.setdefault(record.originator_id, [])
        stream.append(record)
        if len(stream) > 1 and stream[-2].originator_version > record.originator_version:
            stream.sort(key=lambda other: other.originator_version)
        if self._on_append is not None:
            self._on_append(record)
        return record
