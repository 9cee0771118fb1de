"""Reads that share one query: each caller has its own answer, read after its call."""

import asyncio
from collections.abc import Mapping
from itertools import chain

import pytest

from pulse.postgres import BatchLoader, DatabaseUnavailable


class FakeSource:
    """Answers a query with the values at its start, once the test releases the query."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.asked: list[list[str]] = []
        self.released: list[asyncio.Event] = []
        self.fails = False

    async def fetch(self, keys: list[str]) -> Mapping[str, int]:
        self.asked.append(keys)
        gate = asyncio.Event()
        self.released.append(gate)
        found = {key: self.values[key] for key in keys if key in self.values}
        await gate.wait()
        if self.fails:
            raise DatabaseUnavailable("no connection")
        return found

    def release(self) -> None:
        for gate in self.released:
            gate.set()


async def run_ready_tasks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_at_once_share_a_query_and_each_has_its_own_answer() -> None:
    source = FakeSource()
    source.values = {"a": 1, "b": 2}
    loader = BatchLoader(source.fetch)
    asking = [asyncio.ensure_future(loader.get(key)) for key in ("a", "b", "a", "c")]
    await run_ready_tasks()
    source.release()
    assert await asyncio.gather(*asking) == [1, 2, 1, None]
    assert sorted(chain(*source.asked)) == ["a", "b", "c"]


async def test_no_caller_shares_a_query_that_had_begun_before_the_call() -> None:
    source = FakeSource()
    loader = BatchLoader(source.fetch)
    early = asyncio.ensure_future(loader.get("a"))
    await run_ready_tasks()
    source.values["a"] = 1
    late = asyncio.ensure_future(loader.get("a"))
    await run_ready_tasks()
    source.release()
    assert (await early, await late) == (None, 1)


async def test_three_queries_run_at_once_and_the_other_keys_share_the_next() -> None:
    source = FakeSource()
    loader = BatchLoader(source.fetch)
    asking = []
    for number in range(20):
        asking.append(asyncio.ensure_future(loader.get(str(number))))
        await run_ready_tasks()
    assert len(source.asked) == 3
    source.release()
    await run_ready_tasks()
    source.release()
    await asyncio.gather(*asking)
    assert len(source.asked) == 4
    assert len(source.asked[3]) == 17


async def test_an_error_is_raised_to_all_callers_of_its_query_and_to_no_later_caller() -> None:
    source = FakeSource()
    source.fails = True
    loader = BatchLoader(source.fetch)
    asking = [asyncio.ensure_future(loader.get(key)) for key in ("a", "b")]
    await run_ready_tasks()
    source.release()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    source.fails, source.values = False, {"a": 1}
    again = asyncio.ensure_future(loader.get("a"))
    await run_ready_tasks()
    source.release()
    assert await again == 1


async def test_a_cancelled_caller_leaves_the_answer_to_the_others() -> None:
    source = FakeSource()
    source.values = {"a": 1}
    loader = BatchLoader(source.fetch)
    first, second = (asyncio.ensure_future(loader.get("a")) for _ in range(2))
    await run_ready_tasks()
    first.cancel()
    await run_ready_tasks()
    source.release()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 1


@pytest.mark.parametrize("turns", range(8))
async def test_a_call_at_any_turn_after_a_query_ends_is_answered(turns: int) -> None:
    source = FakeSource()
    loader = BatchLoader(source.fetch)
    asking = []
    for key in ("a", "b", "c"):
        asking.append(asyncio.ensure_future(loader.get(key)))
        await run_ready_tasks()
    source.release()
    for _ in range(turns):
        await asyncio.sleep(0)
    late = asyncio.ensure_future(loader.get("d"))
    await run_ready_tasks()
    source.release()
    await run_ready_tasks()
    source.release()
    assert await asyncio.wait_for(late, 5) is None
    assert len(await asyncio.gather(*asking)) == 3


@pytest.mark.timing
async def test_queries_that_hang_are_abandoned_and_others_take_their_place() -> None:
    source = FakeSource()
    loader = BatchLoader(source.fetch, max_seconds=0.05)
    hanging = []
    for key in ("a", "b", "c"):
        hanging.append(asyncio.ensure_future(loader.get(key)))
        await run_ready_tasks()
    waiting = asyncio.ensure_future(loader.get("d"))
    outcomes = await asyncio.gather(*hanging, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 3
    await run_ready_tasks()
    assert source.asked[3:] == [["d"]]
    source.values = {"d": 1, "e": 2}
    source.released[3].set()
    assert await waiting is None  # it was read when its query began
    after = asyncio.ensure_future(loader.get("e"))
    await run_ready_tasks()
    source.release()
    assert await after == 2
