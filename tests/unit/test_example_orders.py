import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec

from pulse.domain import OrderSpec, parse_order_request

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ORDERS = EXAMPLES / "orders.ndjson"


@cache
def orders() -> tuple[OrderSpec, ...]:
    return tuple(map(parse_order_request, ORDERS.read_bytes().splitlines()))


def test_the_script_writes_the_file_byte_for_byte() -> None:
    script = [sys.executable, str(EXAMPLES / "make_orders.py")]
    assert subprocess.run(script, check=True, capture_output=True).stdout == ORDERS.read_bytes()


def test_there_are_a_thousand_orders_that_keep_every_rule() -> None:
    assert len(orders()) == 1000


def test_no_key_is_used_twice() -> None:
    assert len({order.order_unique_key for order in orders()}) == 1000


def test_many_instruments_of_both_exchanges_are_traded_both_ways() -> None:
    instruments = {order.instrument for order in orders()}
    assert len(instruments) >= 80
    assert sum(i.startswith("BSE:") for i in instruments) >= 10
    assert {"NSE:RELIANCE", "NSE:M&M", "NSE:J&KBANK", "NSE:BAJAJ-AUTO", "BSE:500325"} <= instruments
    assert {order.side for order in orders()} == {"BUY", "SELL"}


def test_both_ends_of_every_range_occur() -> None:
    configs = [order.split_config for order in orders()]
    for values, least, most in (
        ({order.total_quantity for order in orders()}, 2, 1_000_000_000),
        ({config.num_splits for config in configs}, 2, 100),
        ({config.duration_minutes for config in configs}, 1, 1440),
        ({len(order.order_unique_key) for order in orders()}, 1, 255),
    ):
        assert min(values) == least
        assert max(values) == most
    sizes = {(order.total_quantity, order.split_config.num_splits) for order in orders()}
    assert {(100, 100), (1_000_000_000, 100)} <= sizes


def test_randomize_is_true_false_and_left_out() -> None:
    bodies = map(msgspec.json.decode, ORDERS.read_bytes().splitlines())
    given = {body["split_config"].get("randomize") for body in bodies}
    assert given == {True, False, None}


def test_some_keys_are_not_ascii() -> None:
    assert sum(not order.order_unique_key.isascii() for order in orders()) >= 3
