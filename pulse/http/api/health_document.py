"""Health, readiness and hello, as the document tells them."""

from collections.abc import Iterable
from typing import Any, Final

from pulse.application import Ready
from pulse.http.api.health import HELLO
from pulse.http.errors import NotReady
from pulse.http.openapi import answer, operation
from pulse.http.openapi.faults import FAULTS_OF_ALL, Fault
from pulse.http.openapi.schemas import Schema, or_null, record, ref, text, whole

_CHECKS: Final = ("database", "schema", "projection", "clock")
_NOT_READY: Final = Ready(
    {
        **dict.fromkeys(_CHECKS),
        "projection": "the order queue is 12 s behind the log at position 18, more than 10 s",
    },
    parked_orders=0,
    orders_for_newer_code=0,
)
_CRASH: Final = FAULTS_OF_ALL[:1]

_READY: Final[dict[str, Any]] = {
    "status": "ready",
    "checks": dict.fromkeys(_CHECKS, "ok"),
    "parked_orders": 0,
    "orders_for_newer_code": 0,
}

HEALTH_SCHEMAS: Final[dict[str, Schema]] = {
    "Health": record("The process lives.", status={"const": "ok"}),
    "Ready": record(
        "The process can do its work.",
        status={"const": "ready"},
        checks=record("Each check.", (), **{name: {"const": "ok"} for name in _CHECKS}),
        parked_orders=or_null(whole(0, description="set aside for a person")),
        orders_for_newer_code=or_null(whole(0, description="waiting for a newer process")),
    ),
    "Hello": record("A greeting.", message=text()),
}


HEALTH_PATHS: Final[dict[str, Any]] = {
    "/health": {
        "get": operation(
            "read_health",
            "Whether the process lives",
            tag="health",
            answers={"200": answer("It does.", ref("Health"), alive={"status": "ok"})},
            faults=_CRASH,
        )
    },
    "/health/ready": {
        "get": operation(
            "read_readiness",
            "Whether the process can do its work",
            tag="health",
            answers={"200": answer("It can.", ref("Ready"), ready=_READY)},
            faults=(Fault("not ready", NotReady(_NOT_READY)), *_CRASH),
        )
    },
}


def hello(faults: Iterable[Fault]) -> dict[str, Any]:
    """`GET /internal/hello`."""
    return operation(
        "say_hello",
        "Say hello",
        tag="health",
        answers={"200": answer("Hello.", ref("Hello"), hello={"message": HELLO})},
        faults=faults,
    )
