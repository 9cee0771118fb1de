"""The OpenAPI document of the gateway: what its handlers do not say themselves."""

from collections.abc import Sequence
from typing import Any, Final

from litestar.handlers import HTTPRouteHandler

from pulse.application.callers import Caller
from pulse.application.orders import CancelRequest
from pulse.application.over_http import REFUSED, UNAVAILABLE, PulseUnavailable
from pulse.application.own_view import EVENT_FIELDS, WITHHELD
from pulse.domain import OrderSpec
from pulse.http.auth import bearer_token, require_granted
from pulse.http.errors import KeysUnavailable, Unauthorized
from pulse.http.gateway.keys import KEYS_UNAVAILABLE
from pulse.http.gateway.tokens import NOT_VALID
from pulse.http.openapi.document import OperationDescription, document
from pulse.http.openapi.error_examples import (
    A_CRASH,
    CANCELLING_ERRORS,
    COMMON_ERRORS,
    NO_SUCH_ORDER,
    PLACING_ERRORS,
    ErrorExample,
    error_example,
)
from pulse.http.openapi.schemas import ref
from pulse.http.own_orders import OwnOrderParameters, own_order_query
from pulse.http.parameters import parse_query

HELLO: Final = "Hello from GAPI"
ORDERS_WRITE: Final = "orders:write"
ORDERS_READ: Final = "orders:read"

_DESCRIPTION: Final = """
The public API of Pulse: authenticated callers place orders, and read, list and cancel their own.

Orders need a bearer token: a JWT with the scope `orders:write` to place and cancel, `orders:read`
to read.
Orders and their idempotency keys belong to the token's issuer and subject. Another caller's order
is 404, like one that does not exist. Each process limits the rate of each caller's requests; a
request beyond the limit is 429 with `Retry-After`.
"""
_TAGS: Final = {
    "orders": "Placing orders, and reading, listing and cancelling one's own.",
    "health": "Liveness, and a call without a token.",
}


def document_of_gateway(handlers: Sequence[HTTPRouteHandler]) -> dict[str, Any]:
    """The OpenAPI document of the gateway."""
    return document(
        "GAPI, the gateway of Pulse",
        _DESCRIPTION,
        handlers=handlers,
        described=_DESCRIBED,
        tags=_TAGS,
        security_schemes={"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        event_fields=EVENT_FIELDS,
    )


def _with_scope(scope: str, *errors: ErrorExample, **more: Any) -> OperationDescription:  # noqa: ANN401 - its fields
    """A call for which a token must grant this scope."""
    return OperationDescription(
        errors=(
            *errors,
            error_example("no token", lambda: bearer_token([])),
            ErrorExample("no valid token", Unauthorized(NOT_VALID)),
            error_example("the scope is missing", lambda: require_granted(frozenset(), scope)),
            ErrorExample("the keys are unavailable", KeysUnavailable(KEYS_UNAVAILABLE)),
            ErrorExample("Pulse is unavailable", PulseUnavailable(UNAVAILABLE)),
            ErrorExample("Pulse refuses the gateway", PulseUnavailable(REFUSED)),
            *COMMON_ERRORS,
        ),
        security=({"token": [scope]},),
        **more,
    )


def _orders_query(query: bytes) -> object:
    return own_order_query(parse_query(query, OwnOrderParameters), Caller())


_DESCRIBED: Final = {
    "place_order": _with_scope(ORDERS_WRITE, *PLACING_ERRORS, body=ref(OrderSpec)),
    "cancel_order": _with_scope(
        ORDERS_WRITE,
        *CANCELLING_ERRORS,
        body=ref(CancelRequest),
        body_is_optional=True,
        withheld=WITHHELD,
    ),
    "read_order": _with_scope(ORDERS_READ, NO_SUCH_ORDER, withheld=WITHHELD),
    "list_own_orders": _with_scope(
        ORDERS_READ,
        error_example("a limit out of range", lambda: _orders_query(b"limit=0")),
        error_example("an unknown status", lambda: _orders_query(b"order_queue_status=OPEN")),
        error_example("no zone", lambda: _orders_query(b"created_from=2026-03-02T09:15:00")),
        error_example("an invalid cursor", lambda: _orders_query(b"cursor=x")),
    ),
    "read_own_history": _with_scope(ORDERS_READ, NO_SUCH_ORDER),
    "say_hello": OperationDescription(errors=(A_CRASH,), example={"message": HELLO}),
    "read_health": OperationDescription(errors=(A_CRASH,)),
}
