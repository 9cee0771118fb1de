"""OPTIONS of the path that two handlers share: Litestar would name the methods of one of them."""

from litestar import HttpMethod, Response, route
from litestar.handlers import HTTPRouteHandler


def options_routes() -> list[HTTPRouteHandler]:
    """To be registered before the handlers of the same path."""

    @route("/internal/orders", http_method=HttpMethod.OPTIONS, status_code=204)
    async def options() -> Response[None]:
        return Response(None, headers={"allow": "GET, HEAD, OPTIONS, POST"})

    return [options]
