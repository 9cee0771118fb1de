"""The OpenAPI documents that the API and the gateway serve."""

import asyncio
from typing import Any, cast

import httpx

from pulse.http.api.app import ApiUseCases, create_api
from pulse.http.asgi import ASGIApp
from pulse.http.gateway.app import create_gateway

UNUSED = cast("Any", None)
"""A placeholder for dependencies that /openapi.json does not use."""


def _document(app: ASGIApp) -> dict[str, Any]:
    async def fetch() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/openapi.json")

    answer = asyncio.run(fetch())
    assert answer.status_code == 200, answer.text
    return cast("dict[str, Any]", answer.json())


UNUSED_USE_CASES = ApiUseCases(*[UNUSED] * len(ApiUseCases.__struct_fields__))
API = _document(create_api(UNUSED_USE_CASES))
GATEWAY = _document(create_gateway(UNUSED))
