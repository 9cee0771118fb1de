"""The order request: one struct that decodes, states every rule, and becomes the order's spec.

Nothing is coerced: `"100"`, `100.0`, `1e2` and `true` are not quantities. The contract's rules that
no constraint expresses are functions beside the struct.
"""

import json
import re
import unicodedata
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pulse.domain.constraints import fault_of
from pulse.domain.errors import OrderRefused
from pulse.domain.values import Value

MAX_QUANTITY: Final = 1_000_000_000
MIN_SPLITS: Final = 2
MAX_SPLITS: Final = 100
MAX_DURATION_MINUTES: Final = 1440

INVALID_REQUEST: Final = "INVALID_REQUEST"
_CODES: Final = {
    "instrument": "INVALID_INSTRUMENT",
    "total_quantity": "INVALID_QUANTITY",
    "split_config": "INVALID_SPLIT_CONFIG",
}
"""The code of a wrong value, by field; everything else is INVALID_REQUEST."""

_END: Final = r"(?![\s\S])"
"""The end of a string in patterns: unlike `$`, in every dialect, and before no newline."""

KEY_EXPECTED: Final = (
    "1 to 255 characters in Unicode NFC, without control characters, and without white space at "
    "either end, invisible characters included (categories Zs, Zl, Zp, Cc, Cf)"
)
_INVISIBLE: Final = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})

OrderUniqueKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=rf"^[^\u0000-\u001f\u007f-\u009f]+{_END}",
        description=KEY_EXPECTED,
        examples=["ouk_abc123xyz"],
    ),
]
Instrument = Annotated[
    str,
    Meta(
        max_length=50,
        pattern=rf"^(NSE|BSE):[A-Z0-9&-]+{_END}",
        description="EXCHANGE:SYMBOL with exchange NSE or BSE and a symbol of A-Z, 0-9, & and -, "
        "at most 50 characters, such as NSE:RELIANCE",
        examples=["NSE:RELIANCE"],
    ),
]
Side = Literal["BUY", "SELL"]
Quantity = Annotated[int, Meta(ge=1, le=MAX_QUANTITY, description="in shares")]
Splits = Annotated[
    int, Meta(ge=MIN_SPLITS, le=MAX_SPLITS, description="into how many slices to split")
]
Minutes = Annotated[
    int,
    Meta(ge=1, le=MAX_DURATION_MINUTES, description="from the first slice to the last, in minutes"),
]
Randomize = Annotated[
    bool, Meta(description="whether quantities and times vary around their even places")
]


class SplitConfig(Value, frozen=True):
    """How an order is split, after defaults."""

    num_splits: Splits
    duration_minutes: Minutes
    randomize: Randomize


class SplitConfigRequest(SplitConfig, frozen=True, forbid_unknown_fields=True):
    """How to split the order. A wrong value here is `INVALID_SPLIT_CONFIG`."""

    randomize: Randomize = True


class OrderSpec(Value, frozen=True, forbid_unknown_fields=True):
    """What the caller asks for: what makes two requests under one key the same order.

    Nothing is coerced (`100.0` and `true` are no quantities), no other field is taken, and no field
    may be repeated. A wrong instrument is `INVALID_INSTRUMENT`, a wrong quantity or one of less
    than a share a slice `INVALID_QUANTITY`, everything else `INVALID_REQUEST`.
    """

    order_unique_key: OrderUniqueKey
    instrument: Instrument
    side: Side
    total_quantity: Quantity
    split_config: SplitConfigRequest


_decoder = msgspec.json.Decoder(OrderSpec)
_PATHS: Final = {name: name for name in OrderSpec.__struct_fields__} | {
    name: f"split_config.{name}" for name in SplitConfigRequest.__struct_fields__
}
_NAMES: Final = re.compile(f'"({"|".join(_PATHS)})"'.encode())


def parse_order_request(body: bytes) -> OrderSpec:
    """The order that a new request, in JSON, asks for.

    Raises:
        OrderRefused: a rule is broken; it names the field, the code and what was expected.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: the body is not JSON.
    """
    try:
        spec = _decoder.decode(body)
    except msgspec.ValidationError as error:
        with suppress(ValueError, RecursionError):
            _refuse_repeated_fields(body)
        raise _refusal(error) from None
    # JSON leaves open which of two counts, and the decoder takes the last. A name that is found
    # once cannot be repeated, unless it is written with escapes.
    names = _NAMES.findall(body)
    if b"\\" in body or len(set(names)) < len(names):
        _refuse_repeated_fields(body)
    _require_new_key(spec.order_unique_key)
    _require_share_a_slice(spec)
    return spec


def require_valid_order(spec: OrderSpec) -> None:
    """Refuse a stored order that was never accepted.

    Rules of a key that were added after orders had been accepted judge new requests only: a stored
    key may have white space at an end, or not be in Unicode NFC.

    Raises:
        OrderRefused: a rule is broken that every accepted order keeps.
    """
    try:
        msgspec.convert(msgspec.to_builtins(spec), OrderSpec)
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    _require_share_a_slice(spec)


def _refusal(error: msgspec.ValidationError) -> OrderRefused:
    fault = fault_of(error, OrderSpec)
    code = _CODES.get((fault.field or "").partition(".")[0]) if fault.in_value else None
    return OrderRefused(code or INVALID_REQUEST, fault.field, fault.expected, fault.problem)


def _refuse_repeated_fields(body: bytes) -> None:
    json.loads(body, object_pairs_hook=_fields_once, parse_int=str)


def _fields_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Any other name is within a value that its field's rule refuses."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields and name in _PATHS:
            raise OrderRefused(INVALID_REQUEST, _PATHS[name], "the field once", "is repeated")
        fields[name] = value
    return fields


def _require_new_key(key: str) -> None:
    """Two keys that read alike are one key, so that a stray blank cannot double an order."""
    if unicodedata.category(key[0]) in _INVISIBLE or unicodedata.category(key[-1]) in _INVISIBLE:
        problem = "has white space, or an invisible character, at an end"
    elif not unicodedata.is_normalized("NFC", key):
        problem = "is not in Unicode NFC"
    else:
        return
    raise OrderRefused(INVALID_REQUEST, "order_unique_key", KEY_EXPECTED, problem)


def _require_share_a_slice(spec: OrderSpec) -> None:
    quantity, num_splits = spec.total_quantity, spec.split_config.num_splits
    if quantity < num_splits:
        expected = f"at least num_splits ({num_splits}), one share a slice"
        raise OrderRefused(_CODES["total_quantity"], "total_quantity", expected, f"is {quantity}")
