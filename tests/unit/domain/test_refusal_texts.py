"""What a refusal says, word for word: callers read it, and act on it."""

from typing import Any

import msgspec
import pytest

from pulse.domain import OrderRefused, parse_order_request

ORDER: dict[str, Any] = {
    "order_unique_key": "ouk_1",
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": {"num_splits": 5, "duration_minutes": 60, "randomize": True},
}
KEY = (
    "1 to 255 characters in Unicode NFC, without control characters, and with neither white space "
    "nor an invisible character (categories Zs, Zl, Zp, Cc, Cf) at either end"
)
INSTRUMENT = (
    "EXCHANGE:SYMBOL with exchange NSE or BSE and a symbol of A-Z, 0-9, & and -, "
    "at most 50 characters, such as NSE:RELIANCE"
)
CONFIG = (
    "an object with num_splits, duration_minutes and optionally randomize, start_at, session_policy"
)
SPLITS = "a whole number from 2 to 100"
MINUTES = "a whole number from 1 to 1,440"
SHARES = "a whole number from 1 to 1,000,000,000"

REFUSALS: list[tuple[str, Any, str, str]] = [
    ("order_unique_key", "", "is too short", KEY),
    ("order_unique_key", "k" * 256, "is too long", KEY),
    ("order_unique_key", "a\nb", "has the wrong format", KEY),
    ("order_unique_key", "ouk ", "begins or ends with white space or an invisible character", KEY),
    ("order_unique_key", "e\u0301", "is not in Unicode NFC", KEY),
    ("order_unique_key", 7, "is a whole number", KEY),
    ("instrument", "NSE:reliance", "has the wrong format", INSTRUMENT),
    ("instrument", "NSE:" + "A" * 47, "is too long", INSTRUMENT),
    ("instrument", None, "is null", INSTRUMENT),
    ("side", "HOLD", "is not allowed", "BUY or SELL"),
    ("side", ["BUY"], "is an array", "BUY or SELL"),
    ("total_quantity", 0, "is out of range", SHARES),
    ("total_quantity", 100.0, "is a number with a fraction or exponent", SHARES),
    ("total_quantity", 4, "is 4", "at least num_splits (5), one share per slice"),
    ("split_config", "5", "is a string", CONFIG),
    ("split_config.num_splits", 101, "is out of range", SPLITS),
    ("split_config.num_splits", True, "is true or false", SPLITS),
    ("split_config.duration_minutes", 1441, "is out of range", MINUTES),
    ("split_config.duration_minutes", {}, "is an object", MINUTES),
    ("split_config.randomize", 1, "is a whole number", "true or false"),
    (
        "split_config.price",
        1,
        "is unknown",
        "only num_splits, duration_minutes, randomize, start_at, session_policy",
    ),
]


def order_with(field: str, value: object) -> bytes:
    outer, _, inner = field.partition(".")
    if inner:
        value = {**ORDER["split_config"], inner: value}
    return msgspec.json.encode({**ORDER, outer: value})


@pytest.mark.parametrize(("field", "value", "problem", "expected"), REFUSALS)
def test_a_refusal_names_the_field_what_is_wrong_and_what_was_expected(
    field: str, value: object, problem: str, expected: str
) -> None:
    with pytest.raises(OrderRefused) as caught:
        parse_order_request(order_with(field, value))
    assert caught.value.field == field
    assert caught.value.expected == expected
    assert str(caught.value) == f"{field} {problem}: expected {expected}"


@pytest.mark.parametrize("field", ORDER)
def test_a_missing_field_is_reported_as_missing(field: str) -> None:
    fields = {name: value for name, value in ORDER.items() if name != field}
    with pytest.raises(OrderRefused) as caught:
        parse_order_request(msgspec.json.encode(fields))
    assert str(caught.value) == f"{field} is missing: expected this required field"
