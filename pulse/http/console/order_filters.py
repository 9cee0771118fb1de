"""The filters of the list of orders: read from a form's query, with faults shown at their field."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, get_args
from urllib.parse import quote, unquote_to_bytes, urlencode

from pulse.http.api.lists import OrderParameters, order_query
from pulse.http.console.sessions import CONSOLE_PATH
from pulse.http.errors import BadRequest
from pulse.http.parameters import parse_query
from pulse.projections.lists import OrderQuery
from pulse.projections.order_view import OrderQueueStatus

ORDERS_PATH: Final = f"{CONSOLE_PATH}/orders"


class Field(NamedTuple):
    """A filter as a field of the form. With `options` it is a choice, else a text."""

    name: str
    label: str
    hint: str = ""
    options: tuple[str, ...] = ()


FIELDS: Final = (
    Field("order_queue_status", "Status", "any", get_args(OrderQueueStatus)),
    Field("instrument", "Instrument", "NSE:RELIANCE"),
    Field("order_unique_key", "Key", "exactly this key"),
    Field("key_scope", "Key scope", "internal"),
    Field("placed_by", "Placed by", "exactly this name"),
    Field("trace_id", "Trace id", "exactly this id"),
    Field("created_from", "Created from", "2026-01-05T09:15:00+05:30"),
    Field("created_before", "Created before", "2026-01-05T15:30:00+05:30"),
)
_NAMES: Final = frozenset(field.name for field in FIELDS)
_TIMES: Final = frozenset({"created_from", "created_before"})


class Filters(NamedTuple):
    """The filters of a request, by name as they were sent, and the query that they make.

    `fault` is why there is no query; `faulty_field` is the filter that it is about, if any.
    """

    values: Mapping[str, str]
    limit: str | None
    query: OrderQuery | None
    fault: str | None
    faulty_field: str | None

    def path(self, *without: str, cursor: str | None = None) -> str:
        """The path of the list with these filters, except those in `without`."""
        kept = {name: value for name, value in self.values.items() if name not in without}
        if self.limit is not None:
            kept["limit"] = self.limit
        return orders_path(**kept, **({} if cursor is None else {"cursor": cursor}))


def read_filters(query_string: bytes) -> Filters:
    """The filters in a query string. A form sends its empty fields too; those are left out."""
    pairs = [pair for pair in query_string.split(b"&") if pair.partition(b"=")[2]]
    sent = _as_sent(pairs)
    values = {name: value for name, value in sent.items() if name in _NAMES}
    try:
        query = order_query(parse_query(b"&".join(pairs), OrderParameters))
    except BadRequest as error:
        field = error.details.get("field")
        known = str(field) if field in _NAMES else None
        return Filters(values, sent.get("limit"), None, str(error), known)
    return Filters(values, sent.get("limit"), query, None, None)


def orders_path(**parameters: str) -> str:
    """The path of the list with these parameters."""
    query = urlencode(parameters, quote_via=quote)
    return f"{ORDERS_PATH}?{query}" if query else ORDERS_PATH


def _as_sent(pairs: Iterable[bytes]) -> dict[str, str]:
    """The parameters as text, even invalid ones. Of a repeated one the first is used."""
    sent: dict[str, str] = {}
    for pair in pairs:
        raw_name, _, raw_value = pair.partition(b"=")
        name = unquote_to_bytes(raw_name).decode("utf-8", "replace")
        if name not in _TIMES:
            raw_value = raw_value.replace(b"+", b" ")
        sent.setdefault(name, unquote_to_bytes(raw_value).decode("utf-8", "replace"))
    return sent
