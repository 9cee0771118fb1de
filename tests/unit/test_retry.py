"""The retry policy: pauses grow to a cap, are drawn evenly below it, and end at the deadline."""

import asyncio

import pytest

from pulse.retry import Retry, RetryPolicy

POLICY = RetryPolicy(first_seconds=0.1, max_seconds=0.5)


async def test_the_bound_doubles_up_to_the_cap_and_begins_again_after_a_success() -> None:
    retry = Retry(POLICY, jitter=lambda: 1.0)
    assert [retry.next_pause() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    retry.reset()
    assert retry.next_pause() == 0.1


async def test_a_pause_is_the_drawn_part_of_its_bound() -> None:
    parts = iter((0.0, 0.5, 0.25))
    retry = Retry(POLICY, jitter=lambda: next(parts))
    assert [retry.next_pause() for _ in range(3)] == [0.0, 0.1, 0.1]


async def test_without_an_injected_jitter_pauses_vary_within_the_bound() -> None:
    pauses = {Retry(POLICY).next_pause() for _ in range(20)}
    assert len(pauses) > 1
    assert all(pause is not None and 0 <= pause <= 0.1 for pause in pauses)


async def test_no_pause_ends_after_the_deadline() -> None:
    now = 100.0
    policy = RetryPolicy(first_seconds=1.0, max_seconds=1.0, deadline_seconds=2.5)
    retry = Retry(policy, clock=lambda: now, jitter=lambda: 1.0)
    assert retry.next_pause() == 1.0
    now = 101.4
    assert retry.next_pause() == 1.0
    now = 101.6
    assert retry.next_pause() is None
    retry.reset()
    assert retry.next_pause() == 1.0


@pytest.mark.timing
async def test_waiting_pauses_and_says_when_to_give_up() -> None:
    started_at = asyncio.get_running_loop().time()
    policy = RetryPolicy(first_seconds=0.01, max_seconds=0.01, deadline_seconds=0.015)
    retry = Retry(policy, jitter=lambda: 1.0)
    assert await retry.wait()
    assert asyncio.get_running_loop().time() - started_at >= 0.009
    assert not await retry.wait()


async def test_a_pause_lasts_at_least_what_the_other_side_asked_for() -> None:
    policy = RetryPolicy(first_seconds=0.1, max_seconds=0.5, deadline_seconds=10.0)
    retry = Retry(policy, jitter=lambda: 1.0)
    assert retry.next_pause(at_least_seconds=7.0) == 7.0
    assert retry.next_pause(at_least_seconds=0.1) == 0.2
    assert retry.next_pause(at_least_seconds=11.0) is None
