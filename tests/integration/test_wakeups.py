"""Notifications: sent after the commit, received by other processes, and possibly lost."""

import asyncio
from itertools import pairwise

from pulse.eventstore import LOG_CHANNEL
from pulse.loop import Job, Loop
from pulse.postgres import Database, Listener, Notifier, WakeUp
from pulse.projections.projector import Projector
from tests.support.database import as_runtime
from tests.support.events import MAPPER, foreign_event, order_created
from tests.support.log import (
    fetch,
    nothing,
    running,
    running_appender,
    running_store,
    stored_log,
    terminate,
)
from tests.support.waiting import DEADLINE_SECONDS, until


class CountingWakeUp(WakeUp):
    """A wake-up that counts how often it was set."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def set(self) -> None:
        self.count += 1
        super().set()


async def test_the_commit_hook_is_called_when_others_can_see_the_row(database: Database) -> None:
    seen: list[asyncio.Task[int]] = []

    async def rows() -> int:
        return len(await stored_log(database))

    async with running_appender(
        database, on_commit=lambda: seen.append(asyncio.ensure_future(rows()))
    ) as appender:
        await appender.append([foreign_event()])
        await appender.append([foreign_event(), foreign_event()])
    first, second = await asyncio.gather(*seen)
    assert first >= 1, "its own row; other rows may have been written before it looked"
    assert second == 3


async def test_an_append_that_wrote_nothing_sends_no_notification(database: Database) -> None:
    wake_up = CountingWakeUp()
    event = foreign_event()
    async with running_appender(database, on_commit=wake_up.set) as appender:
        await appender.append([event])
        await asyncio.gather(appender.append([event]), return_exceptions=True)
    assert wake_up.count == 1


async def test_a_notification_of_a_commit_reaches_a_listener_elsewhere(
    database: Database, conninfo: str
) -> None:
    elsewhere = Database(as_runtime(conninfo), pool_size=1)
    wake_up = WakeUp()
    notifier = Notifier(database, LOG_CHANNEL)
    async with (
        running(Listener(elsewhere, LOG_CHANNEL, wake_up).run),
        running(notifier.run),
        running_appender(database, on_commit=notifier.notify) as appender,
    ):
        assert await wake_up.wait(DEADLINE_SECONDS), "it listens"
        await appender.append([foreign_event()])
        assert await wake_up.wait(DEADLINE_SECONDS)


async def test_the_channel_is_the_one_that_the_library_listens_to(database: Database) -> None:
    notifier = Notifier(database, LOG_CHANNEL)
    async with await database.connect("library") as connection, running(notifier.run):
        await connection.execute("LISTEN stored_events")
        notifier.notify()
        async for notification in connection.notifies(timeout=DEADLINE_SECONDS, stop_after=1):
            assert notification.channel == "stored_events"
            return
    raise AssertionError("no notification came")


async def test_polling_compensates_for_a_lost_notification(database: Database) -> None:
    loop = Loop(Projector(database, MAPPER), wake_up=WakeUp(), poll_seconds=0.02)
    created = order_created()

    async def projected() -> bool:
        return bool(await fetch(database, "SELECT order_id FROM order_queue"))

    async with running_store(database, on_commit=nothing) as store, running(loop.run):
        await store.append(created)
        await until(projected, "the order is in the queue")


async def test_a_constantly_notified_loop_pauses_between_its_steps() -> None:
    wake_up, clock = WakeUp(), asyncio.get_running_loop().time
    steps: list[float] = []

    class Busy(Job[None]):
        name = "busy"
        poll_seconds = 60.0
        min_pause_seconds = 0.02

        async def run_once(self) -> None:
            steps.append(clock())
            wake_up.set()

    loop = Loop(Busy(), wake_up=wake_up)

    async def went_on() -> bool:
        return len(steps) > 3

    async with running(loop.run):
        await until(went_on, "it is woken each time")
    assert all(later - earlier > 0.015 for earlier, later in pairwise(steps))


async def test_a_listener_whose_backend_was_terminated_reconnects_and_wakes_once(
    database: Database,
) -> None:
    wake_up = CountingWakeUp()
    async with running(Listener(database, LOG_CHANNEL, wake_up).run):
        assert await wake_up.wait(DEADLINE_SECONDS)
        assert await terminate(database, "listener") == 1
        assert await wake_up.wait(DEADLINE_SECONDS), "hints may have been lost meanwhile"
        assert wake_up.count == 2
        await fetch(database, "NOTIFY stored_events")
        assert await wake_up.wait(DEADLINE_SECONDS), "it listens again"
        assert wake_up.count == 3


async def test_a_notifier_survives_an_outage_of_postgres(database: Database, conninfo: str) -> None:
    wake_up = WakeUp()
    notifier = Notifier(database, LOG_CHANNEL)
    async with (
        running(Listener(Database(as_runtime(conninfo), pool_size=1), LOG_CHANNEL, wake_up).run),
        running(notifier.run) as notifying,
    ):
        assert await wake_up.wait(DEADLINE_SECONDS)
        await terminate(database, "pool")

        async def heard() -> bool:
            notifier.notify()
            return await wake_up.wait(0.05)

        await until(heard, "a later notification arrives")
        assert not notifying.done()


async def test_many_hints_before_a_wait_wake_it_once() -> None:
    wake_up = WakeUp()
    for _ in range(5):
        wake_up.set()
    assert await wake_up.wait(DEADLINE_SECONDS)
    assert not await wake_up.wait(0)
