"""Unknown and repeated query parameters are refused on every call."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support import documents
from tests.support.gateway import Served
from tests.support.orders import fault, order
from tests.support.tokens import bearer

ORDER_ID = "9ff54a4d-a8eb-5a4c-a146-a92918cb5546"
PATH_PARAMETERS = {"order_id": ORDER_ID, "halt_id": ORDER_ID, "position": 1, "tile": "0/000"}
UNDOCUMENTED = [("GET", path) for path in ("/openapi.json", "/docs", "/docs/page.js")]
JSON = {"content-type": "application/json"}


def calls(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every call that a document names, and those that explain it."""
    for path, methods in document["paths"].items():
        for method in methods:
            yield method.upper(), path.format_map(PATH_PARAMETERS)
    yield from UNDOCUMENTED


API_CALLS = list(calls(documents.API))
GATEWAY_CALLS = list(calls(documents.GATEWAY))


@pytest.fixture(scope="module")
def apps(apps: Served) -> Served:
    apps.gateway.headers.update(bearer(apps.signer.token(sub="alice")))
    return apps


async def refused(
    client: httpx.AsyncClient, method: str, path: str, query: str, field: str
) -> dict[str, Any]:
    content = {} if method != "POST" else {"content": b"{}", "headers": JSON}
    answer = await client.request(method, f"{path.removeprefix('/')}?{query}", **content)  # type: ignore[arg-type]
    details = fault(answer, 400, "INVALID_REQUEST")
    assert details["field"] == field
    assert field in answer.json()["error"]["message"]
    return details


@pytest.mark.parametrize(("method", "path"), API_CALLS)
async def test_an_unknown_parameter_is_refused_on_every_call_of_the_api(
    apps: Served, method: str, path: str
) -> None:
    for query in ("dry_run=true", "dry_run", "dry_run=1&dry_run=1"):
        await refused(apps.api, method, path, query, "dry_run")


@pytest.mark.parametrize(("method", "path"), GATEWAY_CALLS)
async def test_an_unknown_parameter_is_refused_on_every_call_of_the_gateway(
    apps: Served, method: str, path: str
) -> None:
    details = await refused(apps.gateway, method, path, "dry_run=true", "dry_run")
    takes_some = (method, path) == ("GET", "/api/orders")
    assert details["expected"].startswith("only " if takes_some else "no query parameters")


@pytest.mark.parametrize("path", ["internal/orders", "internal/slices", "internal/events"])
async def test_a_repeated_parameter_is_refused(apps: Served, path: str) -> None:
    details = await refused(apps.api, "GET", path, "limit=1&limit=1", "limit")
    assert details["expected"] == "the parameter once"
    assert (await apps.api.get(f"{path}?limit=1")).status_code == 200


async def test_a_parameter_keeps_an_order_from_being_placed(apps: Served) -> None:
    for client, path, placed in (
        (apps.api, "internal/orders", 201),
        (apps.api, "internal/orders/", 201),
        (apps.gateway, "api/orders", 202),
    ):
        request = order()
        refusal = await client.post(f"{path}?dry_run=true", json=request)
        assert fault(refusal, 400, "INVALID_REQUEST")["field"] == "dry_run"
        assert (await client.post(path, json=request)).status_code == placed
    request = order()
    batch = await apps.api.post("internal/orders/batch?dry_run=true", json=[request])
    fault(batch, 400, "INVALID_REQUEST")
    assert (await apps.api.post("internal/orders", json=request)).status_code == 201


@pytest.mark.parametrize("query", ["", "&", "&&"])
async def test_a_query_without_a_parameter_is_accepted(apps: Served, query: str) -> None:
    placed = await apps.api.post(f"internal/orders?{query}", json=order())
    assert placed.status_code == 201
    order_id = placed.json()["order_id"]
    assert (await apps.api.get(f"internal/orders/{order_id}?{query}")).status_code == 200


@pytest.mark.parametrize("document", [documents.API, documents.GATEWAY], ids=["API", "gateway"])
def test_every_call_is_documented_with_that_refusal(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for described in methods.values():
            examples = described["responses"]["400"]["content"]["application/json"]["examples"]
            assert "an unknown parameter" in examples, path
