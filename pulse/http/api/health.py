"""Health, readiness, hello."""

from typing import Annotated, Final, Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.notices import Notice
from pulse.application.readiness import Readiness
from pulse.http.answers import Health, Hello
from pulse.http.errors import NotReady

HELLO: Final = "Hello from Pulse"
Count = Annotated[int, Meta(ge=0)]


class ProcessReady(msgspec.Struct, frozen=True, kw_only=True):
    """The process can do its work."""

    status: Literal["ready"]
    checks: Annotated[
        dict[str, Literal["ok"]],
        Meta(
            description="database, schema, append, projection, clock; workers only where the "
            "process has any"
        ),
    ]
    parked_orders: Annotated[Count, Meta(description="set aside for a person")] | None
    orders_for_newer_code: Annotated[Count, Meta(description="waiting for a newer process")] | None
    notices: Annotated[
        tuple[Notice, ...], Meta(description="what a person should see though this process works")
    ]


def health_routes(readiness: Readiness) -> list[HTTPRouteHandler]:
    """The routes that tell how the process is."""

    @get(
        "/health",
        summary="Whether the process is alive",
        tags=["health"],
        response_description="It is.",
    )
    async def read_health() -> Health:
        """Asks nothing of the database."""
        return Health("ok")

    @get(
        "/health/ready",
        summary="Whether the process can do its work",
        tags=["health"],
        response_description="It can.",
    )
    async def read_readiness() -> ProcessReady:
        """Looks at the database, the schema, the append path, the projection and the clock."""
        ready = await readiness.check()
        if any(ready.checks.values()):
            raise NotReady(ready)
        return ProcessReady(
            status="ready",
            checks=dict.fromkeys(ready.checks, "ok"),
            parked_orders=ready.parked_orders,
            orders_for_newer_code=ready.orders_for_newer_code,
            notices=tuple(ready.notices),
        )

    @get(
        "/internal/hello",
        summary="Say hello",
        tags=["health"],
        response_description="A greeting.",
    )
    async def say_hello() -> Hello:
        """Shows that the caller is let in."""
        return Hello(HELLO)

    return [read_health, read_readiness, say_hello]
