"""Request bodies: JSON to order requests, every fault a plain refusal."""

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pulse.domain import OrderRequest
from pulse.domain.order_request import SPLIT_CONFIG_FIELDS, unknown_field, wrong_value
from pulse.errors import PulseError
from pulse.http.errors import TOO_LARGE, BadRequest
from pulse.http.limits import MAX_ORDER_BYTES

MAX_BATCH_ORDERS: Final = 1000
_MOST_ECHOED_CHARACTERS: Final = 72

_ORDER = msgspec.json.Decoder(OrderRequest)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_AT_PATH = re.compile(r"(.*) - at `\$\.(.*)`", re.DOTALL)


def require_json(content_type: str) -> None:
    """Refuse a body that does not say it is JSON."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequest(
            "the body must be JSON: send Content-Type: application/json",
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
            expected="application/json",
        )


def require_unencoded(content_encoding: bytes) -> None:
    """Refuse a body that its Content-Encoding header declares compressed or otherwise encoded."""
    encodings = content_encoding.decode("latin-1").lower().split(",")
    if any(encoding.strip() not in {"", "identity"} for encoding in encodings):
        shown = ascii(content_encoding.decode("latin-1")[:_MOST_ECHOED_CHARACTERS])[1:-1]
        raise BadRequest(
            f"Content-Encoding {shown} is not supported: send the body as it is, without that "
            "header",
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
            expected="no Content-Encoding, or identity",
        )


def decode_order(body: bytes) -> OrderRequest:
    """The order request in a body.

    Raises:
        BadRequest: the body is not one JSON object, or is larger than an order may be.
        OrderRefused: a field is not one of an order's, is repeated, or cannot be read.
    """
    if len(body) > MAX_ORDER_BYTES:
        raise BadRequest(TOO_LARGE, status=413, code="PAYLOAD_TOO_LARGE")
    if not body.strip():
        raise BadRequest("the body is empty: send an order as a JSON object", expected="an object")
    try:
        request = _ORDER.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(body, error) from None
    _refuse_doubled_fields(body, request)
    return request


def decode_batch(body: bytes) -> Sequence[bytes]:
    """The orders of a batch, each still undecoded, since each is accepted or refused on its own.

    Raises:
        BadRequest: the body is not a JSON array of 1 to 1000.
    """
    expected = f"an array of 1 to {MAX_BATCH_ORDERS} orders"
    if not body.strip():
        raise BadRequest(f"the body is empty: send {expected}", expected=expected)
    try:
        orders = [bytes(order) for order in _ARRAY.decode(body)]
    except msgspec.ValidationError:
        raise BadRequest(f"the body must be {expected}", expected=expected) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            orders = _split_array(body)
        except (ValueError, RecursionError):
            raise _unreadable(body, error) from None
    if not 1 <= len(orders) <= MAX_BATCH_ORDERS:
        raise BadRequest(f"the batch has {len(orders)} orders: send {expected}", expected=expected)
    return orders


_LENIENT: Final = json.JSONDecoder(parse_int=str, parse_float=str)
_OPENING = re.compile(r"[ \t\n\r]*\[[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_CLOSING = re.compile(r"[ \t\n\r]*\][ \t\n\r]*\Z")


def _split_array(body: bytes) -> list[bytes]:
    """The elements of an array that the strict decoder refuses as a whole, each as it was sent.

    One order with half a surrogate pair, say, must not refuse the others of its batch.

    Raises:
        ValueError: the body is not an array, or an element has no end.
        RecursionError: an element is nested too deeply.
    """
    text = body.decode("utf-8", "surrogateescape")
    elements: list[bytes] = []
    separator = _OPENING.match(text)
    while separator:
        start = separator.end()
        _, end = _LENIENT.raw_decode(text, start)
        elements.append(text[start:end].encode("utf-8", "surrogateescape"))
        separator = _COMMA.match(text, end)
        if separator is None and _CLOSING.match(text, end):
            return elements
    raise ValueError("not an array")


def _invalid(message: str) -> PulseError:
    unknown = _UNKNOWN_FIELD.match(message)
    if unknown:
        return unknown_field(unknown[1], OrderRequest.__struct_fields__)
    at_path = _AT_PATH.match(message)
    if at_path:
        return wrong_value(at_path[2].partition("[")[0], f"cannot be read ({at_path[1].lower()})")
    return BadRequest("the body must be a JSON object", expected="an object")


_BYTE_ORDER_MARKS: Final = (
    codecs.BOM_UTF8,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_BE,
)
_OF_SURROGATES = re.compile("surrogate|hex escape")  # as msgspec says it


def _unreadable(body: bytes, error: Exception) -> BadRequest:
    if body.startswith(_BYTE_ORDER_MARKS):
        return BadRequest(
            "the body begins with a byte order mark: remove it",
            expected="JSON in UTF-8 without a byte order mark",
        )
    if _OF_SURROGATES.search(str(error)):
        return BadRequest(
            "the body is not valid JSON: a string has half of a surrogate pair, such as \\ud800 "
            "alone",
            expected="JSON in UTF-8, of whole characters",
        )
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deeply", expected="a flat JSON object")
    if isinstance(error, UnicodeDecodeError):
        return BadRequest("the body is not valid UTF-8", expected="JSON in UTF-8")
    return BadRequest(f"the body is not valid JSON: {error}", expected="JSON in UTF-8")


_QUOTES_OF_FIELDS: Final = 2 * len(OrderRequest.__struct_fields__)
_FIELDS_ONCE: Final = {
    **{name: name for name in OrderRequest.__struct_fields__},
    **{name: f"split_config.{name}" for name in SPLIT_CONFIG_FIELDS},
}
"""What to call a doubled field. Any other name lies in a value that its field's rule refuses."""


def _refuse_doubled_fields(body: bytes, request: OrderRequest) -> None:
    """Refuse an order that repeats a field: JSON leaves open which of the two counts.

    The decoder takes the last one silently. In the common case the number of quotation marks shows
    that no field is repeated; only otherwise is the body read again, pair by pair.
    """
    quotes = _QUOTES_OF_FIELDS
    if isinstance(request.split_config, dict):
        quotes += 2 * len(request.split_config)
    for value in (request.order_unique_key, request.instrument, request.side):
        quotes += 2 if isinstance(value, str) else 0
    if body.count(b'"') == quotes and b"\\" not in body:
        return
    try:
        json.loads(body, object_pairs_hook=_pairs_once)
    except (RecursionError, ValueError) as error:
        raise _unreadable(body, error) from None


def _pairs_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        field = _FIELDS_ONCE.get(name)
        if name in fields and field is not None:
            raise BadRequest(f"{field} is repeated in the body", field=field, expected="it once")
        fields[name] = value
    return fields
