"""The errors of a document: each example is what breaking the rule answers."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from pulse.application import ClockOff, OrderNotFound, PulseFailed
from pulse.domain import OrderUniqueKeyTaken
from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown, AppendQueueFull
from pulse.http.bodies import read_order, require_json, require_unencoded
from pulse.http.errors import as_answered, error_headers, known_answer
from pulse.http.limits import MAX_ORDER_BYTES, BodyTooSlow, TooBusy, TooManyRequests
from pulse.http.openapi import samples
from pulse.http.openapi.schemas import ref
from pulse.postgres import DatabaseUnavailable

Responses = dict[str, Any]


class Fault(msgspec.Struct, frozen=True):
    """A way to go wrong, by name, and the error it brings."""

    name: str
    error: Exception


def fault_of(name: str, breaking: Callable[[], object]) -> Fault:
    """The fault that this call brings about.

    Raises:
        AssertionError: it goes well, so the document would lie.
    """
    try:
        breaking()
    except PulseError as error:
        return Fault(name, error)
    raise AssertionError(f"{name} is no fault")


def _of_order(name: str, body: bytes) -> Fault:
    return fault_of(name, lambda: read_order(body))


def _changed(**changes: object) -> bytes:
    fields = {name: value for name, value in (samples.REQUEST | changes).items() if value != ""}
    return msgspec.json.encode(fields)


def _split(**changes: object) -> bytes:
    return _changed(split_config=samples.REQUEST["split_config"] | changes)


WRONG_ORDERS: Final = (
    _of_order("not JSON", b'{"order_unique_key":'),
    _of_order("a field is missing", _changed(side="")),
    _of_order("an unknown field", _changed(price=2850)),
    _of_order("no such instrument", _changed(instrument="RELIANCE")),
    _of_order("no such quantity", _changed(total_quantity=0)),
    _of_order("fewer shares than slices", _changed(total_quantity=1)),
    _of_order("a quantity as text", _changed(total_quantity="100")),
    _of_order("too many slices", _split(num_splits=101)),
    _of_order("white space at an end of the key", _changed(order_unique_key=f"{samples.KEY} ")),
)
KEY_TAKEN: Final = Fault("the key is taken", OrderUniqueKeyTaken(samples.KEY, samples.ORDER_ID))
NO_SUCH_ORDER: Final = Fault("no such order", OrderNotFound(samples.UNKNOWN_ID))
FAULTS_OF_BODIES: Final = (
    Fault("the body is slow", BodyTooSlow(10)),
    _of_order("the body is too large", b" " * (MAX_ORDER_BYTES + 1)),
    fault_of("the body is not JSON", lambda: require_json("text/plain")),
    fault_of("the body is encoded", lambda: require_unencoded(b"gzip")),
)
FAULTS_OF_PLACING: Final = (
    Fault("too many orders wait", AppendQueueFull()),
    Fault("no answer in time", AppendOutcomeUnknown()),
    Fault("the clock is off", ClockOff("this process's clock is 1.7 s off the database's")),
)
TOO_OFTEN: Final = Fault("too many requests", TooManyRequests(100, 0.4))
FAULTS_OF_ALL: Final = (
    Fault("a crash", PulseFailed()),
    Fault("too busy", TooBusy()),
    Fault("the database is away", DatabaseUnavailable()),
)

_SAID: Final = {
    400: "The request breaks a rule; `details` name the field and what was expected.",
    401: "It proves no identity.",
    403: "The caller may not make this request.",
    404: "There is no such order.",
    408: "The body did not arrive whole in time; the connection closes.",
    409: "The key belongs to an order with other data.",
    413: "The body is larger than this path takes; the connection closes.",
    415: "The body does not say that it is JSON, or has a Content-Encoding.",
    429: "The caller asks too often.",
    500: "Pulse failed; the error is in its log.",
    503: "Nothing was accepted, or a retry with the same key tells what happened.",
}


def responses_of(faults: Iterable[Fault]) -> Responses:
    """The responses of these faults, by status, each with its example."""
    responses: Responses = {}
    for fault in faults:
        answered = known_answer(fault.error)
        if answered is None:
            raise AssertionError(f"{fault.name}: no caller receives {fault.error!r}")
        status, body = answered
        response = responses.setdefault(str(status), _response(status, error_headers(status, body)))
        examples = response["content"]["application/json"]["examples"]
        examples[fault.name] = {"value": as_answered(body)}
    return responses


def _response(status: int, headers: dict[str, str]) -> dict[str, Any]:
    named = {
        name: {"description": _SAID_OF_HEADERS[name], "required": True, "schema": schema}
        for name in headers
        for schema in [_INTEGER if name == "retry-after" else {"type": "string"}]
    }
    return {
        "description": _SAID[status],
        "headers": {_TITLES[name]: header for name, header in named.items()},
        "content": {"application/json": {"schema": ref("Error"), "examples": {}}},
    }


_INTEGER: Final = {"type": "integer", "minimum": 1}
_SAID_OF_HEADERS: Final = {
    "retry-after": "seconds to wait",
    "www-authenticate": "how to prove an identity",
}
_TITLES: Final = {"retry-after": "Retry-After", "www-authenticate": "WWW-Authenticate"}
