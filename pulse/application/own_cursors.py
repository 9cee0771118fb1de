"""Cursors of a caller's own orders. They contain the id of one of its orders, not a position."""

import base64
from hashlib import blake2b
from typing import Final
from uuid import UUID

import msgspec

from pulse.application.callers import Caller
from pulse.application.orders import CursorRefused, OwnOrderQuery

_VERSION: Final = b"\x01"
_DIGEST_BYTES: Final = 16
_ID_BYTES: Final = 16


def encode_own_cursor(query: OwnOrderQuery, caller: Caller, last_order: UUID) -> str:
    """The cursor of the page after `last_order`, for this caller and these filters."""
    content = _VERSION + _digest(query, caller) + last_order.bytes
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode_own_cursor(query: OwnOrderQuery, caller: Caller) -> UUID | None:
    """The order after which the requested page starts; None if the query has no cursor.

    Anyone can make a cursor with any id, so check that the order belongs to the caller.

    Raises:
        CursorRefused: this is not a cursor of this caller's orders, or belongs to other filters.
    """
    if query.cursor is None:
        return None
    try:
        content = base64.urlsafe_b64decode(query.cursor + "=" * (-len(query.cursor) % 4))
    except ValueError:
        raise CursorRefused(CursorRefused.NOT_OF_THIS_LIST) from None
    order_id = content[-_ID_BYTES:]
    if content[:1] != _VERSION or len(content) != len(_VERSION) + _DIGEST_BYTES + _ID_BYTES:
        raise CursorRefused(CursorRefused.NOT_OF_THIS_LIST)
    if query.cursor != encode_own_cursor(query, caller, UUID(bytes=order_id)):
        raise CursorRefused(CursorRefused.OF_OTHER_FILTERS)
    return UUID(bytes=order_id)


def _digest(query: OwnOrderQuery, caller: Caller) -> bytes:
    filters = msgspec.structs.replace(query, limit=0, cursor=None)
    content = msgspec.json.encode((caller.key_scope, filters))
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()
