"""The `eventsourcing` library's recorder interface over Pulse's event store, for its tests."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import cycle
from typing import Any
from uuid import UUID

from anyio.from_thread import BlockingPortal, start_blocking_portal
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    StoredEvent,
    Subscription,
)

from pulse.eventstore import LOG_CHANNEL, AppendLimits, EventStore, VersionTaken
from pulse.postgres import Database, Notifier
from tests.support.log import LONG_DEADLINES, read_log, running, running_store, stored_event

_MAX_EVENTS = 100_000


class LibraryRecorder(ApplicationRecorder):
    """Takes synchronous calls from any thread; the stores' event loop runs in a separate thread.

    With several stores, as in several processes, appends rotate over them.
    """

    def __init__(self, portal: BlockingPortal, stores: Sequence[EventStore]) -> None:
        self._portal = portal
        self._store = stores[0]
        self._appending = cycle(stores)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **_: Any,
    ) -> Sequence[int] | None:
        try:
            return list(self._portal.call(next(self._appending).append_stored, stored_events))
        except VersionTaken as error:
            raise IntegrityError(str(error)) from error

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        stream = self._portal.call(self._store.read_stream, UUID(str(originator_id)))
        found = [
            stored_event(record)
            for record in stream
            if (gt is None or record.originator_version > gt)
            and (lte is None or record.originator_version <= lte)
        ]
        return (found[::-1] if desc else found)[:limit]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = (start or 0) - (1 if start and inclusive_of_start else 0)
        most = _MAX_EVENTS if topics else limit
        records = self._portal.call(lambda: read_log(self._store, after=after, limit=most))
        return [
            Notification(r.originator_id, r.originator_version, r.topic, r.state, r.position)
            for r in records
            if (stop is None or r.position <= stop) and (not topics or r.topic in topics)
        ][:limit]

    def max_notification_id(self) -> int | None:
        return self._portal.call(self._store.end) or None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        raise NotImplementedError("subscriptions are tested with the library's own recorder")


@contextmanager
def library_recorder(
    *databases: Database, limits: AppendLimits = LONG_DEADLINES
) -> Iterator[LibraryRecorder]:
    """A recorder over one store per database; the stores append and notify as in production."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        stores = [
            stack.enter_context(portal.wrap_async_context_manager(_running(database, limits)))
            for database in databases
        ]
        yield LibraryRecorder(portal, stores)


@asynccontextmanager
async def _running(database: Database, limits: AppendLimits) -> AsyncIterator[EventStore]:
    await database.open()
    notifier = Notifier(database, LOG_CHANNEL)
    async with (
        running(notifier.run),
        running_store(database, on_commit=notifier.notify, limits=limits) as store,
    ):
        yield store
    await database.close()
