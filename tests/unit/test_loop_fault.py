"""A loop says so when it has done no work for long, and not before."""

import asyncio
from typing import Any

import pytest

from pulse.errors import PulseError
from pulse.workers import NOW, Loop, loop
from tests.support.log import running
from tests.support.waiting import until


def loop_of(step: Any) -> Loop[Any]:
    return Loop("testing", step, lambda _: NOW, poll_seconds=60)


async def until_fault(tested: Loop[Any], words: str | None) -> None:
    async def said() -> bool:
        return tested.fault is None if words is None else words in (tested.fault or "")

    await until(said, f"the loop says {words}")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PulseError("the table is locked"), "has failed for 0 s: the table is locked"),
        (ZeroDivisionError("a bug"), "has failed for 0 s: crashed with ZeroDivisionError"),
    ],
)
async def test_a_loop_whose_steps_all_fail_says_why_and_is_well_after_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    monkeypatch.setattr(loop, "MAX_FAILING_SECONDS", 0.01)
    failing = True

    async def step() -> None:
        await asyncio.sleep(0)
        if failing:
            raise error

    tested = loop_of(step)
    async with running(tested.run):
        await until_fault(tested, words)
        failing = False
        await until_fault(tested, None)


async def test_a_loop_that_fails_now_and_then_is_well() -> None:
    failed = asyncio.Event()

    async def step() -> None:
        await asyncio.sleep(0)
        if failed.is_set():
            return
        failed.set()
        raise PulseError("once")

    tested = loop_of(step)
    async with running(tested.run):
        await failed.wait()
        assert tested.fault is None


async def test_a_step_that_never_ends_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    began = asyncio.Event()

    async def step() -> None:
        began.set()
        await asyncio.Event().wait()

    tested = loop_of(step)
    async with running(tested.run):
        await began.wait()
        assert tested.fault is None
        monkeypatch.setattr(loop, "MAX_STEP_SECONDS", 0.01)
        await until_fault(tested, "the testing loop has hung for 0 s")


async def test_a_loop_that_waits_for_work_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_STEP_SECONDS", -1.0)
    rested = asyncio.Event()

    async def step() -> None:
        rested.set()

    tested = Loop[Any]("testing", step, lambda _: None, poll_seconds=60)
    async with running(tested.run):
        await rested.wait()
        await until_fault(tested, None)
