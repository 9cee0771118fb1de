"""The shapes of requests and answers, with the bounds that the rules themselves have."""

from typing import Any, Final, get_args

from pulse.domain import Side
from pulse.domain.order_request import (
    MAX_DURATION_MINUTES,
    MAX_QUANTITY,
    MAX_SPLITS,
    MIN_SPLITS,
)

Schema = dict[str, Any]

TIME: Final[Schema] = {
    "type": "string",
    "format": "date-time",
    "description": "RFC 3339 in UTC with `Z`, to the microsecond; no fraction where it is zero",
}
ORDER_ID: Final[Schema] = {"type": "string", "format": "uuid"}
POSITION: Final[Schema] = {
    "type": "integer",
    "minimum": 1,
    "description": "place in the whole log, in the order of commits",
}
SIDE: Final[Schema] = {"type": "string", "enum": list(get_args(Side))}
STATUS: Final[Schema] = {
    "type": "string",
    "enum": ["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"],
}
INSTRUMENT: Final[Schema] = {
    "type": "string",
    "pattern": "^(NSE|BSE):[A-Z0-9&-]+$",
    "maxLength": 50,
    "description": "`EXCHANGE:SYMBOL`; a wrong one is `INVALID_INSTRUMENT`",
}


def ref(name: str) -> Schema:
    """A reference to a named shape."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(description: str, optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object of exactly these properties."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def list_of(items: Schema, **more: Any) -> Schema:  # noqa: ANN401 - keywords of JSON Schema
    """An array."""
    return {"type": "array", "items": items, **more}


def whole(least: int, most: int | None = None, description: str = "") -> Schema:
    """A whole number within its bounds."""
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return {"type": "integer", **bounds, **({"description": description} if description else {})}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def text(description: str = "") -> Schema:
    """Any string."""
    return {"type": "string", "description": description} if description else {"type": "string"}


KEY: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
    "description": "the caller's own name for the order, without control characters. The same "
    "request again is answered with the same order; a key is spent for ever",
}
_BLANKS: Final = "\\s\\u200b-\\u200f\\u2060\\ufeff"
_CONTROLS: Final = "\\u0000-\\u001f\\u007f-\\u009f"
NEW_KEY: Final[Schema] = {
    **KEY,
    "pattern": f"^[^{_CONTROLS}{_BLANKS}]([^{_CONTROLS}]*[^{_CONTROLS}{_BLANKS}])?$",
    "description": f"{KEY['description']}. It is in Unicode NFC, and has no white space and no "
    "character of no width (U+200B to U+200F, U+2060, U+FEFF) at either end: keys that read alike "
    "are one key. Orders of before this rule keep their keys",
}
QUANTITY: Final = whole(
    1, MAX_QUANTITY, "in shares, and at least `num_splits`; a wrong one is `INVALID_QUANTITY`"
)
SPLITS: Final = whole(MIN_SPLITS, MAX_SPLITS, "into how many slices")
MINUTES: Final = whole(1, MAX_DURATION_MINUTES, "from the first slice to the last, in minutes")
RANDOMIZE: Final[Schema] = {
    "type": "boolean",
    "default": True,
    "description": "whether quantities and times vary around their even places",
}
SLICE: Final = record(
    "One timed part of an order.",
    sequence_number=whole(1, MAX_SPLITS),
    quantity=whole(1, MAX_QUANTITY, "in shares"),
    scheduled_at=TIME,
)

SHARED: Final[dict[str, Schema]] = {
    "OrderRequest": record(
        "A parent order. Nothing is coerced (`100.0` and `true` are no quantities), no other field "
        "is taken, and none may stand twice.",
        order_unique_key=NEW_KEY,
        instrument=INSTRUMENT,
        side=SIDE,
        total_quantity=QUANTITY,
        split_config=ref("SplitConfigRequest"),
    ),
    "SplitConfigRequest": record(
        "How to split it. A wrong value here is `INVALID_SPLIT_CONFIG`, a missing or unknown field "
        "`INVALID_REQUEST`.",
        optional=("randomize",),
        num_splits=SPLITS,
        duration_minutes=MINUTES,
        randomize=RANDOMIZE,
    ),
    "Placed": record(
        "The order that stands under the key.", order_id=ORDER_ID, order_unique_key=KEY
    ),
    "SplitConfig": record(
        "How the order is split, after defaults.",
        num_splits=SPLITS,
        duration_minutes=MINUTES,
        randomize={"type": "boolean"},
    ),
    "Slice": SLICE,
    "Order": record(
        "An order with its slices.",
        order_id=ORDER_ID,
        order_unique_key=KEY,
        instrument=INSTRUMENT,
        side=SIDE,
        total_quantity=whole(1, MAX_QUANTITY, "in shares"),
        split_config=ref("SplitConfig"),
        order_queue_status=STATUS,
        failure_reason=or_null(text("a code: TIMED_OUT, TOO_LATE, SPLITTING_ERROR, ...")),
        failure_message=or_null(text("its sentence")),
        version=whole(1, description="of its latest event in the order's own stream"),
        position={**POSITION, "description": "of its latest event in the whole log"},
        placed_by=text("who placed it"),
        created_at=TIME,
        updated_at=TIME,
        split_completed_at=or_null(TIME),
        claimed_by=or_null(text("the worker that has it; null unless IN_PROGRESS")),
        claimed_at=or_null(TIME),
        slices=list_of(ref("Slice")),
    ),
    "Error": record(
        "Every error has this shape.",
        error=record(
            "What went wrong.",
            code=text("for programs"),
            message=text("for people"),
            details={"type": "object", "description": "the facts; which ones depends on the code"},
        ),
    ),
}
"""What the internal API and the gateway both speak of."""
