"""What Pulse answers, as far as a load reads it. Fields it does not know are ignored."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from pulse.domain import Slice

AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]
OrderQueueStatus = Literal["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"]


class PlacedAnswer(msgspec.Struct, frozen=True):
    """The body of 201 and 200 to `POST /internal/orders`."""

    order_id: UUID
    order_unique_key: str


class SplitConfigAnswer(msgspec.Struct, frozen=True):
    """An order's split_config after defaults."""

    num_splits: int
    duration_minutes: int
    randomize: bool


class OrderAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of 200 to `GET /internal/orders/{order_id}`."""

    order_id: UUID
    order_unique_key: str
    instrument: str
    side: str
    total_quantity: int
    split_config: SplitConfigAnswer
    order_queue_status: OrderQueueStatus
    failure_reason: str | None
    created_at: AwareTime
    split_completed_at: AwareTime | None
    slices: tuple[Slice, ...]


class ErrorDetail(msgspec.Struct, frozen=True):
    """The code and sentence of a refusal."""

    code: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class HealthAnswer(msgspec.Struct, frozen=True):
    """The body of `GET /health`."""

    status: Literal["ok"]
