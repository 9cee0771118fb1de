"""One order, as its requests and answers show it: the examples of the documents."""

from typing import Any, Final
from uuid import UUID

from pulse.domain import INTERNAL_SCOPE, order_id_for

KEY: Final = "ouk_first"
ORDER_ID: Final[UUID] = order_id_for(INTERNAL_SCOPE, KEY)
UNKNOWN_ID: Final = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"

REQUEST: Final[dict[str, Any]] = {
    "order_unique_key": KEY,
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": {"num_splits": 2, "duration_minutes": 60, "randomize": True},
}
SHORTEST_REQUEST: Final[dict[str, Any]] = {
    **REQUEST,
    "order_unique_key": "ouk_second",
    "instrument": "BSE:500325",
    "side": "SELL",
    "split_config": {"num_splits": 2, "duration_minutes": 60},
}
PLACED: Final[dict[str, Any]] = {"order_id": str(ORDER_ID), "order_unique_key": KEY}
SLICES: Final[list[dict[str, Any]]] = [
    {"sequence_number": 1, "quantity": 46, "scheduled_at": "2026-03-02T03:45:00.250000Z"},
    {"sequence_number": 2, "quantity": 54, "scheduled_at": "2026-03-02T04:45:00.250000Z"},
]
COMPLETED: Final[dict[str, Any]] = {
    **PLACED,
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": REQUEST["split_config"],
    "order_queue_status": "COMPLETED",
    "failure_reason": None,
    "failure_message": None,
    "version": 2,
    "position": 18,
    "placed_by": "anonymous",
    "created_at": "2026-03-02T03:45:00.250000Z",
    "updated_at": "2026-03-02T03:45:00.263000Z",
    "split_completed_at": "2026-03-02T03:45:00.263000Z",
    "claimed_by": None,
    "claimed_at": None,
    "slices": SLICES,
}
PENDING: Final[dict[str, Any]] = {
    **COMPLETED,
    "order_queue_status": "PENDING",
    "version": 1,
    "position": 17,
    "updated_at": "2026-03-02T03:45:00.250000Z",
    "split_completed_at": None,
    "slices": [],
}
