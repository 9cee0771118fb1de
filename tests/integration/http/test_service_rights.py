"""The rights of service tokens: which calls each token may make, and what the refusal says."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from pulse.process.apps import all_in_one_app
from pulse.rights import ALL_RIGHTS, DEFAULT_RIGHTS, Right, Rights, ServiceRights
from pulse.secret import Secret, ServiceToken
from tests.support import documents
from tests.support.api import api_settings, client_of, lifespan_of
from tests.support.database import as_runtime, cloned_database
from tests.support.orders import BATCH, ORDERS, fault, order
from tests.support.tokens import bearer, signer_of

HALTS = "/pulse/internal/halts"
NO_ORDER = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
SERVICES: dict[str, Rights] = {
    "reader": frozenset({"read"}),
    "writer": frozenset({"write"}),
    "halter": frozenset({"halt"}),
    "ops": ALL_RIGHTS,
    "desk": DEFAULT_RIGHTS,
}
STREAM = "/pulse/internal/events/stream?partition=1/1"
"""With an invalid parameter: a valid call does not end."""

CALLS: list[tuple[str, str, Right | None]] = [
    ("POST", ORDERS, "write"),
    ("POST", f"{ORDERS}/", "write"),
    ("POST", BATCH, "write"),
    ("POST", f"{ORDERS}/{NO_ORDER}/cancel", "write"),
    ("POST", f"{ORDERS}/preview", "read"),
    ("GET", f"{ORDERS}/{NO_ORDER}", "read"),
    ("HEAD", f"{ORDERS}/{NO_ORDER}", "read"),
    ("GET", f"{ORDERS}/{NO_ORDER}/", "read"),
    ("GET", f"{ORDERS}/{NO_ORDER}/events", "read"),
    ("GET", ORDERS, "read"),
    ("HEAD", ORDERS, "read"),
    ("GET", f"{ORDERS}/{NO_ORDER}?version=1", "read"),
    ("GET", "/pulse/internal/queue", "read"),
    ("GET", "/pulse/internal/slices", "read"),
    ("GET", "/pulse/internal/events", "read"),
    ("GET", STREAM, "read"),
    ("POST", HALTS, "halt"),
    ("GET", HALTS, "read"),
    ("GET", "/pulse/internal/log/checkpoint", "read"),
    ("GET", "/pulse/internal/log/tile/entries/000", "read"),
    ("GET", "/pulse/internal/events/1/proof", "read"),
    ("DELETE", f"{HALTS}/{NO_ORDER}", "halt"),
    ("GET", "/pulse/internal/hello", None),
    ("OPTIONS", ORDERS, None),
    ("OPTIONS", f"{ORDERS}/preview", None),
]
"""Each call and the right that it needs, by the contract."""


IN_PATHS = {"order_id": NO_ORDER, "halt_id": NO_ORDER, "tile": "entries/000", "position": "1"}


def token_of(name: str) -> dict[str, str]:
    return bearer(name.ljust(32, "-"))


@pytest.fixture(scope="module")
def module_conninfo(postgres: str, template_database: str) -> Iterator[str]:
    """A database for this module alone, because its halts stay in force."""
    with cloned_database(postgres, template_database) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
async def api(module_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = msgspec.structs.replace(
        signer_of("HS256").settings,
        database_url=as_runtime(module_conninfo),
        service_tokens=tuple(ServiceToken(n, Secret(n.ljust(32, "-"))) for n in SERVICES),
        service_rights=tuple(
            ServiceRights(name, rights) for name, rights in SERVICES.items() if name != "desk"
        ),
    )
    app = all_in_one_app(settings)
    async with lifespan_of(app), client_of(app) as client:
        yield client


def sent(method: str, path: str) -> dict[str, Any]:
    if method != "POST" or path.endswith("cancel"):
        return {}
    if path == HALTS:
        return {"json": {"scope": "CALLER", "placed_by": "of no order", "reason": "a test"}}
    return {"json": [order()] if path == BATCH else order()}


def answered(path: str) -> set[int]:
    """The statuses of a call that the service may make."""
    return {400} if path == STREAM else {200, 201, 204, 404}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("method", "path", "right"), CALLS)
async def test_a_call_needs_its_right(
    api: httpx.AsyncClient, service: str, method: str, path: str, right: Right | None
) -> None:
    response = await api.request(method, path, headers=token_of(service), **sent(method, path))
    if right is None or right in SERVICES[service]:
        assert response.status_code in answered(path), response.text
    elif method == "HEAD":
        assert response.status_code == 403
    else:
        assert fault(response, 403, "FORBIDDEN") == {"required_right": right}


async def test_every_call_of_the_document_is_tested_here() -> None:
    described = {
        (method.upper(), f"/pulse{path.format(**IN_PATHS)}")
        for path, methods in documents.API["paths"].items()
        for method in methods
        if "internal" in path
    }
    assert described <= {(method, path.partition("?")[0]) for method, path, _ in CALLS}


async def test_the_refusal_names_the_right_and_the_setting(api: httpx.AsyncClient) -> None:
    response = await api.post(ORDERS, json=order(), headers=token_of("reader"))
    assert response.json()["error"]["message"] == (
        "the service reader does not have the right write: the operator of Pulse grants it with "
        "PULSE_SERVICE_RIGHTS, as in reader=read+write"
    )


@pytest.mark.parametrize("content", [b"{", b"", b"x" * 70_000], ids=["broken", "empty", "large"])
@pytest.mark.parametrize("path", [ORDERS, f"{ORDERS}/", BATCH, f"{ORDERS}/{NO_ORDER}/cancel"])
async def test_the_right_is_checked_before_the_request(
    api: httpx.AsyncClient, path: str, content: bytes
) -> None:
    headers = {"content-type": "application/json", **token_of("reader")}
    for query in ("", "?dry_run=true"):
        response = await api.post(path + query, content=content, headers=headers)
        fault(response, 403, "FORBIDDEN")


async def test_a_refused_call_stores_nothing(api: httpx.AsyncClient) -> None:
    request = order()
    for path, body in ((ORDERS, request), (f"{ORDERS}/", request), (BATCH, [request])):
        response = await api.post(path, json=body, headers=token_of("reader"))
        fault(response, 403, "FORBIDDEN")
    placed = await api.post(ORDERS, json=request, headers=token_of("writer"))
    assert placed.status_code == 201
    cancel = f"{ORDERS}/{placed.json()['order_id']}/cancel"
    fault(await api.post(cancel, headers=token_of("reader")), 403, "FORBIDDEN")
    history = f"{ORDERS}/{placed.json()['order_id']}/events"
    events = (await api.get(history, headers=token_of("reader"))).json()["events"]
    assert "OrderCancelled" not in {event["type"] for event in events}


@pytest.mark.parametrize("service", SERVICES)
async def test_unknown_paths_and_wrong_methods_need_no_right(
    api: httpx.AsyncClient, service: str
) -> None:
    for method, path, status in (
        ("GET", "/pulse/internal/nothing", 404),
        ("DELETE", ORDERS, 405),
        ("GET", f"{ORDERS}/preview", 405),
        ("GET", BATCH, 405),
    ):
        response = await api.request(method, path, headers=token_of(service))
        assert response.status_code == status


async def test_a_call_that_needs_no_token_needs_no_right(api: httpx.AsyncClient) -> None:
    for path in ("health", "health/ready", "docs", "docs/page.js", "openapi.json"):
        assert (await api.get(f"/pulse/{path}")).status_code in {
            200,
            503,
        }  # a busy machine may be unready


async def test_without_tokens_this_machine_has_every_right(module_conninfo: str) -> None:
    app = all_in_one_app(api_settings(module_conninfo))
    async with lifespan_of(app), client_of(app) as client:
        for method, path, _ in CALLS:
            response = await client.request(method, path, **sent(method, path))
            assert response.status_code in answered(path), response.text
