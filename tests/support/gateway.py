"""The gateway in one process with the API, and as a separate app in front of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from pulse.domain import order_id_for
from pulse.process.apps import all_in_one_app, api_app, gateway_app
from pulse.rights import ALL_RIGHTS, ServiceRights
from pulse.secret import Secret, ServiceToken
from pulse.settings import Settings
from tests.support.api import client_of, lifespan_of
from tests.support.database import as_runtime
from tests.support.tokens import Signer, bearer

GATEWAY_TOKEN: Final = "gateway-token-" + "g" * 32
DESK_TOKEN: Final = "desk-token-" + "d" * 32
SERVICES: Final = (
    ServiceToken("gateway", Secret(GATEWAY_TOKEN)),
    ServiceToken("desk", Secret(DESK_TOKEN)),
)
RIGHTS: Final = (ServiceRights("desk", ALL_RIGHTS),)
WAYS: Final = ("in one process", "alone")
TRACE: Final = {
    "X-Trace-Id": "t-of-the-caller",
    "X-Request-Id": "r-of-the-caller",
    "X-Trace-Source": "DESK:start",
    "X-Request-Source": "DESK:click",
}


@dataclass(frozen=True)
class Served:
    """Clients of a gateway and of the internal API (as service `desk`) on one database."""

    gateway: httpx.AsyncClient
    api: httpx.AsyncClient
    signer: Signer

    async def place(self, request: Any, subject: str = "alice", **claims: Any) -> httpx.Response:
        headers = bearer(self.signer.token(sub=subject, **claims))
        return await self.gateway.post("/api/orders", json=request, headers=headers)

    async def read(self, order_id: str, subject: str = "alice", **claims: Any) -> httpx.Response:
        headers = bearer(self.signer.token(sub=subject, **claims))
        return await self.gateway.get(f"/api/orders/{order_id}", headers=headers)

    async def cancel(
        self, order_id: str, request: Any = None, subject: str = "alice", **claims: Any
    ) -> httpx.Response:
        headers = bearer(self.signer.token(sub=subject, **claims))
        path = f"/api/orders/{order_id}/cancel"
        if request is None:
            return await self.gateway.post(path, headers=headers)
        return await self.gateway.post(path, json=request, headers=headers)

    async def events(self, order_id: str) -> list[dict[str, Any]]:
        response = await self.api.get(f"/internal/orders/{order_id}/events")
        assert response.status_code == httpx.codes.OK, response.text
        found: list[dict[str, Any]] = response.json()["events"]
        return found


@asynccontextmanager
async def served(way: str, conninfo: str, signer: Signer) -> AsyncIterator[Served]:
    """A gateway on a database, in one of the WAYS. Slices are not released."""
    settings = msgspec.structs.replace(
        signer.settings,
        database_url=as_runtime(conninfo),
        service_tokens=SERVICES,
        service_rights=RIGHTS,
        release_slices=False,
    )
    async with AsyncExitStack() as stack:
        whole = all_in_one_app(settings) if way == "in one process" else api_app(settings)
        await stack.enter_async_context(lifespan_of(whole))
        client = await stack.enter_async_context(client_of(whole))
        client.headers.update(bearer(DESK_TOKEN))
        if way == "in one process":
            client.base_url = client.base_url.join("/pulse/")
            gateway = await stack.enter_async_context(client_of(whole))
            gateway.base_url = gateway.base_url.join("/gapi/")
        else:
            to_api = httpx.ASGITransport(whole, raise_app_exceptions=False)
            alone = await stack.enter_async_context(gateway_in_front_of(to_api, signer.settings))
            gateway = alone
        yield Served(gateway, client, signer)


@asynccontextmanager
async def gateway_in_front_of(
    pulse: httpx.AsyncBaseTransport, settings: Settings
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a separate gateway, without a database, in front of this API."""
    settings = msgspec.structs.replace(
        settings,
        database_url="postgresql://nobody@127.0.0.1:1/nowhere",
        gateway_service_token=Secret(GATEWAY_TOKEN),
        api_base_url="http://pulse.test",
    )
    app = gateway_app(settings, pulse)
    async with lifespan_of(app), client_of(app) as client:
        yield client


@dataclass
class FakePulse:
    """An API that first gives the `answers`, in order, and then accepts every order."""

    requests: list[httpx.Request] = field(default_factory=list)
    answers: list[httpx.Response | Exception] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if request.method == "GET":
            return refusal(404, "ORDER_NOT_FOUND")
        key = msgspec.json.decode(request.content)["order_unique_key"]
        order_id = order_id_for(request.headers["X-Pulse-On-Behalf-Of"], key)
        return httpx.Response(201, json={"order_id": str(order_id), "order_unique_key": key})


def refusal(status: int, code: str, message: str = "refused by the test") -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": message, "details": {}}})
