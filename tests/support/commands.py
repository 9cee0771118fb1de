"""Commands with defaults, so that a test names only the relevant values."""

from datetime import UTC, datetime
from typing import Final

from pulse.domain import (
    INTERNAL_SCOPE,
    OrderSpec,
    PlaceOrder,
    RecordedBy,
    SessionCalendar,
    SessionPolicy,
    Side,
    SplitConfigRequest,
    Trace,
)

T0: Final = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
"""The default time of an order: 09:15 in Mumbai."""

_TRACE: Final = Trace(
    trace_id="t-test", trace_source="TEST", request_id="r-test", request_source="TEST"
)


def place_order(
    order_unique_key: str = "ouk_1",
    *,
    instrument: str = "NSE:RELIANCE",
    side: Side = "BUY",
    total_quantity: int = 100,
    num_splits: int = 5,
    duration_minutes: int = 60,
    randomize: bool = True,
    split_seed: int = 0,
    release: bool = True,
    at: datetime = T0,
    start_at: datetime | None = None,
    session_policy: SessionPolicy | None = None,
    calendar: SessionCalendar | None = None,
) -> PlaceOrder:
    """A command for an order in the internal scope. It does not validate the values."""
    spec = OrderSpec(
        order_unique_key=order_unique_key,
        instrument=instrument,
        side=side,
        total_quantity=total_quantity,
        split_config=SplitConfigRequest(
            num_splits, duration_minutes, randomize, start_at, session_policy
        ),
    )
    return PlaceOrder(
        spec=spec,
        key_scope=INTERNAL_SCOPE,
        placed_by="anonymous",
        split_seed=split_seed,
        release=release,
        at=at,
        recorded_by=RecordedBy(component="api", instance="api-1", code_version="test"),
        trace=_TRACE,
        calendar=calendar,
    )
