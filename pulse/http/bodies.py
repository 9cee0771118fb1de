"""Reads request bodies and their headers: an order, a batch, a preview, a cancellation, a halt."""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, TypeVar

import msgspec

from pulse.application.halts import HaltRequest, require_scope_fields
from pulse.application.orders import CancelRequest
from pulse.domain import (
    OrderRefused,
    OrderSpec,
    PreviewRequest,
    parse_order_request,
    parse_preview_request,
)
from pulse.domain.constraints import field_fault_of
from pulse.domain.order_request import INVALID_INSTRUMENT, INVALID_REQUEST
from pulse.http.errors import TOO_LARGE, BadRequest
from pulse.http.limits import MAX_ORDER_BYTES, ClientDisconnected

T = TypeVar("T")

MAX_BATCH_ORDERS: Final = 1000
_MAX_ECHOED_CHARACTERS: Final = 72
_MAX_DIGITS: Final = 20
_FORM: Final = "application/x-www-form-urlencoded"

Request = TypeVar("Request", bound=msgspec.Struct)
_ARRAY = msgspec.json.Decoder(
    Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_BATCH_ORDERS)]
)


def require_json(content_type: str) -> None:
    """Refuse a body whose Content-Type is not JSON."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequest(
            "the body must be JSON: send Content-Type: application/json",
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
            expected="application/json",
        )


def require_unencoded(content_encoding: bytes) -> None:
    """Refuse a body with a Content-Encoding, such as a compressed one."""
    encodings = content_encoding.decode("latin-1").lower().split(",")
    if any(encoding.strip() not in {"", "identity"} for encoding in encodings):
        shown = ascii(content_encoding.decode("latin-1")[:_MAX_ECHOED_CHARACTERS])[1:-1]
        raise BadRequest(
            f"Content-Encoding {shown} is not supported: send the body as it is, without that "
            "header",
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
            expected="no Content-Encoding, or identity",
        )


async def receive_json(scope: Any, receive: Any, max_bytes: int) -> bytes:  # noqa: ANN401 - ASGI
    """The body of a request, unparsed.

    Raises:
        BadRequest: its Content-Type is not JSON, it is encoded, or it is too large. A body whose
            declared length is too large is not read.
        ClientDisconnected: the connection closed before the body was complete.
    """
    content_type, declared = _body_headers(scope)
    require_json(content_type)
    return await _receive(receive, declared, max_bytes)


async def receive_optional_json(scope: Any, receive: Any, max_bytes: int) -> bytes:  # noqa: ANN401
    """As `receive_json`, but an empty body is allowed, and needs no Content-Type."""
    content_type, declared = _body_headers(scope)
    body = await _receive(receive, declared, max_bytes)
    if body.strip():
        require_json(content_type)
    return body


async def receive_form(scope: Any, receive: Any, max_bytes: int) -> bytes:  # noqa: ANN401 - ASGI
    """The URL-encoded body of a form, unparsed.

    Raises: as `receive_json`.
    """
    content_type, declared = _body_headers(scope)
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise BadRequest(
            f"the body must be a form: send Content-Type: {_FORM}",
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
            expected=_FORM,
        )
    return await _receive(receive, declared, max_bytes)


def _body_headers(scope: Any) -> tuple[str, bytes]:  # noqa: ANN401 - ASGI
    """Content-Type and Content-Length. A body with a Content-Encoding is refused."""
    declared = b"0"
    content_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = content_type or value
        elif name == b"content-length":
            declared = value
        elif name == b"content-encoding":
            require_unencoded(value)
    return content_type.decode("latin-1"), declared


async def _receive(receive: Any, declared: bytes, max_bytes: int) -> bytes:  # noqa: ANN401 - ASGI
    if len(declared) > _MAX_DIGITS or (declared.isdigit() and int(declared) > max_bytes):
        raise _too_large()
    body: bytes = b""
    while True:
        message: dict[str, Any] = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def read_order(body: bytes) -> OrderSpec:
    """Parse the body of one order.

    Raises:
        BadRequest: the body is empty, not JSON, or too large for an order.
        OrderRefused: it breaks a rule.
    """
    return _read_order(body, parse_order_request)


def read_preview_request(body: bytes) -> PreviewRequest:
    """Parse the body of a preview; errors as `read_order`."""
    return _read_order(body, parse_preview_request)


def _read_order(body: bytes, parse: Callable[[bytes], T]) -> T:
    if len(body) > MAX_ORDER_BYTES:
        raise _too_large()
    if not body.strip():
        raise BadRequest("the body is empty: send an order as a JSON object", expected="an object")
    try:
        return parse(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _undecodable(body, error) from None


def read_cancel_request(body: bytes) -> CancelRequest:
    """Parse the body of a cancellation. An empty body gives no reason.

    Raises:
        BadRequest: the body is not JSON.
        OrderRefused: it breaks a rule.
    """
    return _read(body, CancelRequest) if body.strip() else CancelRequest()


def read_halt_request(body: bytes) -> HaltRequest:
    """Parse the body of a halt; errors as `read_cancel_request`."""
    if not body.strip():
        raise BadRequest("the body is empty: send a halt as a JSON object", expected="an object")
    request = _read(body, HaltRequest)
    require_scope_fields(request)
    return request


def _read(body: bytes, struct: type[Request]) -> Request:
    try:
        with suppress(ValueError, RecursionError):  # the decoder says what is wrong
            json.loads(body, object_pairs_hook=_unique_names, parse_int=str)
        return msgspec.json.decode(body, type=struct)
    except msgspec.ValidationError as error:
        fault = field_fault_of(error, struct)
        code = INVALID_INSTRUMENT if fault.field == "instrument" else INVALID_REQUEST
        raise OrderRefused(code, fault.field, fault.expected, fault.problem) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _undecodable(body, error) from None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object, refused if it repeats a name: other parsers take the first value."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            shown = name[:_MAX_ECHOED_CHARACTERS]
            raise OrderRefused(INVALID_REQUEST, shown, "the field once", "is repeated")
        fields[name] = value
    return fields


def decode_batch(body: bytes) -> Sequence[bytes]:
    """Split a batch into its orders, undecoded: each is accepted or refused on its own.

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
        except ValueError:
            raise _undecodable(body, error) from None
    if not 1 <= len(orders) <= MAX_BATCH_ORDERS:
        many = "too many" if orders else "no"
        raise BadRequest(f"the batch has {many} orders: send {expected}", expected=expected)
    return orders


