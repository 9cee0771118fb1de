"""Health, readiness and hello, as the document tells them."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from pulse.application import Notice, Ready
from pulse.http.api.health import HELLO
from pulse.http.errors import NotReady
from pulse.http.openapi import answer, operation
from pulse.http.openapi.faults import FAULTS_OF_ALL, Fault
from pulse.http.openapi.schemas import Schema, list_of, or_null, record, ref, text, whole

_CHECKS: Final = ("database", "schema", "append", "projection", "clock", "workers")
_IF_ANY: Final = ("workers",)
_NOTICE: Final = Notice(
    "no_worker",
    "no worker is present, with 3 orders waiting, the oldest for 12 s: start workers "
    "(`pulse background`, or `pulse up`)",
    needs_person=True,
)
_NOT_READY: Final = Ready(
    {
        **dict.fromkeys(_CHECKS),
        "projection": "the order queue is 12 s behind the log at position 18, more than 10 s",
    },
    parked_orders=0,
    orders_for_newer_code=0,
    notices=(_NOTICE,),
)
_CRASH: Final = FAULTS_OF_ALL[:1]

_READY: Final[dict[str, Any]] = {
    "status": "ready",
    "checks": dict.fromkeys(_CHECKS, "ok"),
    "parked_orders": 0,
    "orders_for_newer_code": 0,
    "notices": [msgspec.to_builtins(_NOTICE)],
}

HEALTH_SCHEMAS: Final[dict[str, Schema]] = {
    "Health": record("The process lives.", status={"const": "ok"}),
    "Ready": record(
        "The process can do its work.",
        status={"const": "ready"},
        checks=record(
            "Each check; `workers` only where the process has any.",
            _IF_ANY,
            **{name: {"const": "ok"} for name in _CHECKS},
        ),
        parked_orders=or_null(whole(0, description="set aside for a person")),
        orders_for_newer_code=or_null(whole(0, description="waiting for a newer process")),
        notices=list_of(ref("Notice"), description="what a person should see all the same"),
    ),
    "Notice": record(
        "Something that this process cannot put right.",
        code=text("stable, for programs"),
        message=text("what is wrong and what to do"),
        needs_person={"type": "boolean", "description": "whether it does not pass by itself"},
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
