"""What the API and the gateway answer alike about orders."""

from typing import Final
from uuid import UUID

import msgspec
from litestar import Response

from pulse.application import OrderNotFound
from pulse.http.errors import JSON

_MOST_ECHOED_CHARACTERS: Final = 72


class PlacedBody(msgspec.Struct, frozen=True):
    """The answer to an order that stands."""

    order_id: UUID
    order_unique_key: str


def known_form(order_id: str) -> UUID:
    """An id in the form Pulse gives out; anything else is the id of no order.

    `UUID` alone would also take braces, `urn:`, underscores, and dashes in any place.

    Raises:
        OrderNotFound: it has another form.
    """
    try:
        known = UUID(order_id)
    except ValueError:
        known = None
    if known is None or str(known) != order_id.lower():
        raise OrderNotFound(order_id[:_MOST_ECHOED_CHARACTERS])
    return known


def json_answer(answer: object, status: int) -> Response[bytes]:
    """A response whose body is this, as JSON."""
    return Response(msgspec.json.encode(answer), status_code=status, media_type=JSON)
