"""Responses and path parameters that the API and the gateway share."""

from typing import Literal
from uuid import UUID

import msgspec

from pulse.application.orders import OrderNotFound
from pulse.domain import HaltNotFound
from pulse.projections.order_view import OrderView

_MAX_ECHOED_CHARACTERS = 72


class PlacedOrder(msgspec.Struct, frozen=True):
    """The order with this key."""

    order_id: UUID
    order_unique_key: str


class Health(msgspec.Struct, frozen=True):
    """The process is alive."""

    status: Literal["ok"]


class Hello(msgspec.Struct, frozen=True):
    """A greeting."""

    message: str


def order_id_of(text: str) -> UUID:
    """The order id in a path.

    Raises:
        OrderNotFound: the id is malformed, so no order has it.
    """
    order_id = canonical_uuid(text)
    if order_id is None:
        raise OrderNotFound(text[:_MAX_ECHOED_CHARACTERS])
    return order_id


def halt_id_of(text: str) -> UUID:
    """The halt id in a path.

    Raises:
        HaltNotFound: the id is malformed, so no halt has it.
    """
    halt_id = canonical_uuid(text)
    if halt_id is None:
        raise HaltNotFound(text[:_MAX_ECHOED_CHARACTERS])
    return halt_id


def canonical_uuid(text: str) -> UUID | None:
    """The id, or None. `UUID` alone accepts braces, `urn:`, underscores and misplaced dashes."""
    try:
        parsed = UUID(text)
    except ValueError:
        return None
    return parsed if str(parsed) == text.lower() else None


def whole_order(order: OrderView) -> OrderView:
    """The answer of the internal API: every field of the order."""
    return order
