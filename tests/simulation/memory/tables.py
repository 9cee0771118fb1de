"""The in-memory tables of the read model, and a transaction's uncommitted changes."""

from datetime import datetime
from typing import Any
from uuid import UUID

Row = dict[str, Any]
SliceKey = tuple[int, int]
"""The position of the order's creation, and the slice's number."""


class PendingRow:
    """A row of `pending_orders`. `claimed_by` is None if no worker holds the order."""

    __slots__ = ("claimed_at", "claimed_by", "first_claimed_at")

    def __init__(self) -> None:
        self.claimed_by: str | None = None
        self.claimed_at: datetime | None = None
        self.first_claimed_at: datetime | None = None

    def claim(self, worker: str, at: datetime) -> datetime:
        """Claim the order; returns the time of its first claim."""
        self.claimed_by, self.claimed_at = worker, at
        self.first_claimed_at = self.first_claimed_at or at
        return self.first_claimed_at

    def release(self) -> None:
        """Release the claim; keeps the time of the first claim."""
        self.claimed_by = self.claimed_at = None


class Tables:
    """The committed rows."""

    def __init__(self) -> None:
        self.orders: dict[UUID, Row] = {}
        self.slices: dict[SliceKey, tuple[int, datetime]] = {}
        self.parked: dict[UUID, tuple[int, str]] = {}
        self.pending: dict[UUID, PendingRow] = {}
        self.position = 0


class Changes:
    """The uncommitted changes of one transaction."""

    __slots__ = ("orders", "outcomes", "parked", "position", "slices")

    def __init__(self) -> None:
        self.orders: dict[UUID, Row] = {}
        self.outcomes: dict[UUID, Row] = {}
        self.slices: dict[SliceKey, tuple[int, datetime]] = {}
        self.parked: dict[UUID, tuple[int, str]] = {}
        self.position: int | None = None

    def copy(self) -> "Changes":
        """A copy, for a savepoint."""
        copy = Changes()
        copy.orders, copy.outcomes = dict(self.orders), dict(self.outcomes)
        copy.slices, copy.parked = dict(self.slices), dict(self.parked)
        copy.position = self.position
        return copy

    def apply_to(self, tables: Tables) -> None:
        """Commit them."""
        tables.orders.update(self.orders)
        for order_id, row in self.orders.items():
            if row["state"] == "PENDING":
                tables.pending[order_id] = PendingRow()
        for order_id, outcome in self.outcomes.items():
            tables.orders[order_id].update(outcome)
            tables.pending.pop(order_id, None)
        tables.slices.update(self.slices)
        tables.parked.update(self.parked)
        if self.position is not None:
            tables.position = self.position
