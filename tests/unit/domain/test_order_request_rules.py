"""The rules of an order request: each field, each wrong type, each boundary, each with its code."""

import json
from datetime import UTC, datetime
from typing import Any
from unicodedata import is_normalized, normalize

import msgspec
import pytest

from pulse.domain import (
    SESSION_POLICIES,
    OrderRefused,
    OrderSpec,
    PlaceOrder,
    SplitConfigRequest,
    parse_order_request,
    require_valid_order,
)
from tests.support.commands import place_order

GOOD: dict[str, Any] = {
    "order_unique_key": "ouk_abc123xyz",
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": {"num_splits": 5, "duration_minutes": 60, "randomize": True},
}

CODES = {
    "order_unique_key": "INVALID_REQUEST",
    "instrument": "INVALID_INSTRUMENT",
    "side": "INVALID_REQUEST",
    "total_quantity": "INVALID_QUANTITY",
    "split_config": "INVALID_SPLIT_CONFIG",
    "split_config.num_splits": "INVALID_SPLIT_CONFIG",
    "split_config.duration_minutes": "INVALID_SPLIT_CONFIG",
    "split_config.randomize": "INVALID_SPLIT_CONFIG",
}
"""The error code of each field."""

JSON_TYPES = {
    "null": "null",
    "true or false": "true",
    "a whole number": "7",
    "a number with a fraction or exponent": "7.0",
    "a string": '"x"',
    "an array": "[7]",
    "an object": '{"a":7}',
}
"""A JSON text of each type, by its name in refusals."""

RIGHT_TYPES = {
    "order_unique_key": "a string",
    "instrument": "a string",
    "side": "a string",
    "total_quantity": "a whole number",
    "split_config": "an object",
    "split_config.num_splits": "a whole number",
    "split_config.duration_minutes": "a whole number",
    "split_config.randomize": "true or false",
}


def parsed(body: Any) -> OrderSpec:
    """Through JSON, as a request comes in."""
    return parse_order_request(json.dumps(body, ensure_ascii=False).encode())


def refusal_of(body: Any) -> OrderRefused:
    with pytest.raises(OrderRefused) as caught:
        parsed(body)
    return caught.value


def with_field(field: str, value: object) -> dict[str, Any]:
    """The good body with one field changed; a dotted one is in split_config."""
    outer, _, inner = field.partition(".")
    if inner:
        return GOOD | {outer: GOOD[outer] | {inner: value}}
    return GOOD | {outer: value}


def without(field: str) -> dict[str, Any]:
    outer, _, inner = field.partition(".")
    body = {name: value for name, value in GOOD.items() if inner or name != outer}
    if inner:
        body[outer] = {name: value for name, value in GOOD[outer].items() if name != inner}
    return body


def assert_refused(field: str, value: object, problem: str) -> None:
    refusal = refusal_of(with_field(field, value))
    assert (refusal.field, refusal.code) == (field, CODES[field])
    assert str(refusal) == f"{field} {problem}: expected {refusal.expected}"


def assert_accepted(field: str, value: object) -> None:
    order = parsed(with_field(field, value))
    outer, _, inner = field.partition(".")
    assert getattr(order.split_config if inner else order, inner or outer) == value


# Whole requests


def test_a_good_request_is_accepted() -> None:
    assert msgspec.structs.asdict(parsed(GOOD)) == GOOD | {
        "split_config": SplitConfigRequest(num_splits=5, duration_minutes=60, randomize=True)
    }


@pytest.mark.parametrize("field", [name for name in CODES if name != "split_config.randomize"])
def test_a_missing_field_is_named(field: str) -> None:
    refusal = refusal_of(without(field))
    assert (refusal.code, refusal.field) == ("INVALID_REQUEST", field)
    assert str(refusal) == f"{field} is missing: expected this required field"


def test_randomize_is_true_by_default() -> None:
    assert parsed(without("split_config.randomize")).split_config.randomize is True


