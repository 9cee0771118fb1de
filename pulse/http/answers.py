"""What the API and the gateway answer alike."""

from typing import Literal
from uuid import UUID

import msgspec

from pulse.application.orders import OrderNotFound

_MAX_ECHOED_CHARACTERS = 72


class PlacedOrder(msgspec.Struct, frozen=True):
    """The order that exists under the key."""

    order_id: UUID
    order_unique_key: str


class Health(msgspec.Struct, frozen=True):
    """The process is alive."""

    status: Literal["ok"]


class Hello(msgspec.Struct, frozen=True):
    """A greeting."""

    message: str


def order_id_of(text: str) -> UUID:
    """The id that a path names, in the one form that Pulse answers with; no order has another.

    `UUID` alone would also take braces, `urn:`, underscores, and dashes in any place.

    Raises:
        OrderNotFound: it has another form.
    """
    try:
        order_id = UUID(text)
    except ValueError:
        order_id = None
    if order_id is None or str(order_id) != text.lower():
        raise OrderNotFound(text[:_MAX_ECHOED_CHARACTERS])
    return order_id
