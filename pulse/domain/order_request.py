"""The order request: one struct decodes it, validates it, and becomes the order's spec.

Nothing is coerced: `"100"`, `100.0`, `1e2` and `true` are not quantities. Rules that
a constraint cannot express are functions in this module.
"""

import json
import re
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pulse.domain.constraints import field_fault_of
from pulse.domain.errors import OrderRefused
from pulse.domain.values import SessionPolicy, Value

MAX_QUANTITY: Final = 1_000_000_000
MIN_SPLITS: Final = 2
MAX_SPLITS: Final = 100
MAX_DURATION_MINUTES: Final = 1440

INVALID_REQUEST: Final = "INVALID_REQUEST"
INVALID_INSTRUMENT: Final = "INVALID_INSTRUMENT"
INVALID_SPLIT_CONFIG: Final = "INVALID_SPLIT_CONFIG"
_CODES: Final = {
    "instrument": INVALID_INSTRUMENT,
    "total_quantity": "INVALID_QUANTITY",
    "split_config": INVALID_SPLIT_CONFIG,
}
"""The error code of an invalid value, by field; INVALID_REQUEST for all others."""

_END: Final = r"(?![\s\S])"
"""The end of the string in every regex dialect; `$` would also match before a final newline."""

KEY_EXPECTED: Final = (
    "1 to 255 characters in Unicode NFC, without control characters, and with neither white space "
    "nor an invisible character (categories Zs, Zl, Zp, Cc, Cf) at either end"
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
Splits = Annotated[int, Meta(ge=MIN_SPLITS, le=MAX_SPLITS, description="number of slices")]
Minutes = Annotated[
    int,
    Meta(ge=1, le=MAX_DURATION_MINUTES, description="from the first slice to the last, in minutes"),
]
Randomize = Annotated[
    bool, Meta(description="whether to vary quantities and times around an even split")
]

START_AT_EXPECTED: Final = (
    "an RFC 3339 time with its offset from UTC, such as 2026-03-02T09:15:00+05:30"
)
StartAt = Annotated[
    datetime,
    Meta(tz=True, description=START_AT_EXPECTED, examples=["2026-03-02T09:15:00+05:30"]),
]

SplitSeed = Annotated[
    str,
    Meta(
        pattern=rf"^[0-9a-f]{{16}}{_END}",
        description="16 hex digits in lower case, as in OrderCreated",
        examples=["28ce6f2410645d51"],
    ),
]


class SplitConfig(Value, frozen=True):
    """How an order is split. `start_at` and `session_policy` are null if they were not given."""

    num_splits: Splits
    duration_minutes: Minutes
    randomize: Randomize
    start_at: StartAt | None
    session_policy: SessionPolicy | None


class SplitConfigRequest(SplitConfig, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to split the order. An invalid value here is `INVALID_SPLIT_CONFIG`.

    `start_at` is when the first slice is due: from now to 30 days ahead, by default the time of
    acceptance. `session_policy` says how the window is handled outside trading sessions; its
    default is a setting of Pulse.
    """

    randomize: Randomize = True
    start_at: StartAt | None = None
    session_policy: SessionPolicy | None = None


class OrderSpec(Value, frozen=True, forbid_unknown_fields=True):
    """What the caller asks for. Requests with the same key and equal specs are the same order.

    Nothing is coerced (`100.0` and `true` are not quantities), other fields are refused, and no
    field may be repeated. An invalid instrument is `INVALID_INSTRUMENT`; an invalid quantity, or
    one of less than one share per slice, is `INVALID_QUANTITY`; an invalid value in `split_config`
    is `INVALID_SPLIT_CONFIG`; everything else is `INVALID_REQUEST`.
    """

    order_unique_key: OrderUniqueKey
    instrument: Instrument
    side: Side
    total_quantity: Quantity
    split_config: SplitConfigRequest


SpecT = TypeVar("SpecT", bound=OrderSpec)


class PreviewRequest(OrderSpec, frozen=True, forbid_unknown_fields=True):
    """An order to preview: the same fields and rules, and optionally the seed of its schedule."""

    split_seed: SplitSeed | UnsetType = UNSET

    @property
    def spec(self) -> OrderSpec:
        """The order without the seed."""
        return _spec_of(self)


def _spec_of(request: PreviewRequest) -> OrderSpec:
    return OrderSpec(**{name: getattr(request, name) for name in OrderSpec.__struct_fields__})


class _RequestParser(Generic[SpecT]):
    """Parses the JSON of requests that have the fields of this struct."""

    def __init__(self, struct: type[SpecT]) -> None:
        self._struct = struct
        self._decoder = msgspec.json.Decoder(struct)
        self._paths = {name: name for name in struct.__struct_fields__} | {
            name: f"split_config.{name}" for name in SplitConfigRequest.__struct_fields__
        }
        self._names = re.compile(f'"({"|".join(self._paths)})"'.encode())

    def parse(self, body: bytes) -> SpecT:
        try:
            request = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            with suppress(ValueError, RecursionError):
                self._refuse_repeated_fields(body)
            raise _refusal(error, self._struct) from None
        # The decoder takes the last of repeated fields, other parsers the first, so they are
        # refused. A name that is found once is not repeated, unless it is written with escapes.
        names = self._names.findall(body)
        if b"\\" in body or len(set(names)) < len(names):
            self._refuse_repeated_fields(body)
        _require_new_key(request.order_unique_key)
        _require_one_share_per_slice(request)
        return _with_start_in_utc(request)

    def _refuse_repeated_fields(self, body: bytes) -> None:
        json.loads(body, object_pairs_hook=self._unique_fields, parse_int=str)

    def _unique_fields(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """The object, refused if it repeats a field.

        A repeated name that is not a field is inside an invalid value, which is refused anyway.
        """
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if name in fields and name in self._paths:
                path = self._paths[name]
                raise OrderRefused(INVALID_REQUEST, path, "the field once", "is repeated")
            fields[name] = value
        return fields


_orders = _RequestParser(OrderSpec)
_previews = _RequestParser(PreviewRequest)


def parse_order_request(body: bytes) -> OrderSpec:
    """The order that the JSON of a new request asks for.

    Raises:
        OrderRefused: a rule is broken; the error has the field, the code and what is valid.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: the body is not JSON.
    """
    return _orders.parse(body)


def parse_preview_request(body: bytes) -> PreviewRequest:
    """The order that the JSON of a preview asks for, and its seed; errors as for an order."""
    return _previews.parse(body)


def require_valid_order(spec: OrderSpec) -> None:
    """Refuse a stored order that Pulse can never have accepted.

    The newer rules for keys apply to new requests only: a stored key may begin or end with white
    space, or not be in Unicode NFC.

    Raises:
        OrderRefused: the order breaks a rule that every accepted order satisfies.
    """
    try:
        msgspec.convert(msgspec.to_builtins(spec), OrderSpec)
    except msgspec.ValidationError as error:
        raise _refusal(error, OrderSpec) from None
    _require_one_share_per_slice(spec)


def _refusal(error: msgspec.ValidationError, struct: type[OrderSpec]) -> OrderRefused:
    fault = field_fault_of(error, struct)
    code = _CODES.get((fault.field or "").partition(".")[0]) if fault.in_value else None
    return OrderRefused(code or INVALID_REQUEST, fault.field, fault.expected, fault.problem)


def _require_new_key(key: str) -> None:
    """Refuse a key that is not in NFC, or has white space or an invisible character at an end.

    If a retry normalised the key or dropped such a character, the order would be placed twice.
    """
    if unicodedata.category(key[0]) in _INVISIBLE or unicodedata.category(key[-1]) in _INVISIBLE:
        problem = "begins or ends with white space or an invisible character"
    elif not unicodedata.is_normalized("NFC", key):
        problem = "is not in Unicode NFC"
    else:
        return
    raise OrderRefused(INVALID_REQUEST, "order_unique_key", KEY_EXPECTED, problem)


def _with_start_in_utc(request: SpecT) -> SpecT:
    """The same request, with `start_at` in UTC as Pulse stores and answers it."""
    config = request.split_config
    if config.start_at is None:
        return request
    try:
        start_at = config.start_at.astimezone(UTC)
    except OverflowError:  # outside the years 1 to 9999 in UTC
        problem = "is not a valid time"
        raise OrderRefused(
            INVALID_SPLIT_CONFIG, "split_config.start_at", START_AT_EXPECTED, problem
        ) from None
    config = msgspec.structs.replace(config, start_at=start_at)
    return msgspec.structs.replace(request, split_config=config)


def _require_one_share_per_slice(spec: OrderSpec) -> None:
    quantity, num_splits = spec.total_quantity, spec.split_config.num_splits
    if quantity < num_splits:
        expected = f"at least num_splits ({num_splits}), one share per slice"
        raise OrderRefused(_CODES["total_quantity"], "total_quantity", expected, f"is {quantity}")