def test_an_empty_request_is_refused() -> None:
    assert refusal_of({}).code == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("body", "problem"),
    [(None, "null"), ([], "an array"), ("x", "a string"), (7, "a whole number")],
)
def test_a_request_that_is_not_an_object_is_refused(body: object, problem: str) -> None:
    refusal = refusal_of(body)
    assert (refusal.code, refusal.field) == ("INVALID_REQUEST", None)
    assert str(refusal) == f"the body is {problem}: expected a JSON object"


@pytest.mark.parametrize("name", ["price", "", "a`b", "x` - at `$.side", "y` - at `$.z", "\n`"])
def test_an_unknown_field_is_refused(name: str) -> None:
    refusal = refusal_of(GOOD | {name: 1})
    assert refusal.code == "INVALID_REQUEST"
    assert str(refusal.field).endswith(name.partition("` - at")[0])
    assert refusal.expected == f"only {', '.join(GOOD)}"


@pytest.mark.parametrize("field", [*CODES, "split_config"])
def test_a_repeated_field_is_refused_and_named(field: str) -> None:
    name = field.rpartition(".")[2]
    text = json.dumps(GOOD)
    for escaped in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
        repeated = text.replace(f'"{name}":', f'"{escaped}": [], "{name}":')
        with pytest.raises(OrderRefused) as caught:
            parse_order_request(repeated.encode())
        assert (caught.value.field, caught.value.code) == (field, "INVALID_REQUEST")
        assert str(caught.value) == f"{field} is repeated: expected the field once"


def test_a_value_that_looks_like_a_field_name_is_not_a_repeated_field() -> None:
    assert_accepted("order_unique_key", "side")
    assert_accepted("order_unique_key", '","side":"SELL","side":"')


def test_a_body_that_is_not_json_cannot_be_read() -> None:
    for body in (b"", b"{", b"\xff", json.dumps(GOOD).encode() + b"{}"):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            parse_order_request(body)


@pytest.mark.parametrize("name", ["price", "", "Randomize", "num_splits ", "a\nb"])
def test_an_unknown_field_of_split_config_is_refused(name: str) -> None:
    refusal = refusal_of(
        with_field(f"split_config.{name}", 1)
        if name
        else GOOD | {"split_config": GOOD["split_config"] | {"": 1}}
    )
    assert (refusal.code, refusal.field) == ("INVALID_REQUEST", f"split_config.{name}")
    expected = "only num_splits, duration_minutes, randomize, start_at, session_policy"
    assert refusal.expected == expected


@pytest.mark.parametrize(
    ("field", "json_type"),
    [(field, name) for field in CODES for name in JSON_TYPES if name != RIGHT_TYPES[field]],
)
def test_nothing_is_coerced_from_another_json_type(field: str, json_type: str) -> None:
    assert_refused(field, json.loads(JSON_TYPES[json_type]), f"is {json_type}")


@pytest.mark.parametrize("text", ['"100"', "100.0", "1e2", "1E2", "true", "100.5", '"5"', "[100]"])
@pytest.mark.parametrize(
    "field", ["total_quantity", "split_config.num_splits", "split_config.duration_minutes"]
)
def test_a_value_that_only_looks_like_a_whole_number_is_refused(field: str, text: str) -> None:
    body = json.dumps(with_field(field, "HERE")).replace('"HERE"', text)
    with pytest.raises(OrderRefused) as caught:
        parse_order_request(body.encode())
    assert (caught.value.field, caught.value.code) == (field, CODES[field])


@pytest.mark.parametrize("value", [0, 1, "true", "false"])
def test_only_true_and_false_are_booleans(value: object) -> None:
    assert refusal_of(with_field("split_config.randomize", value)).code == "INVALID_SPLIT_CONFIG"


# order_unique_key

CONTROL_CHARACTERS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]


