"""The event feed: reads the log once per process, and all streams share the latest events.

A stream far behind the end of the log reads pages itself, few streams at a time.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Literal
from uuid import UUID

import msgspec

from pulse.application.event_view import TOPICS, EventType, EventView, event_view
from pulse.errors import PulseError
from pulse.eventstore import EventStore, LogPage, PositionBeyondLog, RecordedEvent
from pulse.loop import NOW, Job, WakeUp

MAX_PARTITIONS: Final = 1024
_MAX_CATCH_UP_READS: Final = 2
"""The maximum number of page reads at a time, so that other calls get connections too."""
_MIN_PAGE_EVENTS: Final = 16
_MAX_PAGE_EVENTS: Final = 1000
_MAX_BATCH_BYTES: Final = 64 * 1024
_MAX_BUFFER_BYTES: Final = 8 * 1024 * 1024

EndReason = Literal["SHUTDOWN", "TOO_SLOW", "LOG_CHANGED", "DISCONNECTED"]


class TooManyStreams(PulseError):
    """This process has its maximum of streams."""

    def __init__(self, max_streams: int) -> None:
        super().__init__(
            f"this process has its maximum of {max_streams} event streams and exports: retry, or "
            "read pages"
        )


class Partition(msgspec.Struct, frozen=True):
    """The orders whose id as an integer modulo `count` is `number`, and all events of no order."""

    number: int
    count: int

    def has(self, order_id: UUID | None) -> bool:
        """Whether events of this order belong to the partition; None is no order."""
        return order_id is None or order_id.int % self.count == self.number


class FeedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Selects the events of a stream: those after a position, of one type, of one partition."""

    after: int = 0
    type: EventType | None = None
    partition: Partition | None = None


class FeedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits and times of the streams of one process.

    A stream ends if its client accepts nothing for `stall_seconds`.
    """

    streams: int = 100
    heartbeat_seconds: float = 15.0
    stall_seconds: float = 20.0


class _Message(msgspec.Struct, frozen=True, gc=False):
    """An event as it is sent, and the fields that filters compare."""

    position: int
    order_id: UUID | None
    topic: str
    content: bytes


class EventReader:
    """Reads the log for one stream.

    `position` is how far it has read in the log `log_id`, and `sent_position` how far everything
    was sent. `ended` is why the stream has ended, None until then.
    """

    def __init__(self, feed: "EventFeed", query: FeedQuery) -> None:
        self.position = self.sent_position = query.after
        self.log_id: UUID | None = None
        self.ended: EndReason | None = None
        self._feed = feed
        self._partition = query.partition
        self._topic = None if query.type is None else TOPICS[query.type]
        self._page_events = _MIN_PAGE_EVENTS
        self._wake_up = WakeUp()

    async def begin(self) -> None:
        """Read the identity of the log.

        Raises:
            PositionBeyondLog: the log ends before the position.
            DatabaseUnavailable: the log cannot be read.
        """
        self.log_id = (await self._feed.read_page(self.position, 1, None)).log_id

    async def read(self) -> bytes | None:
        """Read the next events: empty if the filters exclude all; None at the end of the log.

        Raises:
            DatabaseUnavailable: the log cannot be read now.
        """
        messages = self._feed.messages_after(self.position, self.log_id)
        if messages is None:
            return await self._read_page()
        if not messages and self.position >= self._feed.position:
            return None
        chosen, last = self._choose(messages)
        self.position = last if last is not None else max(self.position, self._feed.position)
        return b"".join(chosen)

    async def wait(self, timeout_seconds: float) -> None:
        """Wait for new events, for the end of the stream, or for the timeout."""
        await self._wake_up.wait(timeout_seconds)

    def wake(self) -> None:
        """Let `wait` return."""
        self._wake_up.set()

    def end(self, reason: EndReason) -> None:
        """End the stream; the first reason counts."""
        self.ended = self.ended or reason
        self.wake()

    async def _read_page(self) -> bytes | None:
        try:
            page = await self._feed.read_page(self.position, self._page_events, self._topic)
        except PositionBeyondLog:
            self.end("LOG_CHANGED")
            return None
        if page.log_id != self.log_id:
            self.end("LOG_CHANGED")
            return None
        if page.next_after == self.position:
            return None
        chosen, last = self._choose(map(self._feed.message_of, page.records))
        read = len(page.records)
        if last is not None:
            read = [record.position for record in page.records].index(last) + 1
        self.position = page.next_after if last is None else last
        self._page_events = max(_MIN_PAGE_EVENTS, min(2 * read, _MAX_PAGE_EVENTS))
        return b"".join(chosen)

    def _choose(self, messages: Iterable[_Message]) -> tuple[list[bytes], int | None]:
        """The contents of the messages that the filters select, up to the size of a batch.

        Also returns the position of the last message examined; None if all were examined.
        """
        chosen: list[bytes] = []
        size = last_position = 0
        for message in messages:
            if size >= _MAX_BATCH_BYTES:
                return chosen, last_position
            last_position = message.position
            if self._topic not in {None, message.topic}:
                continue
            if self._partition is None or self._partition.has(message.order_id):
                chosen.append(message.content)
                size += len(message.content)
        return chosen, None


class EventFeed(Job[int]):
    """Reads the log once for all streams of the process, while a stream is open.

    It keeps the latest events, each encoded once by `render`. `require_served` raises
    DatabaseUnavailable if this process may not use the database.
    """

    name = "event-feed"
    poll_seconds = 5.0
    min_pause_seconds = 0.003

    def __init__(
        self,
        store: EventStore,
        render: Callable[[EventView], bytes],
        *,
        limits: FeedLimits | None = None,
        require_served: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = limits or FeedLimits()
        self.wake_up = WakeUp()
        self.position = 0
        """How far the feed has read the log."""
        self._store = store
        self._render = render
        self._require_served = require_served
        self._readers: set[EventReader] = set()
        self.stopped = False
        self._exports = 0
        self.admission = asyncio.Semaphore(_MAX_CATCH_UP_READS)
        """Admits the reads of pages, for streams and exports together."""
        self._log_id: UUID | None = None
        self._start = 0
        """The messages are all events after this position, up to `position`."""
        self._messages: list[_Message] = []
        self._positions: list[int] = []
        self._buffered_bytes = 0

    def hint(self) -> None:
        """Wake the feed, since there may be new events. Does nothing without streams."""
        if self._readers:
            self.wake_up.set()

    def stop(self) -> None:
        """End all streams, since the process stops. A stream that begins later ends at once."""
        self.stopped = True
        for reader in self._readers:
            reader.end("SHUTDOWN")

    @asynccontextmanager
    async def reader(self, query: FeedQuery) -> AsyncIterator[EventReader]:
        """Begin a stream; it is counted until exit.

        Raises:
            TooManyStreams: the process has its maximum of streams.
            PositionBeyondLog: the log ends before the position.
            DatabaseUnavailable: the log cannot be read.
        """
        self._require_capacity()
        reader = EventReader(self, query)
        self._readers.add(reader)
        try:
            await reader.begin()
            if self.stopped:
                reader.end("SHUTDOWN")
            self.wake_up.set()
            yield reader
        finally:
            self._readers.discard(reader)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count an export of the log as a stream until exit.

        Raises:
            TooManyStreams: the process has its maximum of streams.
        """
        self._require_capacity()
        self._exports += 1
        try:
            yield
        finally:
            self._exports -= 1

    def _require_capacity(self) -> None:
        if len(self._readers) + self._exports >= self.limits.streams:
            raise TooManyStreams(self.limits.streams)

    async def run_once(self) -> int:
        """Read the next page of the log; returns the number of its events.

        Raises:
            DatabaseUnavailable: the log cannot be read now.
        """
        if not self._readers:
            self._forget()
            return 0
        began = self._log_id is None
        if began:
            self._start = self.position = await self._store.end()
        try:
            page = await self._store.read_log_page(after=self.position, limit=_MAX_PAGE_EVENTS)
        except PositionBeyondLog as error:
            self._end_readers([r for r in self._readers if r.position > error.end])
            return 0
        if self._log_id not in {None, page.log_id}:
            self._end_readers([r for r in self._readers if r.log_id not in {None, page.log_id}])
            return 0
        self._log_id = page.log_id
        self._keep(page)
        if began or page.records:
            for reader in self._readers:
                reader.wake()
        return len(page.records)

    def pause_after(self, result: int) -> float | None:
        """NOW after a full page, since the log may have more events."""
        return NOW if result == _MAX_PAGE_EVENTS else None

    def messages_after(self, position: int, log_id: UUID | None) -> Sequence[_Message] | None:
        """The messages after a position of this log; None if the feed does not have them all."""
        if self._log_id is None or log_id != self._log_id or position < self._start:
            return None
        return self._messages[bisect_right(self._positions, position) :]

    async def read_page(self, after: int, limit: int, topic: str | None) -> LogPage:
        """A page of the log for one stream.

        Raises:
            PositionBeyondLog: the log ends before the position.
            DatabaseUnavailable: the log cannot be read now.
        """
        self._require_served()
        async with self.admission:
            return await self._store.read_log_page(after=after, limit=limit, topic=topic)

    def message_of(self, record: RecordedEvent) -> _Message:
        """The event as it is sent."""
        view = event_view(record, self._store.mapper)
        return _Message(record.position, view.order_id, record.topic, self._render(view))

    def _keep(self, page: LogPage) -> None:
        """Append the page to the buffer, and drop the oldest messages beyond its size."""
        for record in page.records:
            message = self.message_of(record)
            self._messages.append(message)
            self._positions.append(message.position)
            self._buffered_bytes += len(message.content)
        self.position = page.next_after
        dropped = 0
        while self._buffered_bytes > _MAX_BUFFER_BYTES:
            self._start = self._positions[dropped]
            self._buffered_bytes -= len(self._messages[dropped].content)
            dropped += 1
        del self._messages[:dropped], self._positions[:dropped]

    def _end_readers(self, of_another_log: Sequence[EventReader]) -> None:
        """End the streams of a log that was replaced, and begin again."""
        self._forget()
        for reader in of_another_log:
            reader.end("LOG_CHANGED")
        self.wake_up.set()

    def _forget(self) -> None:
        self._log_id = None
        self._messages, self._positions, self._buffered_bytes = [], [], 0
