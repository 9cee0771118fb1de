"""The OpenAPI document of the internal API."""

from typing import Any, Final

from pulse.http.api import event_document, list_document
from pulse.http.api.health_document import HEALTH_PATHS, HEALTH_SCHEMAS, hello
from pulse.http.auth import NOT_THIS_MACHINE, bearer_token
from pulse.http.bodies import MAX_BATCH_ORDERS, decode_batch
from pulse.http.errors import Forbidden, answer_for, as_answered
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
from pulse.http.openapi.schemas import ORDER_ID, Schema, list_of, record, ref, whole

_DESCRIPTION: Final = """
Pulse owns trading orders: it stores a parent order, splits it into time-scheduled slices, and
answers what happened, when, and why. This is its internal API, for services.

With service tokens set, calls below `/internal` need one as a bearer token; without any, they are
answered only to requests made on the same machine, directly and through no proxy.
"""
DOOR: Final = (
    fault_of("no service token", lambda: bearer_token([])),
    Fault("from elsewhere", Forbidden(NOT_THIS_MACHINE)),
)
FAULTS: Final = (*DOOR, TOO_OFTEN, *FAULTS_OF_ALL)
SECURITY: Final[list[dict[str, list[str]]]] = [{}, {"serviceToken": []}]
_ID: Final = path_parameter("order_id", ORDER_ID, str(samples.ORDER_ID))

_SCHEMAS: Final[dict[str, Schema]] = {
    "BatchResult": record(
        "One order of a batch, answered as its own POST would have been.",
        status=whole(200, 503),
        body={"anyOf": [ref("Placed"), ref("Error")]},
    ),
    "BatchResults": record(
        "A result for each order, in the order asked.", results=list_of(ref("BatchResult"))
    ),
}


def document_of_api() -> dict[str, Any]:
    """The document, made by breaking the rules once for each example of an error."""
    guarded = {
        "/internal/orders": {"post": _place(), **list_document.orders(FAULTS)},
        "/internal/orders/batch": {"post": _place_batch()},
        "/internal/orders/{order_id}": {"get": _read()},
        "/internal/orders/{order_id}/events": {"get": event_document.history(_ID, FAULTS)},
        "/internal/slices": list_document.slices(FAULTS),
        "/internal/events": event_document.log(FAULTS),
        "/internal/hello": {"get": hello(FAULTS)},
    }
    for path in guarded.values():
        for described in path.values():
            described["security"] = SECURITY
    return document(
        "Pulse",
        _DESCRIPTION,
        tags=[
            Tag("orders", "Placing orders and reading them."),
            Tag("lists", "Across orders, page by page."),
            Tag("events", "What happened."),
            Tag("health", "How the process is."),
        ],
        paths={**guarded, **HEALTH_PATHS},
        schemas={
            **_SCHEMAS,
            **list_document.SCHEMAS,
            **event_document.SCHEMAS,
            **HEALTH_SCHEMAS,
        },
        security={"serviceToken": {"type": "http", "scheme": "bearer"}},
    )


def _place() -> dict[str, Any]:
    placed = answer("The order stands, accepted by this very call.", ref("Placed"))
    again = answer("It stood already: the same request again.", ref("Placed"))
    for described in (placed, again):
        described["content"]["application/json"]["examples"] = {"": {"value": samples.PLACED}}
        described["links"] = link_to_order("read_order")
    return operation(
        "place_order",
        "Place an order",
        tag="orders",
        description="Sending the same request again is always safe: the key makes it one order.",
        body=json_body(
            ref("OrderRequest"), with_every_field=samples.REQUEST, shortest=samples.SHORTEST_REQUEST
        ),
        answers={"201": placed, "200": again},
        faults=(*WRONG_ORDERS, KEY_TAKEN, *FAULTS_OF_BODIES, *FAULTS_OF_PLACING, *FAULTS),
    )


def _place_batch() -> dict[str, Any]:
    each = {
        "anyOf": [ref("OrderRequest"), {"description": "anything else is refused in its place"}]
    }
    status, refusal = answer_for(WRONG_ORDERS[3].error)
    results = [
        {"status": 201, "body": samples.PLACED},
        {"status": status, "body": as_answered(refusal)},
    ]
    wrong = {**samples.REQUEST, "order_unique_key": "ouk_other", "instrument": "RELIANCE"}
    return operation(
        "place_orders",
        f"Place up to {MAX_BATCH_ORDERS:,} orders",
        tag="orders",
        description="Each is accepted or refused on its own.",
        body=json_body(
            list_of(each, minItems=1, maxItems=MAX_BATCH_ORDERS),
            two_orders=[samples.REQUEST, wrong],
        ),
        answers={
            "200": answer(
                "Each order's own status and answer.",
                ref("BatchResults"),
                one_accepted_one_refused={"results": results},
            )
        },
        faults=(
            fault_of("no orders", lambda: decode_batch(b"[]")),
            fault_of("no array", lambda: decode_batch(b"{}")),
            *FAULTS_OF_BODIES,
            *FAULTS,
        ),
    )


def _read() -> dict[str, Any]:
    return operation(
        "read_order",
        "Read an order",
        tag="orders",
        parameters=[_ID],
        answers={
            "200": answer(
                "The order with its slices.",
                ref("Order"),
                completed=samples.COMPLETED,
                just_accepted=samples.PENDING,
            )
        },
        faults=(NO_SUCH_ORDER, *FAULTS),
    )