@pytest.mark.parametrize(
    "key", ["k", "k" * 255, "😀" * 255, "a b", "a\u00a0\u3000b", "~", "\u00e9", "é\u0301"]
)
def test_a_key_of_1_to_255_characters_is_accepted(key: str) -> None:
    assert_accepted("order_unique_key", key)


@pytest.mark.parametrize(
    ("length", "problem"), [(0, "is too short"), (256, "is too long"), (10_000, "is too long")]
)
def test_a_key_of_another_length_is_refused(length: int, problem: str) -> None:
    assert_refused("order_unique_key", "k" * length, problem)


@pytest.mark.parametrize("character", CONTROL_CHARACTERS, ids=lambda c: f"U+{ord(c):04X}")
def test_a_key_with_a_control_character_at_any_position_is_refused(character: str) -> None:
    for key in (character, f"{character}k", f"k{character}", f"k{character}k"):
        assert_refused("order_unique_key", key, "has the wrong format")


AT_AN_END = "begins or ends with white space or an invisible character"
BLANKS = [
    " ",
    *(chr(code) for code in range(0xA0, 0x110000) if chr(code).isspace()),
    *"\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202e\u2060\u2066\ufeff\U000e0041",
]


@pytest.mark.parametrize("blank", BLANKS, ids=lambda c: f"U+{ord(c):04X}")
def test_a_key_with_white_space_or_an_invisible_character_at_either_end_is_refused(
    blank: str,
) -> None:
    for key in (blank, f"{blank}k", f"k{blank}"):
        assert_refused("order_unique_key", key, AT_AN_END)
    # EN QUAD and EM QUAD have another form in NFC
    if is_normalized("NFC", blank):
        assert_accepted("order_unique_key", f"k{blank}k")


@pytest.mark.parametrize("key", ["e\u0301", "\u212b", "\u1112\u1161", "a\u0323\u0307b", "\u2126"])
def test_a_key_that_is_not_in_nfc_is_refused_and_its_nfc_form_accepted(key: str) -> None:
    assert_refused("order_unique_key", key, "is not in Unicode NFC")
    assert_accepted("order_unique_key", normalize("NFC", key))


@pytest.mark.parametrize("key", ["ouk ", " ouk", "\u3000", "e\u0301", "k" * 255])
def test_a_stored_order_keeps_a_key_that_a_new_one_may_no_longer_have(key: str) -> None:
    require_valid_order(place_order(key).spec)


@pytest.mark.parametrize(
    ("stored", "code"),
    [
        (place_order(""), "INVALID_REQUEST"),
        (place_order("k" * 256), "INVALID_REQUEST"),
        (place_order("a\nb"), "INVALID_REQUEST"),
        (place_order(instrument="NYSE:IBM"), "INVALID_INSTRUMENT"),
        (place_order(total_quantity=10**9 + 1), "INVALID_QUANTITY"),
        (place_order(total_quantity=4), "INVALID_QUANTITY"),
        (place_order(total_quantity=10**9, num_splits=10**9), "INVALID_SPLIT_CONFIG"),
        (place_order(duration_minutes=0), "INVALID_SPLIT_CONFIG"),
    ],
)
def test_a_stored_order_that_breaks_a_rule_of_every_release_is_refused(
    stored: PlaceOrder, code: str
) -> None:
    with pytest.raises(OrderRefused) as caught:
        require_valid_order(stored.spec)
    assert caught.value.code == code


# instrument


@pytest.mark.parametrize(
    "instrument",
    ["NSE:RELIANCE", "NSE:M&M", "NSE:BAJAJ-AUTO", "BSE:500325", "NSE:A", "BSE:" + "A" * 46],
)
def test_a_valid_instrument_is_accepted(instrument: str) -> None:
    assert_accepted("instrument", instrument)
    assert len(instrument) <= 50


def test_an_instrument_of_51_characters_is_refused() -> None:
    assert_refused("instrument", "NSE:" + "A" * 47, "is too long")


