"""The rules of an order request, field by field, each with its error code.

The request arrives undecided (`Any`), because nothing is coerced: `"100"`, `100.0`, `1e2` and
`true` are not quantities, and only a rule that sees the raw value can say so.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

import msgspec

from pulse.domain.errors import OrderRefused
from pulse.domain.values import OrderSpec, Side, Value

MAX_KEY_CHARACTERS: Final = 255
MAX_INSTRUMENT_CHARACTERS: Final = 50
MAX_QUANTITY: Final = 1_000_000_000
MIN_SPLITS: Final = 2
MAX_SPLITS: Final = 100
MAX_DURATION_MINUTES: Final = 1440

INVALID_REQUEST: Final = "INVALID_REQUEST"
INVALID_INSTRUMENT: Final = "INVALID_INSTRUMENT"
INVALID_QUANTITY: Final = "INVALID_QUANTITY"
INVALID_SPLIT_CONFIG: Final = "INVALID_SPLIT_CONFIG"

FIELD_CODES: Final = {
    "order_unique_key": INVALID_REQUEST,
    "instrument": INVALID_INSTRUMENT,
    "side": INVALID_REQUEST,
    "total_quantity": INVALID_QUANTITY,
    "split_config": INVALID_SPLIT_CONFIG,
}
"""The code of a wrong value, by field; a missing or unknown field is INVALID_REQUEST."""

SPLIT_CONFIG_FIELDS: Final = ("num_splits", "duration_minutes", "randomize")

_INSTRUMENT = re.compile(r"(?:NSE|BSE):[A-Z0-9&-]+")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # and half characters
_BLANK: Final = r"[\s\u200b-\u200f\u2060\ufeff]"
"""White space, and characters of no width that a copied text may bring along."""
_BLANK_AT_AN_END = re.compile(rf"\A{_BLANK}|{_BLANK}\Z")
_KEY_EXPECTED: Final = (
    f"1 to {MAX_KEY_CHARACTERS} characters in Unicode NFC, without control characters, "
    "and without white space at either end"
)
_JSON_NAMES: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction or exponent",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An order request as it came: nothing checked but the names of its fields."""

    order_unique_key: Any = msgspec.UNSET
    instrument: Any = msgspec.UNSET
    side: Any = msgspec.UNSET
    total_quantity: Any = msgspec.UNSET
    split_config: Any = msgspec.UNSET


class RequestedOrder(Value, frozen=True):
    """A request that keeps every rule."""

    order_unique_key: str
    spec: OrderSpec


def parse_order_request(request: OrderRequest) -> RequestedOrder:
    """The order that a new request asks for.

    Raises:
        OrderRefused: a rule is broken; it names the field, the code and what was expected.
    """
    return _parse(request, _new_order_unique_key)


def parse_stored_order(request: OrderRequest) -> RequestedOrder:
    """The order that a stored creation asked for.

    Rules of a key that were added after orders had been accepted judge new requests only: a stored
    key may have white space at an end, or not be in Unicode NFC.

    Raises:
        OrderRefused: a rule is broken that every accepted order keeps.
    """
    return _parse(request, _order_unique_key)


def _parse(request: OrderRequest, parse_key: Callable[[Any], str]) -> RequestedOrder:
    for field in FIELD_CODES:
        if getattr(request, field) is msgspec.UNSET:
            raise _missing(field)
    key = parse_key(request.order_unique_key)
    instrument = parse_instrument(request.instrument)
    side = _side(request.side)
    num_splits, duration_minutes, randomize = _split_config(request.split_config)
    total_quantity = _total_quantity(request.total_quantity, num_splits)
    return RequestedOrder(
        order_unique_key=key,
        spec=OrderSpec(
            instrument=instrument,
            side=side,
            total_quantity=total_quantity,
            num_splits=num_splits,
            duration_minutes=duration_minutes,
            randomize=randomize,
        ),
    )


def _order_unique_key(value: Any) -> str:  # noqa: ANN401 - raw input is the point
    if type(value) is not str:
        raise _wrong_type("order_unique_key", value, _KEY_EXPECTED)
    if not 1 <= len(value) <= MAX_KEY_CHARACTERS:
        raise _wrong_key(f"has {len(value)} characters")
    if _CONTROL_CHARACTER.search(value):
        raise _wrong_key("has a control character")
    return value


def _new_order_unique_key(value: Any) -> str:  # noqa: ANN401 - raw input is the point
    """Two keys that read alike are one key, so that a stray blank cannot double an order."""
    key = _order_unique_key(value)
    if _BLANK_AT_AN_END.search(key):
        raise _wrong_key("has white space, or a character of no width, at an end")
    if not unicodedata.is_normalized("NFC", key):
        raise _wrong_key("is not in Unicode NFC")
    return key


