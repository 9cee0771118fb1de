"""Each caller has an allowance that fills up again with time, and no other caller uses it up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.http.limits import RateLimiter, TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def admitted(limiter: RateLimiter, caller: str = "one") -> bool:
    try:
        limiter.admit(caller)
    except TooManyRequests:
        return False
    return True


def test_a_burst_is_taken_and_then_one_request_for_each_interval() -> None:
    clock = Clock()
    limiter = RateLimiter(4, burst_seconds=2, clock=clock)
    assert [admitted(limiter) for _ in range(10)] == [True] * 8 + [False] * 2
    clock.seconds += 0.25
    assert [admitted(limiter) for _ in range(2)] == [True, False]
    clock.seconds += 3600
    assert [admitted(limiter) for _ in range(10)] == [True] * 8 + [False] * 2


def test_a_fast_caller_does_not_delay_another() -> None:
    limiter = RateLimiter(1, burst_seconds=1, clock=Clock())
    assert admitted(limiter, "one")
    assert not admitted(limiter, "one")
    assert admitted(limiter, "two")


def test_without_a_burst_one_request_at_a_time_is_still_taken() -> None:
    clock = Clock()
    limiter = RateLimiter(0.5, burst_seconds=0, clock=clock)
    assert admitted(limiter)
    clock.seconds += 1
    with pytest.raises(TooManyRequests) as refused:
        limiter.admit("one")
    assert refused.value.wait_seconds == pytest.approx(1)
    clock.seconds += 1
    assert admitted(limiter)


def test_at_most_ten_thousand_callers_are_remembered() -> None:
    limiter = RateLimiter(1, burst_seconds=1, clock=Clock())
    assert all(admitted(limiter, str(number)) for number in range(20_000))
    assert not admitted(limiter, "19999")
    assert not admitted(limiter, "10000")
    assert admitted(limiter, "0")


@given(
    per_second=st.floats(0.1, 1000),
    burst_seconds=st.floats(0, 10),
    waits=st.lists(st.floats(0, 3), max_size=60),
)
def test_no_more_requests_are_admitted_than_burst_and_rate_allow(
    per_second: float, burst_seconds: float, waits: list[float]
) -> None:
    clock = Clock()
    limiter = RateLimiter(per_second, burst_seconds, clock=clock)
    taken = 0
    for wait in waits:
        clock.seconds += wait
        taken += admitted(limiter)
    most = max(burst_seconds * per_second, 1) + sum(waits) * per_second
    assert taken <= most + 1e-6


@given(per_second=st.floats(0.1, 1000), burst_seconds=st.floats(0, 10))
def test_a_caller_that_waits_as_long_as_it_was_asked_to_is_admitted(
    per_second: float, burst_seconds: float
) -> None:
    clock = Clock()
    limiter = RateLimiter(per_second, burst_seconds, clock=clock)
    while True:
        try:
            limiter.admit("one")
        except TooManyRequests as refused:
            clock.seconds += refused.wait_seconds + 1e-6
            break
    assert admitted(limiter)
