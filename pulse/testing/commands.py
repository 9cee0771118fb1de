"""Commands with everything filled in, so that a test names only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Final

from pulse.domain import (
    INTERNAL_SCOPE,
    Claim,
    OrderSpec,
    PlaceOrder,
    RecordedBy,
    Side,
    SplitConfigRequest,
    SplitOrder,
    TimeOutOrder,
    Trace,
)

T0: Final = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
"""When these orders are placed, unless `at` says otherwise: 09:15 in Mumbai."""

_CLAIMED_AT: Final = T0 + timedelta(seconds=1)
_TRACE: Final = Trace(
    trace_id="t-test", trace_source="TEST", request_id="r-test", request_source="TEST"
)


def place_order(  # noqa: PLR0913 - one keyword for each thing a test may be about
    order_unique_key: str = "ouk_1",
    *,
    instrument: str = "NSE:RELIANCE",
    side: Side = "BUY",
    total_quantity: int = 100,
    num_splits: int = 5,
    duration_minutes: int = 60,
    randomize: bool = True,
    split_seed: int = 0,
    at: datetime = T0,
) -> PlaceOrder:
    """Place an order of the internal scope. Nothing is checked: keep to what the API accepts."""
    spec = OrderSpec(
        order_unique_key=order_unique_key,
        instrument=instrument,
        side=side,
        total_quantity=total_quantity,
        split_config=SplitConfigRequest(num_splits, duration_minutes, randomize),
    )
    return PlaceOrder(
        spec=spec,
        key_scope=INTERNAL_SCOPE,
        placed_by="anonymous",
        split_seed=split_seed,
        at=at,
        recorded_by=_author("api"),
        trace=_TRACE,
    )


def split_order(
    *, claimed_at: datetime = _CLAIMED_AT, max_split_delay_seconds: float = 300
) -> SplitOrder:
    """Split the order that worker-1 claimed at that moment."""
    return SplitOrder(
        claim=_claim(claimed_at),
        max_split_delay_seconds=max_split_delay_seconds,
        at=claimed_at,
        request_id="r-worker",
        recorded_by=_author("worker"),
    )


def time_out_order(
    *, claimed_at: datetime = _CLAIMED_AT, timeout_seconds: float = 300
) -> TimeOutOrder:
    """Give up the order that worker-1 claimed at that moment, once the time is over."""
    return TimeOutOrder(
        claim=_claim(claimed_at),
        timeout_seconds=timeout_seconds,
        detected_by="monitor-1",
        at=claimed_at + timedelta(seconds=timeout_seconds),
        request_id="r-monitor",
        recorded_by=_author("monitor"),
    )


def _claim(claimed_at: datetime) -> Claim:
    return Claim(worker="worker-1", claimed_at=claimed_at, first_claimed_at=claimed_at)


def _author(component: str) -> RecordedBy:
    return RecordedBy(component=component, instance=f"{component}-1", code_version="test")
