"""The list of slices by time: bounds, ties, and exact pages while orders are split."""

import random
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import msgspec
import pytest

from pulse.domain import OrderCreated, Slice, SlicesScheduled
from pulse.postgres import Database
from pulse.projections.lists import (
    MAX_SLICES_PER_PAGE,
    ScheduledSlice,
    SlicePage,
    SliceQuery,
    read_slices,
)
from pulse.projections.parking import ParkedOrders
from tests.support.events import MAPPER, order_created, slices_scheduled, stored
from tests.support.log import running_appender
from tests.support.read_model import project

OPENING = datetime(2026, 1, 5, 3, 45, tzinfo=UTC)


def at_times(created: OrderCreated, *minutes: int) -> SlicesScheduled:
    """Its slices at these minutes after the opening, for ties that chance does not make."""
    slices = tuple(
        Slice(sequence_number=n, quantity=n, scheduled_at=OPENING + timedelta(minutes=minute))
        for n, minute in enumerate(minutes, start=1)
    )
    return msgspec.structs.replace(slices_scheduled(created), slices=slices)


async def split(database: Database, *outcomes: tuple[OrderCreated, SlicesScheduled]) -> None:
    async with running_appender(database) as appender:
        for created, scheduled in outcomes:
            await appender.append(stored([created, scheduled]))
    await project(database)


def a_split(**changes: Any) -> tuple[OrderCreated, SlicesScheduled]:
    created = order_created(**changes)
    return created, slices_scheduled(created)


async def read_all(database: Database, limit: int, **bounds: Any) -> list[ScheduledSlice]:
    slices: list[ScheduledSlice] = []
    after = None
    while True:
        page = await read_slices(database, SliceQuery(limit=limit, after=after, **bounds))
        slices += page.slices
        after = page.next_after
        if after is None:
            return slices
        assert len(page.slices) == limit
        assert len(slices) < 5000, "the pages have no end"


async def test_no_slices_are_an_empty_last_page(database: Database) -> None:
    assert await read_slices(database, SliceQuery(limit=1)) == SlicePage((), None)


async def test_each_slice_is_listed_with_its_orders_instrument_and_side(
    database: Database,
) -> None:
    created, scheduled = a_split(instrument="BSE:500325", side="SELL")
    await split(database, (created, scheduled))
    assert await read_all(database, 1000) == [
        ScheduledSlice(
            order_id=created.originator_id,
            instrument="BSE:500325",
            side="SELL",
            sequence_number=s.sequence_number,
            quantity=s.quantity,
            scheduled_at=s.scheduled_at,
            state="SCHEDULED",
        )
        for s in scheduled.slices
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, MAX_SLICES_PER_PAGE])
async def test_slices_with_the_same_time_are_listed_in_the_order_of_their_orders(
    database: Database, limit: int
) -> None:
    orders = [order_created() for _ in range(6)]
    await split(database, *((order, at_times(order, 0, 5, 9)) for order in orders))
    listed = await read_all(database, limit)
    ids = [order.originator_id for order in orders]
    assert [(s.sequence_number, s.order_id) for s in listed] == list(product((1, 2, 3), ids))


async def test_a_schedule_with_two_slices_at_one_time_parks_only_its_order(
    database: Database,
) -> None:
    twice, sound = order_created(), order_created()
    await split(database, (twice, at_times(twice, 0, 5, 5)), (sound, at_times(sound, 0, 5)))
    assert {s.order_id for s in await read_all(database, 1000)} == {sound.originator_id}
    (parked,) = await ParkedOrders(database, MAPPER).all()
    assert parked.order_id == twice.originator_id


async def test_from_is_inclusive_and_before_is_exclusive(database: Database) -> None:
    order = order_created()
    await split(database, (order, at_times(order, 0, 1, 2, 3)))

    async def minutes(begin: int | None, end: int | None) -> list[int]:
        bounds = {
            "scheduled_from": None if begin is None else OPENING + timedelta(minutes=begin),
            "scheduled_before": None if end is None else OPENING + timedelta(minutes=end),
        }
        for limit in (1, 1000):
            found = await read_all(database, limit, **bounds)
        return [round((s.scheduled_at - OPENING).total_seconds() / 60) for s in found]

    assert await minutes(None, None) == [0, 1, 2, 3]
    assert await minutes(1, None) == [1, 2, 3]
    assert await minutes(None, 1) == [0]
    assert await minutes(1, 3) == [1, 2]
    assert await minutes(2, 2) == []
    assert await minutes(4, None) == []
    microsecond = timedelta(microseconds=1)
    assert len(await read_all(database, 1000, scheduled_from=OPENING + microsecond)) == 3
    assert len(await read_all(database, 1000, scheduled_before=OPENING + microsecond)) == 1


async def test_a_page_that_ends_with_the_list_has_no_next(database: Database) -> None:
    order = order_created()
    await split(database, (order, at_times(order, 0, 1, 2)))
    assert (await read_slices(database, SliceQuery(limit=3))).next_after is None
    page = await read_slices(database, SliceQuery(limit=2))
    assert page.next_after is not None
    before = OPENING + timedelta(minutes=2)
    page = await read_slices(database, SliceQuery(limit=2, scheduled_before=before))
    assert page.next_after is None


@pytest.mark.parametrize("limit", [0, MAX_SLICES_PER_PAGE + 1])
async def test_a_page_without_a_valid_limit_is_refused(database: Database, limit: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        await read_slices(database, SliceQuery(limit=limit))


@pytest.mark.parametrize("seed", range(4))
async def test_pages_neither_skip_nor_repeat_while_orders_are_split(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    positions: dict[UUID, int] = {}

    def some() -> tuple[OrderCreated, SlicesScheduled]:
        order = order_created()
        positions[order.originator_id] = len(positions)
        return order, at_times(order, *sorted(chance.sample(range(12), k=3)))

    def place(s: ScheduledSlice) -> tuple[datetime, int]:
        return s.scheduled_at, positions[s.order_id]

    await split(database, *(some() for _ in range(12)))
    at_first = await read_all(database, 1000)
    seen: list[ScheduledSlice] = []
    after = None
    while True:
        query = SliceQuery(limit=chance.randint(1, 6), after=after)
        page = await read_slices(database, query)
        seen += page.slices
        after = page.next_after
        if after is None:
            break
        assert len(seen) < 500, "the pages have no end"
        if len(seen) < 60:
            await split(database, some())
    assert [place(s) for s in seen] == sorted(place(s) for s in seen)
    assert len(set(map(place, seen))) == len(seen)
    assert [s for s in seen if s in at_first] == at_first
