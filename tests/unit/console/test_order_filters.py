from typing import Final

import pytest

from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.http.console.order_filters import FIELDS, ORDERS_PATH, orders_path, read_filters

HOSTILE: Final = '"><script>alert(1)</script>&order_unique_key=x#'


def test_the_empty_fields_of_a_form_are_no_filters() -> None:
    query = "&".join(f"{field.name}=" for field in FIELDS)

    filters = read_filters(query.encode())

    assert filters.fault is None
    assert filters.values == {}
    assert filters.query is not None
    assert filters.query.limit == 50
    assert filters.path() == ORDERS_PATH


def test_filters_become_the_query_of_the_api() -> None:
    filters = read_filters(
        b"order_queue_status=FAILED&instrument=NSE%3ATCS&placed_by=oms&trace_id=t1"
        b"&created_from=2026-01-05T09:15:00%2B05:30&created_before=2026-01-06T00:00:00Z&limit=7"
    )

    query = filters.query
    assert query is not None
    assert (query.order_queue_status, query.instrument) == ("FAILED", "NSE:TCS")
    assert (query.placed_by, query.trace_id, query.limit) == ("oms", "t1", 7)
    assert str(query.created_from) == "2026-01-05 03:45:00+00:00"


def test_a_key_is_looked_up_in_its_scope() -> None:
    internal = read_filters(b"order_unique_key=a+b&key_scope=")
    scoped = read_filters(b"order_unique_key=a+b&key_scope=https%3A%2F%2Fi%7Calice")

    assert internal.query is not None
    assert scoped.query is not None
    assert internal.query.order_id == order_id_for(INTERNAL_SCOPE, "a b")
    assert scoped.query.order_id == order_id_for("https://i|alice", "a b")


@pytest.mark.parametrize(
    ("query", "field", "fault"),
    [
        ("instrument=reliance", "instrument", "instrument has the wrong format"),
        ("created_from=yesterday", "created_from", "created_from is not a valid time"),
        ("key_scope=internal", "key_scope", "key_scope is given without a key"),
        (
            "created_from=2026-01-06T00:00:00Z&created_before=2026-01-05T00:00:00Z",
            "created_before",
            "created_before is too early",
        ),
        ("order_queue_status=DONE", "order_queue_status", "order_queue_status is "),
        ("placed_by=a%20b", "placed_by", "placed_by has the wrong format"),
        ("limit=0", None, "limit is "),
        ("cursor=x", None, "cursor is not a cursor of this list"),
        ("colour=red", None, "colour is unknown"),
        ("trace_id=a&trace_id=b", "trace_id", "trace_id is repeated"),
        ("trace_id=%ff", "trace_id", "trace_id is not valid UTF-8"),
    ],
)
def test_a_fault_belongs_to_its_field_and_keeps_what_was_sent(
    query: str, field: str | None, fault: str
) -> None:
    filters = read_filters(query.encode())

    assert filters.query is None
    assert filters.faulty_field == field
    assert fault in (filters.fault or "")
    assert field is None or field in filters.values


def test_paths_keep_the_filters_and_the_page_size() -> None:
    filters = read_filters(b"placed_by=oms&instrument=NSE:M%26M&limit=5&cursor=abc")

    assert filters.path(cursor="next") == (
        f"{ORDERS_PATH}?placed_by=oms&instrument=NSE%3AM%26M&limit=5&cursor=next"
    )
    assert filters.path("instrument") == f"{ORDERS_PATH}?placed_by=oms&limit=5"


def test_hostile_values_are_encoded_in_paths() -> None:
    path = orders_path(order_unique_key=HOSTILE)

    assert read_filters(path.partition("?")[2].encode()).values == {"order_unique_key": HOSTILE}
    assert not set("<>\"'# ") & set(path)
