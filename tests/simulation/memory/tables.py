"""The read model's tables and the claims in memory, and a transaction's changes laid over them."""

from datetime import datetime
from typing import Any
from uuid import UUID

Row = dict[str, Any]
SliceKey = tuple[UUID, int]


class ClaimRow:
    """A row of `order_claims`: released where `claimed_by` is None."""

    __slots__ = ("claimed_at", "claimed_by", "first_claimed_at")

    def __init__(self, claimed_by: str, at: datetime) -> None:
        self.claimed_by: str | None = claimed_by
        self.claimed_at: datetime | None = at
        self.first_claimed_at = at

    def release(self) -> None:
        """Nobody holds it now; when it was first claimed is kept."""
        self.claimed_by = self.claimed_at = None


class Tables:
    """What is committed."""

    def __init__(self) -> None:
        self.orders: dict[UUID, Row] = {}
        self.slices: dict[SliceKey, tuple[int, datetime]] = {}
        self.parked: dict[UUID, tuple[int, str]] = {}
        self.claims: dict[UUID, ClaimRow] = {}
        self.position = 0


class Changes:
    """What one transaction has changed so far and nobody else sees."""

    __slots__ = ("ended", "orders", "parked", "position", "settled", "slices")

    def __init__(self) -> None:
        self.orders: dict[UUID, Row] = {}
        self.settled: dict[UUID, Row] = {}
        self.slices: dict[SliceKey, tuple[int, datetime]] = {}
        self.parked: dict[UUID, tuple[int, str]] = {}
        self.ended: list[UUID] = []
        self.position: int | None = None

    def copy(self) -> "Changes":
        """As they are now, to come back to."""
        copy = Changes()
        copy.orders, copy.settled = dict(self.orders), dict(self.settled)
        copy.slices, copy.parked = dict(self.slices), dict(self.parked)
        copy.ended, copy.position = list(self.ended), self.position
        return copy

    def apply_to(self, tables: Tables) -> None:
        """Commit them."""
        tables.orders.update(self.orders)
        for order_id, outcome in self.settled.items():
            tables.orders[order_id].update(outcome)
        tables.slices.update(self.slices)
        tables.parked.update(self.parked)
        for order_id in self.ended:
            tables.claims.pop(order_id, None)
        if self.position is not None:
            tables.position = self.position
