"""Responses and path parameters that the API and the gateway share."""

from typing import Literal
from uuid import UUID

import msgspec

from pulse.application.orders import OrderNotFound

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
    """The order id in a path, which must have the canonical form of a UUID.

    `UUID` alone would also accept braces, `urn:`, underscores, and dashes in any place.

    Raises:
        OrderNotFound: the id is malformed, so no order has it.
    """
    try:
        order_id = UUID(text)
    except ValueError:
        order_id = None
    if order_id is None or str(order_id) != text.lower():
        raise OrderNotFound(text[:_MAX_ECHOED_CHARACTERS])
    return order_id
