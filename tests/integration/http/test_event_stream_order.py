"""Many writers, many readers, lost notifications: each reader has every event once, in order."""

import asyncio
import random
from collections.abc import Iterator
from typing import Final, NamedTuple

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.event_feed import Partition
from pulse.application.event_view import TOPICS
from pulse.eventstore import LOG_CHANNEL, Appender
from pulse.postgres import Database, Notifier
from pulse.process.apps import api_app
from pulse.settings import Settings
from tests.support.event_streams import STREAM, Message, served, stream_of
from tests.support.events import foreign_event, order_created, splitting_failed, stored
from tests.support.log import fetch, running, running_appender, terminate
from tests.support.processes import PLAIN_HTTP, url_of
from tests.support.waiting import until

WRITERS, EVENTS = 16, 200
READERS: Final = 20
MAX_EVENTS_BEFORE_A_DISCONNECT: Final = 450


class Selection(NamedTuple):
    """What a reader asks for, and whether it disconnects and resumes."""

    type: str | None = None
    partition: tuple[int, int] | None = None
    disconnects: bool = False

    @property
    def query(self) -> dict[str, object]:
        query: dict[str, object] = {}
        if self.type is not None:
            query["type"] = self.type
        if self.partition is not None:
            query["partition"] = "{}/{}".format(*self.partition)
        return query


SELECTIONS: Final = (
    *(Selection() for _ in range(5)),
    *(Selection(disconnects=True) for _ in range(5)),
    *(Selection(partition=(number, 3)) for number in range(3)),
    *(Selection(partition=(number, 2), disconnects=True) for number in range(2)),
    Selection(type="OrderCreated"),
    Selection(type="SplittingFailed"),
    Selection(type="SplittingFailed", disconnects=True),
    Selection(type="OrderCreated", partition=(1, 5), disconnects=True),
    Selection(partition=(6, 7)),
)


def events_of_a_writer(count: int) -> Iterator[StoredEvent]:
    while True:
        created = order_created()
        yield from (*stored([created]), *stored([splitting_failed(created)]), foreign_event())
        count -= 3
        if count <= 0:
            return


class Reader:
    """Reads until it is cancelled."""

    def __init__(self, client: httpx.AsyncClient, selection: Selection, seed: int) -> None:
        self.seen: list[int] = []
        self.resumed = 0
        self._client = client
        self._selection = selection
        self._random = random.Random(seed)

    async def run(self) -> None:
        place = 0
        while True:
            left = self._random.randint(1, MAX_EVENTS_BEFORE_A_DISCONNECT)
            async with stream_of(self._client, STREAM, place, **self._selection.query) as messages:
                async for message in messages:
                    place = message.id
                    self._take(message)
                    left -= 1
                    if self._selection.disconnects and left == 0:
                        break
            self.resumed += 1

    def _take(self, message: Message) -> None:
        if not message.kind:
            assert message.id == message.data["position"]
            self.seen.append(message.id)


async def append_singly(appender: Appender, events: list[StoredEvent]) -> None:
    for event in events:
        await appender.append([event])


async def expected(database: Database, selection: Selection) -> list[int]:
    rows = await fetch(
        database, "SELECT notification_id, originator_id, topic FROM stored_events ORDER BY 1"
    )
    partition = Partition(*(selection.partition or (0, 1)))
    topic = selection.type and TOPICS[selection.type]
    return [
        position
        for position, order_id, found in rows
        if partition.has(order_id) and topic in {None, found}
    ]


@pytest.mark.timeout(300)
async def test_each_reader_has_every_event_once_and_in_order(
    database: Database, conninfo: str
) -> None:
    assert len(SELECTIONS) == READERS
    notifier = Notifier(database, LOG_CHANNEL)
    notifying = True

    def notify() -> None:
        if notifying:
            notifier.notify()

    settings = Settings(database_url=url_of(conninfo), poll_interval_seconds=0.2)
    writes = [list(events_of_a_writer(EVENTS))[:EVENTS] for _ in range(WRITERS)]
    async with (
        served(api_app(settings)) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=PLAIN_HTTP) as client,
        running(notifier.run),
        running_appender(database, on_commit=notify) as one,
        running_appender(database, on_commit=notify) as other,
    ):
        readers = [Reader(client, each, seed) for seed, each in enumerate(SELECTIONS)]
        reading = [asyncio.create_task(reader.run()) for reader in readers]
        for third in range(3):
            notifying = third != 1
            if third == 1:
                assert await terminate(database, "listener") == 1
            first, last = third * EVENTS // 3, (third + 1) * EVENTS // 3
            await asyncio.gather(
                *(
                    append_singly((one, other)[number % 2], events[first:last])
                    for number, events in enumerate(writes)
                )
            )
        wanted = [await expected(database, selection) for selection in SELECTIONS]

        async def all_have_read() -> bool:
            return all(
                task.done() or reader.seen[-1:] == last[-1:]
                for task, reader, last in zip(reading, readers, wanted, strict=True)
            )

        await until(all_have_read, "every reader has the last event of its selection")
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
    assert all(task.cancelled() for task in reading)
    assert [reader.seen for reader in readers] == wanted
    assert sum(reader.resumed for reader in readers) >= 10
    assert len(wanted[0]) == WRITERS * EVENTS
