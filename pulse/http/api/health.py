"""Health, readiness, hello."""

from typing import Annotated, Final, Literal

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.notices import Notice
from pulse.application.readiness import Readiness
from pulse.http.errors import NotReady
from pulse.http.responses import Health, Hello
from pulse.http.rights import needs

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
    parked_orders: Annotated[Count, Meta(description="orders that need a person")] | None
    orders_for_newer_code: (
        Annotated[Count, Meta(description="orders that wait for a newer process")] | None
    )
    notices: Annotated[
        tuple[Notice, ...],
        Meta(description="what a person should know although this process is ready"),
    ]


def health_routes(readiness: Readiness) -> list[HTTPRouteHandler]:
    """The routes for health, readiness and hello."""

    @get(
        "/health",
        summary="Whether the process is alive",
        tags=["health"],
        response_description="The process is alive.",
    )
    async def read_health() -> Health:
        """A liveness probe: 200 as long as the process serves requests.

        It does not query the database, needs no token and is exempt from every limit.
        """
        return Health("ok")

    @get(
        "/health/ready",
        summary="Whether the process can do its work",
        tags=["health"],
        response_description="The process can do its work.",
    )
    async def read_readiness() -> ProcessReady:
        """A readiness probe: checks database, schema, append path, projection and clock.

        A process with workers checks them too. If a check fails, the response is 503, and
        `details.checks` has the reason of each. `notices` names other problems that an operator
        should know, such as orders waiting without a worker. It needs no token.
        """
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
        opt=needs(None),
        summary="Say hello",
        tags=["health"],
        response_description="A greeting.",
    )
    async def say_hello() -> Hello:
        """Authenticated like every call below `/internal`: use it to test a token.

        Any service token suffices, whatever its rights. 401 means a missing or wrong token; 403
        means that no tokens are set and the request does not come directly from the same machine.
        """
        return Hello(HELLO)

    return [read_health, read_readiness, say_hello]
