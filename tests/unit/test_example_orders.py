import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec

from pulse.domain import OrderRequest, RequestedOrder, parse_order_request

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ORDERS = EXAMPLES / "orders.ndjson"


@cache
def requests() -> tuple[OrderRequest, ...]:
    lines = ORDERS.read_bytes().splitlines()
    return tuple(msgspec.json.decode(line, type=OrderRequest) for line in lines)


@cache
def orders() -> tuple[RequestedOrder, ...]:
    return tuple(parse_order_request(request) for request in requests())


def test_the_script_writes_the_file_byte_for_byte() -> None:
    script = [sys.executable, str(EXAMPLES / "make_orders.py")]
    assert subprocess.run(script, check=True, capture_output=True).stdout == ORDERS.read_bytes()


def test_there_are_a_thousand_orders_that_keep_every_rule() -> None:
    assert len(orders()) == 1000


def test_no_key_is_used_twice() -> None:
    assert len({order.order_unique_key for order in orders()}) == 1000


def test_many_instruments_of_both_exchanges_are_traded_both_ways() -> None:
    instruments = {order.spec.instrument for order in orders()}
    assert len(instruments) >= 80
    assert sum(i.startswith("BSE:") for i in instruments) >= 10
    assert {"NSE:RELIANCE", "NSE:M&M", "NSE:J&KBANK", "NSE:BAJAJ-AUTO", "BSE:500325"} <= instruments
    assert {order.spec.side for order in orders()} == {"BUY", "SELL"}


def test_both_ends_of_every_range_are_there() -> None:
    specs = [order.spec for order in orders()]
    for values, least, most in (
        ({s.total_quantity for s in specs}, 2, 1_000_000_000),
        ({s.num_splits for s in specs}, 2, 100),
        ({s.duration_minutes for s in specs}, 1, 1440),
        ({len(order.order_unique_key) for order in orders()}, 1, 255),
    ):
        assert min(values) == least
        assert max(values) == most
    assert any(s.total_quantity == s.num_splits == 100 for s in specs)
    assert any(s.total_quantity == 1_000_000_000 and s.num_splits == 100 for s in specs)


def test_randomize_is_true_false_and_left_out() -> None:
    given = {request.split_config.get("randomize") for request in requests()}
    assert given == {True, False, None}


def test_some_keys_are_not_ascii() -> None:
    assert sum(not order.order_unique_key.isascii() for order in orders()) >= 3