_LENIENT: Final = json.JSONDecoder(parse_int=str, parse_float=str)
_OPENING = re.compile(r"[ \t\n\r]*\[[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_CLOSING = re.compile(r"[ \t\n\r]*\][ \t\n\r]*\Z")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def _split_array(body: bytes) -> list[bytes]:
    """The elements of an array that the strict decoder refuses as a whole, unparsed.

    One order with a lone surrogate, or nested too deeply, must not fail the others. Reading stops
    after one order more than a batch may have.

    Raises:
        ValueError: the body is not an array, an element is incomplete, or more than 64 KiB are
            nested too deeply, since scanning those is slow.
    """
    text = body.decode("utf-8", "surrogateescape")
    nested_characters = MAX_ORDER_BYTES
    elements: list[bytes] = []
    separator = _OPENING.match(text)
    while separator:
        start = separator.end()
        try:
            _, end = _LENIENT.raw_decode(text, start)
        except RecursionError:
            end = _end_of_nesting(text, start, nested_characters)
            nested_characters -= end - start
        elements.append(text[start:end].encode("utf-8", "surrogateescape"))
        if len(elements) > MAX_BATCH_ORDERS:
            return elements
        separator = _COMMA.match(text, end)
        if separator is None and _CLOSING.match(text, end):
            return elements
    raise ValueError("not an array")


def _end_of_nesting(text: str, start: int, max_characters: int) -> int:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text, start, start + max_characters):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth == 0:
            return token.end()
    raise ValueError("an element is incomplete")


_BYTE_ORDER_MARKS: Final = (
    codecs.BOM_UTF8,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_BE,
)
_SURROGATE_ERROR = re.compile("surrogate|hex escape")  # in msgspec's messages


def _undecodable(body: bytes, error: Exception) -> BadRequest:
    if body.startswith(_BYTE_ORDER_MARKS):
        return BadRequest(
            "the body begins with a byte order mark: remove it",
            expected="JSON in UTF-8 without a byte order mark",
        )
    if _SURROGATE_ERROR.search(str(error)):
        return BadRequest(
            "the body is not valid JSON: a string has a lone surrogate, such as \\ud800",
            expected="JSON in UTF-8 without lone surrogates",
        )
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deeply", expected="JSON with less nesting")
    if isinstance(error, UnicodeDecodeError):
        return BadRequest("the body is not valid UTF-8", expected="JSON in UTF-8")
    return BadRequest(f"the body is not valid JSON: {error}", expected="JSON in UTF-8")


def _too_large() -> BadRequest:
    return BadRequest(TOO_LARGE, status=413, code="PAYLOAD_TOO_LARGE")
