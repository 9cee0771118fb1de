"""The laws of an order request: what keeps every rule is accepted, anything else is refused.

The rules are written here again, as one predicate over arbitrary JSON.
"""

import json
import re
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pulse.domain import OrderRefused, parse_order_request
from pulse.testing import order_request_bodies

CODES = {"INVALID_REQUEST", "INVALID_INSTRUMENT", "INVALID_QUANTITY", "INVALID_SPLIT_CONFIG"}
TOP_FIELDS = ("order_unique_key", "instrument", "side", "total_quantity", "split_config")
AT_NO_END = {"Zs", "Zl", "Zp", "Cc", "Cf"}
FIELDS = (
    *TOP_FIELDS,
    "split_config.num_splits",
    "split_config.duration_minutes",
    "split_config.randomize",
    "split_config.start_at",
    "split_config.session_policy",
)


def is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def keeps_every_rule(body: dict[str, Any]) -> bool:
    """The rules of every field, without their error codes."""
    config = body.get("split_config")
    if not isinstance(config, dict):
        return False
    key, instrument = body.get("order_unique_key"), body.get("instrument")
    return (
        {"num_splits", "duration_minutes"} <= set(config)
        and {f"split_config.{name}" for name in config} <= set(FIELDS)
        and is_whole(config["num_splits"], 2, 100)
        and is_whole(config["duration_minutes"], 1, 1440)
        and isinstance(config.get("randomize", True), bool)
        and config.get("start_at") is None
        and config.get("session_policy") in (None, "NONE", "REJECT", "CLIP", "ROLL")
        and is_whole(body.get("total_quantity"), config["num_splits"], 1_000_000_000)
        and body.get("side") in ("BUY", "SELL")
        and isinstance(instrument, str)
        and len(instrument) <= 50
        and re.match(r"\A(NSE|BSE):[ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&\-]+\Z", instrument)
        is not None
        and isinstance(key, str)
        and 0 < len(key) < 256
        and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in key)
        and not {unicodedata.category(key[0]), unicodedata.category(key[-1])} & AT_NO_END
        and key == unicodedata.normalize("NFC", key)
    )


ANY_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from((0, 1, 2, 100, 101, 1440, 1441, 10**9, 10**9 + 1, "BUY", "NSE:A", "")),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def nearly_right_bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A good body, of which some fields are dropped or replaced by arbitrary JSON values."""
    body: dict[str, Any] = draw(order_request_bodies())
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=2, unique=True)):
        outer, _, inner = name.partition(".")
        holder = body.get(outer) if inner else body
        if not isinstance(holder, dict):
            continue
        if draw(st.integers(0, 4)) == 0:
            holder.pop(inner or outer, None)
        else:
            holder[inner or outer] = draw(ANY_JSON)
    if isinstance(body.get("split_config"), dict) and draw(st.integers(0, 9)) == 0:
        body["split_config"][draw(st.text(max_size=5))] = draw(ANY_JSON)
    return body


@settings(max_examples=200)
@given(nearly_right_bodies())
def test_a_request_is_accepted_exactly_if_it_keeps_every_rule(body: dict[str, Any]) -> None:
    if not keeps_every_rule(body):
        with pytest.raises(OrderRefused) as caught:
            parse_order_request(json.dumps(body).encode())
        assert caught.value.code in CODES
        return
    order = parse_order_request(json.dumps(body).encode())
    omitted = {"randomize": True, "start_at": None, "session_policy": None}
    split_config = omitted | body["split_config"]
    asked = msgspec.structs.asdict(order.split_config)
    assert msgspec.structs.asdict(order) | {"split_config": asked} == body | {
        "split_config": split_config
    }


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(TOP_FIELDS, ANY_JSON)))
def test_arbitrary_json_in_every_field_is_refused_and_never_crashes(body: dict[str, Any]) -> None:
    assume(not keeps_every_rule(body))
    with pytest.raises(OrderRefused):
        parse_order_request(json.dumps(body).encode())


@given(order_request_bodies())
def test_every_good_request_is_accepted(body: dict[str, Any]) -> None:
    assert keeps_every_rule(body)
    order = parse_order_request(json.dumps(body).encode())
    assert order.order_unique_key == body["order_unique_key"]
