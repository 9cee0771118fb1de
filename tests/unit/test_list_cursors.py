"""Cursors of lists: what they carry, and that processes of an older release accept them."""

import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from pulse.http.api.lists import (
    OrderCursor,
    OrderParameters,
    SliceCursor,
    decode_cursor,
    encode_cursor,
    next_cursor_of,
    order_query,
)
from pulse.projections.lists import OrderPage, OrderQuery

LOG = UUID("2f1d3c5e-6a70-4b81-92c3-d4e5f60718a9")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAGE = OrderPage(orders=(), as_of_position=40, next_before=17, log_id=LOG)
QUERY = OrderQuery(limit=50, instrument="NSE:TCS")


def content_of(cursor: str) -> object:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


def test_without_a_replica_the_form_of_a_cursor_is_unchanged() -> None:
    assert content_of(encode_cursor(OrderCursor("digest", 17, LOG))) == [
        *("orders", "digest", 17, str(LOG))
    ]
    cursor = SliceCursor(None, NOON, NOON, 17, LOG)
    slices = encode_cursor(cursor)
    noon = "2026-03-02T12:00:00Z"
    assert content_of(slices) == ["slices", None, noon, noon, 17, str(LOG)]
    assert decode_cursor(slices, SliceCursor, None, NOON) == cursor


def test_with_a_replica_a_cursor_has_the_position_of_its_page() -> None:
    cursor = next_cursor_of(QUERY, PAGE, may_be_older=True)
    assert cursor is not None
    query = order_query(OrderParameters(instrument="NSE:TCS", cursor=cursor))
    assert (query.before, query.min_position) == (17, 40)


@pytest.mark.parametrize(("asked", "expected"), [(39, 40), (41, 41), (None, 40)])
def test_the_higher_position_counts(asked: int | None, expected: int) -> None:
    cursor = next_cursor_of(QUERY, PAGE, may_be_older=True)
    parameters = OrderParameters(instrument="NSE:TCS", cursor=cursor, min_position=asked)
    assert order_query(parameters).min_position == expected


def test_a_position_is_not_a_filter_so_a_cursor_is_valid_with_and_without_it() -> None:
    asked = OrderParameters(instrument="NSE:TCS", min_position=12)
    cursor = next_cursor_of(order_query(asked), PAGE, may_be_older=False)
    assert cursor == next_cursor_of(QUERY, PAGE, may_be_older=False)
    assert order_query(OrderParameters(instrument="NSE:TCS", cursor=cursor)).min_position == 0