@pytest.mark.parametrize(
    "instrument",
    [
        "",
        "NSE",
        "NSE:",
        ":RELIANCE",
        "RELIANCE",
        "NSE:reliance",
        "nse:RELIANCE",
        "NYSE:IBM",
        "NSE:RELIANCE\n",
        "NSE:RELIANCE\r\n",
        "\nNSE:RELIANCE",
        "NSE:REL\nIANCE",
        " NSE:RELIANCE",
        "NSE:RELIANCE ",
        "NSE: RELIANCE",
        "NSE::RELIANCE",
        "NSE:NSE:RELIANCE",
        "NSE:REL_IANCE",
        "NSE:REL.IANCE",
        "NSE:RELIANCÉ",
        "NSE:\u0661\u0662\u0663",
        "NSE:\uff21",
        "NSE:RELIANCE\x00",
        "BNSE:RELIANCE",
    ],
    ids=repr,
)
def test_an_instrument_of_another_form_is_refused(instrument: str) -> None:
    assert_refused("instrument", instrument, "has the wrong format")


# side


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_an_order_buys_or_sells(side: str) -> None:
    assert_accepted("side", side)


@pytest.mark.parametrize("side", ["", "buy", "Sell", "BUY ", "BUY\n", "HOLD", "BUYSELL"])
def test_any_other_side_is_refused(side: str) -> None:
    assert_refused("side", side, "is not allowed")


# total_quantity


@pytest.mark.parametrize("quantity", [5, 6, 999_999_999, 1_000_000_000])
def test_a_quantity_from_num_splits_to_a_billion_is_accepted(quantity: int) -> None:
    assert_accepted("total_quantity", quantity)


@pytest.mark.parametrize("quantity", [0, -1, -(10**30), 1_000_000_001, 2**63, 2**64, 10**30])
def test_a_quantity_out_of_range_is_refused(quantity: int) -> None:
    assert_refused("total_quantity", quantity, "is out of range")
    refusal = refusal_of(with_field("total_quantity", quantity))
    assert refusal.expected == "a whole number from 1 to 1,000,000,000"


@pytest.mark.parametrize(("num_splits", "quantity"), [(5, 4), (5, 1), (2, 1), (100, 99)])
def test_fewer_shares_than_slices_are_refused(num_splits: int, quantity: int) -> None:
    body = with_field("split_config.num_splits", num_splits) | {"total_quantity": quantity}
    refusal = refusal_of(body)
    assert (refusal.code, refusal.field) == ("INVALID_QUANTITY", "total_quantity")
    assert refusal.expected == f"at least num_splits ({num_splits}), one share per slice"
    assert str(refusal).startswith(f"total_quantity is {quantity}: expected")


@pytest.mark.parametrize("num_splits", [2, 99, 100])
def test_as_many_shares_as_slices_are_enough(num_splits: int) -> None:
    body = with_field("split_config.num_splits", num_splits) | {"total_quantity": num_splits}
    assert parsed(body).total_quantity == num_splits


# split_config


@pytest.mark.parametrize(
    ("name", "least", "most", "expected"),
    [
        ("num_splits", 2, 100, "a whole number from 2 to 100"),
        ("duration_minutes", 1, 1440, "a whole number from 1 to 1,440"),
    ],
)
def test_a_number_of_split_config_lies_within_its_range(
    name: str, least: int, most: int, expected: str
) -> None:
    field = f"split_config.{name}"
    for value in (least, least + 1, most - 1, most):
        assert_accepted(field, value)
    for value in (least - 1, 0, -least, most + 1, 10**30):
        assert_refused(field, value, "is out of range")
        assert refusal_of(with_field(field, value)).expected == expected


@pytest.mark.parametrize("randomize", [True, False])
def test_the_requested_randomisation_is_kept(randomize: object) -> None:
    assert_accepted("split_config.randomize", randomize)


# start_at and session_policy

START_AT_EXPECTED = "an RFC 3339 time with its offset from UTC, such as 2026-03-02T09:15:00+05:30"


