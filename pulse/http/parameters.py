"""Query parameters: a struct declares those of a call. An unknown or repeated one is answered 400.

A handler declares its struct as `parameters: NamedDependency[...]`. A handler without that argument
accepts no query parameters.
"""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import Request
from litestar.di import Provide
from msgspec import inspect

from pulse.domain.constraints import expected_of, field_fault_of
from pulse.http.errors import BadRequest
from pulse.rfc3339 import parse_time

PARAMETERS: Final = "parameters"
"""The name of the handler argument for the query parameters."""

_MAX_ECHOED_CHARACTERS: Final = 72

_BOOLEANS: Final = {"true": True, "false": False}
ZonedTime = Annotated[
    datetime,
    msgspec.Meta(
        tz=True, description="an RFC 3339 time with its offset, such as 2026-01-05T09:15:00+05:30"
    ),
]

Parameters = TypeVar("Parameters", bound=msgspec.Struct)


class NoParameters(msgspec.Struct, frozen=True):
    """A call that takes no query parameters."""


async def read_parameters(request: Request[Any, Any, Any]) -> None:
    """Read the parameters that the route declares; Litestar calls this before each handler.

    Raises:
        BadRequest: a parameter is unknown, repeated or invalid. Ignoring `?dry_run=true` would
            place an order.
    """
    declared = request.route_handler.parsed_fn_signature.parameters.get(PARAMETERS)
    struct = NoParameters if declared is None else declared.annotation
    request.state[PARAMETERS] = parse_query(request.scope["query_string"], struct)


async def _parameters(request: Request[Any, Any, Any]) -> Any:  # noqa: ANN401 - of each route
    return request.state[PARAMETERS]


DEPENDENCIES: Final = {PARAMETERS: Provide(_parameters)}


def parse_query(query_string: bytes, struct: type[Parameters]) -> Parameters:
    """Parse a query string. In a time `+` is a plus sign, elsewhere a space, as forms encode it.

    Raises:
        BadRequest: a parameter is unknown, repeated, not UTF-8, or breaks its constraint.
    """
    known = _types_of(struct)
    values: dict[str, object] = {}
    for pair in filter(None, query_string.split(b"&")):
        raw_name, _, raw_value = pair.partition(b"=")
        name = _text(raw_name, "query")
        if name not in known:
            expected = f"only {', '.join(known)}" if known else "no query parameters"
            raise parameter_error(name[:_MAX_ECHOED_CHARACTERS], "is unknown", expected)
        if name in values:
            raise parameter_error(name, "is repeated", "the parameter once")
        if not isinstance(known[name], inspect.DateTimeType):
            raw_value = raw_value.replace(b"+", b" ")
        values[name] = _read(name, _text(raw_value, name), struct)
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        fault = field_fault_of(error, struct)
        raise parameter_error(str(fault.field), fault.problem, fault.expected) from None


def parameter_error(field: str, problem: str, expected: str) -> BadRequest:
    """The error for an invalid parameter."""
    shown = field or "a parameter without a name"
    return BadRequest(f"{shown} {problem}: expected {expected}", field=field, expected=expected)


def require_times_in_order(parameters: msgspec.Struct, begin: str, end: str) -> None:
    """Require that the time in `end` is not before the time in `begin`, if both are given.

    Raises:
        BadRequest: it is.
    """
    first, last = getattr(parameters, begin), getattr(parameters, end)
    if first is not None and last is not None and last < first:
        raise parameter_error(end, "is too early", f"a time not before {begin}")


@cache
def _types_of(struct: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    fields = inspect.type_info(struct).fields  # type: ignore[attr-defined]
    return {field.name: _unwrapped(field.type) for field in fields}


def _unwrapped(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.UnionType):
        kind = kind.types[0]
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _read(name: str, value: str, struct: type[msgspec.Struct]) -> object:
    """The value converted to its type; its constraint is checked later."""
    problem = ""
    try:
        match _types_of(struct)[name]:
            case inspect.IntType():
                problem = "is not a whole number"
                return int(value if value.isascii() and value.isdigit() else "none")
            case inspect.BoolType():
                problem = "is neither true nor false"
                return _BOOLEANS[value]
            case inspect.DateTimeType():
                problem = "is not a valid time"
                return parse_time(value)
            case _:
                return value
    except (ValueError, KeyError):
        raise parameter_error(name, problem, expected_of(name, struct)) from None


def _text(raw: bytes, name: str) -> str:
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise parameter_error(name, "is not valid UTF-8", "percent-encoded UTF-8") from None
