"""The OpenAPI document of the gateway."""

from typing import Any, Final

from pulse.application import PulseAway
from pulse.application.over_http import AWAY
from pulse.http.auth import bearer_token, require_granted
from pulse.http.errors import KeysUnavailable, Unauthorized
from pulse.http.gateway.keys import KEYS_AWAY
from pulse.http.gateway.orders import HELLO, ORDERS_READ, ORDERS_WRITE
from pulse.http.gateway.tokens import NOT_GOOD
from pulse.http.openapi import (
    Tag,
    answer,
    document,
    fault_of,
    json_body,
    link_to_order,
    operation,
    path_parameter,
    samples,
)
from pulse.http.openapi.faults import (
    FAULTS_OF_ALL,
    FAULTS_OF_BODIES,
    FAULTS_OF_PLACING,
    KEY_TAKEN,
    NO_SUCH_ORDER,
    TOO_OFTEN,
    WRONG_ORDERS,
    Fault,
)
from pulse.http.openapi.schemas import ORDER_ID, record, ref, text

_DESCRIPTION: Final = """
The public face of Pulse: it takes orders from whoever proves an identity, and shows them their own.

Orders need a bearer token: a JWT with the scope `orders:write` to place, `orders:read` to read.
Keys and orders belong to the token's issuer and subject; anyone else's order is as if it were not.
Each process counts each caller's requests for itself; too many are answered 429 with `Retry-After`.
"""
_GREETINGS: Final = record("A greeting.", message=text())
_HEALTH: Final = record("The process lives.", status={"const": "ok"})


def document_of_gateway() -> dict[str, Any]:
    """The document, made by breaking the rules once for each example of an error."""
    return document(
        "GAPI, the gateway of Pulse",
        _DESCRIPTION,
        tags=[
            Tag("orders", "Placing orders and reading one's own."),
            Tag("health", "How the process is."),
        ],
        paths={
            "/api/orders": {"post": _guarded(_place(), ORDERS_WRITE)},
            "/api/orders/{order_id}": {"get": _guarded(_read(), ORDERS_READ)},
            "/api/hello": {"get": _hello()},
            "/health": {"get": _health()},
        },
        schemas={"Hello": _GREETINGS, "Health": _HEALTH},
        security={"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    )


def _guarded(described: dict[str, Any], scope: str) -> dict[str, Any]:
    return {**described, "security": [{"token": [scope]}]}


def _faults(scope: str) -> tuple[Fault, ...]:
    return (
        fault_of("no token", lambda: bearer_token([])),
        Fault("no good token", Unauthorized(NOT_GOOD)),
        fault_of("the scope is missing", lambda: require_granted(frozenset(), scope)),
        TOO_OFTEN,
        Fault("keys out of reach", KeysUnavailable(KEYS_AWAY)),
        Fault("Pulse out of reach", PulseAway(AWAY)),
        *FAULTS_OF_ALL,
    )


def _place() -> dict[str, Any]:
    placed = answer("The order stands: by this call or by the same one before.", ref("Placed"))
    placed["content"]["application/json"]["examples"] = {"placed": {"value": samples.PLACED}}
    placed["links"] = link_to_order("read_order")
    return operation(
        "place_order",
        "Place an order",
        tag="orders",
        description="Sending the same request again is always safe: the key makes it one order.",
        body=json_body(
            ref("OrderRequest"), with_every_field=samples.REQUEST, shortest=samples.SHORTEST_REQUEST
        ),
        answers={"202": placed},
        faults=(
            *WRONG_ORDERS,
            KEY_TAKEN,
            *FAULTS_OF_BODIES,
            *FAULTS_OF_PLACING,
            *_faults(ORDERS_WRITE),
        ),
    )


def _read() -> dict[str, Any]:
    order = answer("The caller's own order.", ref("Order"), completed=samples.COMPLETED)
    return operation(
        "read_order",
        "Read an own order",
        tag="orders",
        parameters=[path_parameter("order_id", ORDER_ID, str(samples.ORDER_ID))],
        answers={"200": order},
        faults=(NO_SUCH_ORDER, *_faults(ORDERS_READ)),
    )


def _hello() -> dict[str, Any]:
    return operation(
        "say_hello",
        "Say hello",
        tag="health",
        answers={"200": answer("Hello.", ref("Hello"), hello={"message": HELLO})},
        faults=FAULTS_OF_ALL[:2],
    )


def _health() -> dict[str, Any]:
    return operation(
        "read_health",
        "Whether the process lives",
        tag="health",
        answers={"200": answer("It does.", ref("Health"), alive={"status": "ok"})},
        faults=FAULTS_OF_ALL[:1],
    )
