"""Cursors of a caller's own orders. They contain the id of one of its orders, not a position."""

import base64
from hashlib import blake2b
from typing import Final
from uuid import UUID

import msgspec

from pulse.application.callers import Caller
from pulse.application.orders import CursorRefused, OwnOrderQuery

_VERSION: Final = b"\x02"
_DIGEST_BYTES: Final = 16
_LOG_BYTES: Final = 8
_ID_BYTES: Final = 16
_ID_START: Final = len(_VERSION) + _DIGEST_BYTES + _LOG_BYTES


class OwnCursorKey(msgspec.Struct, frozen=True):
    """The order after which a page starts, and a digest of the `log_id` of its log."""

    order_id: UUID
    log: bytes

    @classmethod
    def after(cls, order_id: UUID, log_id: UUID) -> "OwnCursorKey":
        """The key of a page that starts after this order of this log."""
        return cls(order_id, _log_digest(log_id))

    def is_of(self, log_id: UUID) -> bool:
        """Whether it is of this log."""
        return self.log == _log_digest(log_id)


def encode_own_cursor(query: OwnOrderQuery, caller: Caller, key: OwnCursorKey) -> str:
    """The cursor of the page with this key, for this caller and these filters."""
    content = _VERSION + _digest(query, caller) + key.log + key.order_id.bytes
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode_own_cursor(query: OwnOrderQuery, caller: Caller) -> OwnCursorKey | None:
    """The key of the requested page; None if the query has no cursor.

    Anyone can make a cursor with any id, so check that the order belongs to the caller, and that
    the key is of this log.

    Raises:
        CursorRefused: this is not a cursor of this caller's orders, or belongs to other filters.
    """
    if query.cursor is None:
        return None
    try:
        content = base64.urlsafe_b64decode(query.cursor + "=" * (-len(query.cursor) % 4))
    except ValueError:
        raise CursorRefused(CursorRefused.NOT_OF_THIS_LIST) from None
    if content[:1] != _VERSION or len(content) != _ID_START + _ID_BYTES:
        raise CursorRefused(CursorRefused.NOT_OF_THIS_LIST)
    log, order_id = content[_ID_START - _LOG_BYTES : _ID_START], content[_ID_START:]
    key = OwnCursorKey(UUID(bytes=order_id), log)
    if query.cursor != encode_own_cursor(query, caller, key):
        raise CursorRefused(CursorRefused.OF_OTHER_FILTERS)
    return key


def _digest(query: OwnOrderQuery, caller: Caller) -> bytes:
    filters = msgspec.structs.replace(query, limit=0, cursor=None)
    content = msgspec.json.encode((caller.key_scope, filters))
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _log_digest(log_id: UUID) -> bytes:
    return blake2b(log_id.bytes, digest_size=_LOG_BYTES).digest()
