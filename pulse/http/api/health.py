"""Health, readiness, hello."""

from typing import Any, Final

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pulse.application import Readiness
from pulse.http.errors import NotReady

HELLO: Final = "Hello from Pulse"


def health_routes(readiness: Readiness) -> list[HTTPRouteHandler]:
    """The routes that tell how the process is."""

    @get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @get("/health/ready")
    async def ready() -> Response[dict[str, Any]]:
        ready = await readiness.check()
        if any(ready.checks.values()):
            raise NotReady(ready)
        return Response(
            {
                "status": "ready",
                "checks": dict.fromkeys(ready.checks, "ok"),
                "parked_orders": ready.parked_orders,
                "orders_for_newer_code": ready.orders_for_newer_code,
                "notices": msgspec.to_builtins(ready.notices),
            }
        )

    @get("/internal/hello")
    async def hello() -> dict[str, str]:
        return {"message": HELLO}

    return [health, ready, hello]