def _wrong_key(problem: str) -> OrderRefused:
    return OrderRefused(INVALID_REQUEST, "order_unique_key", _KEY_EXPECTED, problem)


def is_order_unique_key(text: str) -> bool:
    """Whether a new order may have this key."""
    try:
        _new_order_unique_key(text)
    except OrderRefused:
        return False
    return True


def parse_instrument(value: Any) -> str:  # noqa: ANN401 - raw input is the point
    """The instrument, if it has the form of one.

    Raises:
        OrderRefused: it has not.
    """
    expected = (
        "EXCHANGE:SYMBOL with exchange NSE or BSE and a symbol of A-Z, 0-9, & and -, "
        f"at most {MAX_INSTRUMENT_CHARACTERS} characters, such as NSE:RELIANCE"
    )
    if type(value) is not str:
        raise _wrong_type("instrument", value, expected)
    if len(value) > MAX_INSTRUMENT_CHARACTERS:
        problem = f"has {len(value)} characters"
        raise OrderRefused(INVALID_INSTRUMENT, "instrument", expected, problem)
    if not _INSTRUMENT.fullmatch(value):
        raise OrderRefused(INVALID_INSTRUMENT, "instrument", expected, "has another form")
    return value


def _side(value: Any) -> Side:  # noqa: ANN401 - raw input is the point
    if type(value) is not str:
        raise _wrong_type("side", value, "BUY or SELL")
    if value == "BUY":
        return "BUY"
    if value == "SELL":
        return "SELL"
    raise OrderRefused(INVALID_REQUEST, "side", "BUY or SELL", "is neither")


def _total_quantity(value: Any, num_splits: int) -> int:  # noqa: ANN401 - raw input is the point
    quantity = _whole("total_quantity", value, 1, MAX_QUANTITY, INVALID_QUANTITY)
    if quantity < num_splits:
        raise OrderRefused(
            INVALID_QUANTITY,
            "total_quantity",
            f"at least num_splits ({num_splits}), one share a slice",
            f"is {quantity}",
        )
    return quantity


def _split_config(value: Any) -> tuple[int, int, bool]:  # noqa: ANN401 - raw input is the point
    if type(value) is not dict:
        expected = "an object with num_splits, duration_minutes and optionally randomize"
        raise _wrong_type("split_config", value, expected)
    for name in value:
        if name not in SPLIT_CONFIG_FIELDS:
            raise unknown_field(f"split_config.{name}", SPLIT_CONFIG_FIELDS)
    for name in ("num_splits", "duration_minutes"):
        if name not in value:
            raise _missing(f"split_config.{name}")
    num_splits = _whole(
        "split_config.num_splits", value["num_splits"], MIN_SPLITS, MAX_SPLITS, INVALID_SPLIT_CONFIG
    )
    duration_minutes = _whole(
        "split_config.duration_minutes",
        value["duration_minutes"],
        1,
        MAX_DURATION_MINUTES,
        INVALID_SPLIT_CONFIG,
    )
    randomize = value.get("randomize", True)
    if type(randomize) is not bool:
        raise _wrong_type("split_config.randomize", randomize, "true or false")
    return num_splits, duration_minutes, randomize


def _whole(field: str, value: Any, least: int, most: int, code: str) -> int:  # noqa: ANN401
    expected = f"a whole number from {least:,} to {most:,}"
    if type(value) is not int:
        raise _wrong_type(field, value, expected)
    if not least <= value <= most:
        raise OrderRefused(code, field, expected, "is out of range")
    return value


def unknown_field(field: str, known: tuple[str, ...]) -> OrderRefused:
    """The refusal of a field that no rule knows."""
    return OrderRefused(INVALID_REQUEST, field, f"only {', '.join(known)}", "is not a field")


def wrong_value(field: str, problem: str) -> OrderRefused:
    """The refusal of a value that could not even be read, with its field's own code."""
    code = FIELD_CODES.get(field.partition(".")[0], INVALID_REQUEST)
    return OrderRefused(code, field, "a value within its range", problem)


def _missing(field: str) -> OrderRefused:
    return OrderRefused(INVALID_REQUEST, field, "the field, which is required", "is missing")


def _wrong_type(field: str, value: Any, expected: str) -> OrderRefused:  # noqa: ANN401
    code = FIELD_CODES[field.partition(".")[0]]
    return OrderRefused(code, field, expected, f"is {_JSON_NAMES[type(value)]}")
