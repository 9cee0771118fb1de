"""Runs the real ASGI application in this process, with its lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from pulse.http.asgi import ASGIApp
from pulse.http.limits import AdmissionLimits
from pulse.http.root import Mounts, Root
from pulse.process.apps import all_in_one_app
from pulse.settings import Settings
from tests.support.database import as_runtime

BASE_URL: Final = "http://localhost"
_STOP_SECONDS: Final = 30.0

Message = dict[str, Any]

FEW_CONNECTIONS: Final[dict[str, Any]] = {"pool_size": 3, "metrics": False}
"""Settings that halve the CPU time of a start, most of which is spent on connections."""


def api_settings(conninfo: str, **changes: Any) -> Settings:
    """Settings of an application on this database, with few connections and without metrics."""
    return Settings(**{"database_url": as_runtime(conninfo), **FEW_CONNECTIONS, **changes})


@asynccontextmanager
async def lifespan_of(app: ASGIApp) -> AsyncIterator[None]:
    """Start the application and stop it on exit. A failure of either raises."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    await to_app.put({"type": "lifespan.startup"})
    running = asyncio.ensure_future(app({"type": "lifespan"}, to_app.get, from_app.put))
    await _expect("lifespan.startup.complete", running, from_app)
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await _expect("lifespan.shutdown.complete", running, from_app)
        await running


async def _expect(
    kind: str, running: "asyncio.Future[None]", messages: asyncio.Queue[Message]
) -> None:
    receiving = asyncio.ensure_future(messages.get())
    either: set[asyncio.Future[Any]] = {receiving, running}
    await asyncio.wait(either, timeout=_STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not receiving.done():
        receiving.cancel()
        if running.done():
            running.result()
        raise AssertionError(f"the application did not send {kind}")
    assert receiving.result()["type"] == kind, receiving.result()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app with API, gateway and workers; API paths start with /pulse."""
    app = all_in_one_app(settings)
    async with lifespan_of(app), client_of(app) as client:
        yield client


@asynccontextmanager
async def root_of(
    app: ASGIApp, limits: AdmissionLimits | None = None, at: str = "", *, pages: bool = False
) -> AsyncIterator[Root]:
    """A started root application with this app mounted at `at`; `pages`: it has console pages."""

    @asynccontextmanager
    async def mounts() -> AsyncIterator[Mounts]:
        yield {at: app}

    root = Root(mounts, limits, pages=(at,) if pages else ())
    async with lifespan_of(root):
        yield root


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    """A client that calls the application directly. An exception in the app becomes a 500."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, timeout=30)
