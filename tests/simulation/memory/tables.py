"""The in-memory tables of the read model, and a transaction's uncommitted changes."""

from copy import copy
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


class SealRow:
    """The row of `seal_state`."""

    __slots__ = (
        *("verifier_key", "size", "position", "last_entry", "frontier"),
        *("checkpoint", "checkpoint_size", "checkpoint_at"),
    )

    def __init__(self) -> None:
        self.verifier_key: str | None = None
        self.size = self.position = 0
        self.last_entry: bytes | None = None
        self.frontier = b""
        self.checkpoint: str | None = None
        self.checkpoint_size = 0
        self.checkpoint_at: datetime | None = None

    def copy(self) -> "SealRow":
        """A copy, which a transaction changes."""
        return copy(self)


class Seal:
    """The tables of the seal.

    `entries` have the first position and the bundle of each row by its first leaf, `nodes` the
    hashes by level and index.
    """

    def __init__(self) -> None:
        self.row = SealRow()
        self.entries: dict[int, tuple[int, bytes]] = {}
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.keys: list[str] = []

    def copy(self) -> "Seal":
        """A copy, which a transaction changes under the lock of the row."""
        changed = Seal()
        changed.row = self.row.copy()
        changed.entries, changed.nodes = dict(self.entries), dict(self.nodes)
        changed.keys = list(self.keys)
        return changed


class Tables:
    """The committed rows. `ids` has each order's id by the position of its creation."""

    def __init__(self) -> None:
        self.orders: dict[UUID, Row] = {}
        self.ids: dict[int, UUID] = {}
        self.slices: dict[SliceKey, tuple[int, datetime]] = {}
        self.due: dict[int, datetime] = {}
        self.parked: dict[UUID, tuple[int, str]] = {}
        self.pending: dict[UUID, PendingRow] = {}
        self.position = 0
        self.seal = Seal()


class Changes:
    """The uncommitted changes of one transaction, on top of the committed tables.

    `orders` are the inserted and updated rows, `outcomes` the orders that are no longer pending. In
    `due`, None is a deleted row. `seal` replaces all of the seal's tables.
    """

    __slots__ = ("due", "orders", "outcomes", "parked", "position", "seal", "slices")

    def __init__(self) -> None:
        self.orders: dict[UUID, Row] = {}
        self.outcomes: set[UUID] = set()
        self.slices: dict[SliceKey, tuple[int, datetime]] = {}
        self.due: dict[int, datetime | None] = {}
        self.parked: dict[UUID, tuple[int, str]] = {}
        self.position: int | None = None
        self.seal: Seal | None = None

    def copy(self) -> "Changes":
        """A copy, for a savepoint. Rows are replaced, never changed."""
        copy = Changes()
        copy.orders, copy.outcomes = dict(self.orders), set(self.outcomes)
        copy.slices, copy.due = dict(self.slices), dict(self.due)
        copy.parked, copy.position = dict(self.parked), self.position
        copy.seal = None if self.seal is None else self.seal.copy()
        return copy

    def order(self, tables: Tables, order_id: UUID) -> Row | None:
        """The order's row, as this transaction sees it."""
        return self.orders.get(order_id) or tables.orders.get(order_id)

    def order_at(self, tables: Tables, created_position: int) -> Row | None:
        """The row of the order created at this position, as this transaction sees it."""
        order_id = tables.ids.get(created_position)
        if order_id is not None:
            return self.order(tables, order_id)
        inserted = (row for row in self.orders.values())
        return next((row for row in inserted if row["created_position"] == created_position), None)

    def slice(self, tables: Tables, key: SliceKey) -> tuple[int, datetime] | None:
        """A slice's quantity and time, as this transaction sees it."""
        return self.slices.get(key) or tables.slices.get(key)

    def due_at(self, tables: Tables, created_position: int) -> datetime | None:
        """When the order is due, as this transaction sees it."""
        if created_position in self.due:
            return self.due[created_position]
        return tables.due.get(created_position)

    def apply_to(self, tables: Tables) -> None:
        """Commit these changes to the tables."""
        for order_id, row in self.orders.items():
            tables.orders[order_id] = row
            tables.ids[row["created_position"]] = order_id
            if row["state"] == "PENDING":
                tables.pending[order_id] = PendingRow()
        for order_id in self.outcomes:
            tables.pending.pop(order_id, None)
        tables.slices.update(self.slices)
        for position, due_at in self.due.items():
            if due_at is None:
                tables.due.pop(position, None)
            else:
                tables.due[position] = due_at
        tables.parked.update(self.parked)
        if self.position is not None:
            tables.position = self.position
        if self.seal is not None:
            tables.seal = self.seal
