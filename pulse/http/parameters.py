"""Query parameters: each declared by its route, given once, and of its own kind, or 400.

A route declares what it takes with `opt={DECLARED: names}`; one without takes none.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import Request

from pulse.domain.order_request import Instrument
from pulse.http.errors import BadRequest
from pulse.rfc3339 import parse_time

DECLARED: Final = "query_parameters"
"""The key in a route's `opt` of the names of its query parameters."""

_MOST_ECHOED_CHARACTERS: Final = 72
_TIME_EXPECTED: Final = "an RFC 3339 time with its zone, such as 2026-01-05T09:15:00+05:30"


async def refuse_undeclared_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse the request; Litestar calls this before the handler of each route.

    Raises:
        BadRequest: a parameter is repeated, or not one that the route declares: ignoring
            `?dry_run=true` would place an order.
    """
    query_string = request.scope["query_string"]
    if query_string:
        Parameters(query_string, request.route_handler.opt.get(DECLARED, ()))


class Parameters:
    """The parameters of one request, by name. A `+` is a plus, as in a zone, and never a blank.

    Raises:
        BadRequest: a parameter is not one of those known, is repeated, or is not in UTF-8.
    """

    def __init__(self, query_string: bytes, known: tuple[str, ...]) -> None:
        self._values: dict[str, str] = {}
        for pair in filter(None, query_string.split(b"&")):
            name, _, value = pair.partition(b"=")
            self._add(_text(name), value, known)

    def _add(self, name: str, value: bytes, known: tuple[str, ...]) -> None:
        if name not in known:
            raise refused(name[:_MOST_ECHOED_CHARACTERS], "is unknown", _expected_of(known))
        if name in self._values:
            raise refused(name, "is repeated", "it once")
        self._values[name] = _text(value, name)

    def text(self, name: str) -> str | None:
        """The value as it is, or None."""
        return self._values.get(name)

    def whole(self, name: str, *, least: int, default: int, most: int | None = None) -> int:
        """A whole number in decimal digits, within its bounds."""
        value = self.text(name)
        if value is None:
            return default
        upper = "on" if most is None else f"to {most:,}"
        expected = f"a whole number from {least:,} {upper}"
        try:
            number = int(value) if value.isascii() and value.isdigit() else None
        except ValueError:  # more digits than Python reads
            number = None
        if number is None:
            raise refused(name, "is not a whole number", expected)
        if number < least or (most is not None and number > most):
            raise refused(name, "is out of range", expected)
        return number

    def choice(self, name: str, choices: Iterable[str]) -> str | None:
        """One of these words, or None."""
        value = self.text(name)
        if value is not None and value not in choices:
            raise refused(name, "is none of them", f"one of {', '.join(choices)}")
        return value

    def instrument(self, name: str) -> str | None:
        """An instrument as an order may have it, or None."""
        value = self.text(name)
        try:
            return None if value is None else msgspec.convert(value, Instrument)
        except msgspec.ValidationError:
            raise refused(name, "has another form", "EXCHANGE:SYMBOL, such as NSE:A") from None

    def time(self, name: str) -> datetime | None:
        """A point in time, in UTC, or None; see `parse_time` for more than six fraction digits."""
        value = self.text(name)
        try:
            return None if value is None else parse_time(value)
        except ValueError:
            raise refused(name, "is not a valid time", _TIME_EXPECTED) from None


def refused(field: str, problem: str, expected: str) -> BadRequest:
    """The refusal of a parameter."""
    shown = field or "a parameter without a name"
    return BadRequest(f"{shown} {problem}: expected {expected}", field=field, expected=expected)


def _expected_of(known: tuple[str, ...]) -> str:
    return f"only {', '.join(known)}" if known else "no query parameters"


def _text(raw: bytes, name: str = "query") -> str:
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise refused(name, "is not valid UTF-8", "percent-encoded UTF-8") from None