@pytest.mark.parametrize("field", ["start_at", "session_policy"])
def test_a_start_and_policy_that_are_not_given_are_null(field: str) -> None:
    assert getattr(parsed(GOOD).split_config, field) is None
    assert getattr(parsed(with_field(f"split_config.{field}", None)).split_config, field) is None


@pytest.mark.parametrize(
    ("text", "in_utc"),
    [
        ("2026-03-02T09:15:00+05:30", datetime(2026, 3, 2, 3, 45, tzinfo=UTC)),
        ("2026-03-02T03:45:00Z", datetime(2026, 3, 2, 3, 45, tzinfo=UTC)),
        ("2026-03-02T03:45:00.000001z", datetime(2026, 3, 2, 3, 45, 0, 1, tzinfo=UTC)),
        ("2024-02-29T00:00:00-12:00", datetime(2024, 2, 29, 12, tzinfo=UTC)),
    ],
)
def test_a_start_is_kept_in_utc_and_the_same_instant_is_the_same_order(
    text: str, in_utc: datetime
) -> None:
    order = parsed(with_field("split_config.start_at", text))
    start_at = order.split_config.start_at
    assert start_at == in_utc
    assert start_at is not None
    assert start_at.tzinfo is UTC
    again = parsed(with_field("split_config.start_at", in_utc.isoformat()))
    assert again == order


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("2026-03-02T09:15:00", "has no offset from UTC"),
        ("2026-02-30T09:15:00Z", "is not a valid time"),
        ("2026-03-02T24:00:00Z", "is not a valid time"),
        ("2026-03-02", "is not a valid time"),
        ("tomorrow", "is not a valid time"),
        ("", "is not a valid time"),
        ("0001-01-01T00:00:00+05:30", "is not a valid time"),
        ("9999-12-31T23:59:59-00:01", "is not a valid time"),
        (1772423100, "is a whole number"),
        (1772423100.5, "is a number with a fraction or exponent"),
        (True, "is true or false"),
        (["2026-03-02T03:45:00Z"], "is an array"),
    ],
)
def test_a_start_that_is_not_a_time_with_an_offset_is_refused(value: object, problem: str) -> None:
    refusal = refusal_of(with_field("split_config.start_at", value))
    assert (refusal.code, refusal.field) == ("INVALID_SPLIT_CONFIG", "split_config.start_at")
    assert str(refusal) == f"split_config.start_at {problem}: expected {START_AT_EXPECTED}"


@pytest.mark.parametrize("policy", SESSION_POLICIES)
def test_the_requested_policy_is_kept(policy: str) -> None:
    assert_accepted("split_config.session_policy", policy)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("none", "is not allowed"),
        ("SKIP", "is not allowed"),
        ("", "is not allowed"),
        (1, "is a whole number"),
        (["CLIP"], "is an array"),
    ],
)
def test_an_unknown_policy_is_refused(value: object, problem: str) -> None:
    refusal = refusal_of(with_field("split_config.session_policy", value))
    assert (refusal.code, refusal.field) == ("INVALID_SPLIT_CONFIG", "split_config.session_policy")
    expected = "CLIP or NONE or REJECT or ROLL"
    assert str(refusal) == f"split_config.session_policy {problem}: expected {expected}"


def test_a_repeated_start_or_policy_is_refused() -> None:
    for field in ("start_at", "session_policy"):
        body = json.dumps(with_field(f"split_config.{field}", None))
        twice = body.replace(f'"{field}": null', f'"{field}": null, "{field}": null')
        with pytest.raises(OrderRefused) as caught:
            parse_order_request(twice.encode())
        assert caught.value.field == f"split_config.{field}"
        assert "is repeated" in str(caught.value)


def test_an_order_without_start_and_policy_is_encoded_without_the_fields() -> None:
    encoded = msgspec.json.encode(parsed(GOOD))
    assert b"start_at" not in encoded
    assert b"session_policy" not in encoded
    assert parse_order_request(encoded) == parsed(GOOD)
