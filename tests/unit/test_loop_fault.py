"""A loop reports a fault after it has done no work for long, and not before."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from pulse import loop
from pulse.errors import PulseError
from pulse.loop import NOW, FaultLog, Job, Loop
from tests.support.log import running
from tests.support.waiting import until


class StepJob(Job[None]):
    name = "testing"
    poll_seconds = 60.0

    def __init__(self, step: Callable[[], Awaitable[None]], pause: float | None = NOW) -> None:
        self._step = step
        self._pause = pause

    async def run_once(self) -> None:
        await self._step()

    def pause_after(self, _: None) -> float | None:
        return self._pause


def loop_of(step: Callable[[], Awaitable[None]]) -> Loop:
    return Loop(StepJob(step))


async def until_well(tested: Loop) -> None:
    async def well() -> bool:
        return tested.fault is None

    await until(well, "the loop has no fault")


async def until_fault(tested: Loop, words: str) -> None:
    async def said() -> bool:
        return re.search(words, tested.fault or "") is not None

    await until(said, f"the loop says {words}")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PulseError("the table is locked"), r"has failed for \d+ s: the table is locked"),
        (ZeroDivisionError("a bug"), r"has failed for \d+ s: crashed with ZeroDivisionError"),
    ],
)
async def test_a_loop_whose_steps_all_fail_has_a_fault_until_a_step_succeeds(
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
        await until_well(tested)


async def test_a_loop_that_fails_now_and_then_has_no_fault() -> None:
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
        await until_fault(tested, r"the testing loop has hung for \d+ s")


async def test_a_loop_that_waits_for_work_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_STEP_SECONDS", -1.0)
    rested = asyncio.Event()

    async def step() -> None:
        rested.set()

    tested = Loop(StepJob(step, None))
    async with running(tested.run):
        await rested.wait()
        await until_well(tested)


def test_a_fault_that_several_loops_meet_is_logged_once_and_so_is_its_end() -> None:
    faults = FaultLog()
    with capture_logs() as logged:
        for loop_name, fault in [
            ("clock", "read-only"),
            ("audit", "read-only"),
            ("clock", "read-only"),
            ("audit", None),
            ("clock", None),
            ("clock", None),
            ("audit", "a bug"),
            ("audit", "another bug"),
        ]:
            faults.report(loop_name, fault)
    assert [
        (line["event"], line["loop"], line["error"])
        for line in logged
        if line["log_level"] != "debug"
    ] == [
        ("loop.step_failed", "clock", "read-only"),
        ("loop.recovered", "clock", "read-only"),
        ("loop.step_failed", "audit", "a bug"),
        ("loop.recovered", "audit", "a bug"),
        ("loop.step_failed", "audit", "another bug"),
    ]
