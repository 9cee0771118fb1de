"""Health, hello, unknown paths and wrong methods."""

import httpx
import pytest

from tests.support.event_streams import STREAM
from tests.support.orders import BATCH, ORDERS, fault, placed
from tests.support.waiting import until

UNKNOWN_ORDER_ID = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/pulse/health", {"status": "ok"}),
        ("/pulse/internal/hello", {"message": "Hello from Pulse"}),
    ],
)
async def test_health_and_hello_are_answered(
    shared_api: httpx.AsyncClient, path: str, answer: dict[str, str]
) -> None:
    response = await shared_api.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == answer


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/pulse",
        "/pulse/",
        "/pulsex/health",
        "/PULSE/health",
        "/health",
        "/internal/orders",
        "/pulse/health/x",
        "/pulse/pulse/health",
        "/pulse/x/pulse/health",
        "/pulse/x/pulse/internal/hello",
        "/pulse/internal",
        "/pulse/internal/orders/a/b",
        "/pulse/internal/orders/a/events/b",
        "/pulse/schema",
        "/pulse/internal/orders/%2e%2e/%2e%2e/secrets",
        "/nothing/%00%ff%0a",
        "/" + "a" * 50_000,
        "/pulse/" + "a/" * 5_000,
    ],
    ids=lambda path: path[:40],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_is_404(
    shared_api: httpx.AsyncClient, method: str, path: str
) -> None:
    fault(await shared_api.request(method, path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/pulse/health", "GET"),
        ("DELETE", "/pulse/health/ready", "GET"),
        ("PUT", ORDERS, "POST"),
        ("PATCH", ORDERS, "POST"),
        ("DELETE", f"{ORDERS}/{UNKNOWN_ORDER_ID}", "GET"),
        ("POST", f"{ORDERS}/{UNKNOWN_ORDER_ID}/events", "GET"),
        ("PUT", BATCH, "POST"),
        ("TRACE", ORDERS, "POST"),
        ("BREW", ORDERS, "POST"),
        ("HEAD", BATCH, "POST"),
    ],
)
async def test_a_wrong_method_is_405_with_the_allowed_methods(
    shared_api: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await shared_api.request(method, path)
    assert allowed in response.headers["allow"]
    if method != "HEAD":
        fault(response, 405, "METHOD_NOT_ALLOWED")
    assert response.status_code == 405


@pytest.mark.parametrize("prefix", ["/pulse", "/gapi"])
async def test_head_is_answered_like_get_on_every_path_of_the_document(
    shared_api: httpx.AsyncClient, prefix: str
) -> None:
    order_id = await placed(shared_api)

    async def is_settled() -> bool:  # from then on its answers stay as they are
        answer = await shared_api.get(f"{ORDERS}/{order_id}")
        return bool(answer.json()["order_queue_status"] == "COMPLETED")

    await until(is_settled, "the order is split")
    document = (await shared_api.get(f"{prefix}/openapi.json")).json()
    paths = [path for path, methods in document["paths"].items() if "get" in methods]
    paths = [path for path in paths if path != STREAM]  # the response of a stream does not end
    assert len(paths) >= 3
    for path in [*paths, "/openapi.json", "/docs", "/docs/", "/docs/page.js"]:
        url = prefix + path.replace("{order_id}", order_id)
        get, head = await shared_api.get(url), await shared_api.head(url)
        assert (head.status_code, head.content) == (get.status_code, b""), url
        if path != "/health/ready":  # which may change between the two
            assert head.headers["content-length"] == str(len(get.content)), url
        assert head.headers.get("content-type") == get.headers.get("content-type")
        assert head.headers["content-security-policy"] == get.headers["content-security-policy"]
        allowed = (await shared_api.options(url)).headers.get("allow", "")
        assert prefix == "/gapi" or {"GET", "HEAD", "OPTIONS"} <= {*allowed.split(", ")}, url


@pytest.mark.parametrize(
    "path", ["/pulse/health", f"{ORDERS}/{UNKNOWN_ORDER_ID}", ORDERS, "/gapi/docs"]
)
async def test_a_405_names_head_wherever_it_names_get(
    shared_api: httpx.AsyncClient, path: str
) -> None:
    response = await shared_api.request("BREW", path)
    assert response.status_code == 405
    assert {"GET", "HEAD"} <= {*response.headers["allow"].split(", ")}
    batch = await shared_api.request("BREW", BATCH)
    assert "HEAD" not in batch.headers["allow"]


async def test_options_lists_the_methods_of_a_path(shared_api: httpx.AsyncClient) -> None:
    response = await shared_api.options(ORDERS)
    assert response.status_code == 204
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("prefix", ["/pulse", "/gapi"])
async def test_the_page_is_found_with_a_slash_at_its_end(
    shared_api: httpx.AsyncClient, prefix: str
) -> None:
    """By a relative redirect, which holds behind a proxy that changes the prefix too."""
    found = await shared_api.get(f"{prefix}/docs/", follow_redirects=True)
    assert found.status_code == 200
    assert found.url.path == f"{prefix}/docs"
    assert "swagger-ui" in found.text
    for slashes, location in (("/", "../docs"), ("//", "../../docs")):
        redirect = await shared_api.get(f"{prefix}/docs{slashes}")
        assert redirect.headers["location"] == location


MALFORMED_IDS = [
    UNKNOWN_ORDER_ID,
    "1",
    "abc",
    "null",
    "%20",
    "%FF%FE",
    "%00",
    "a%2Fb",
    "%2f",
    "%0a",
    "%F0%9F%98%80",
    "..%00",
    "0" * 36,
    "-" * 36,
    "g" * 8 + "-0000-0000-0000-" + "0" * 12,
    "%D9%A1" * 32,
    "a" * 9000,
    "'%20OR%201=1",
    "%7B%22a%22:1%7D",
]


@pytest.mark.parametrize("order_id", MALFORMED_IDS, ids=lambda order_id: order_id[:40])
@pytest.mark.parametrize("rest", ["", "/events"])
async def test_a_malformed_order_id_is_not_found(
    shared_api: httpx.AsyncClient, order_id: str, rest: str
) -> None:
    response = await shared_api.get(f"{ORDERS}/{order_id}{rest}")
    fault(response, 404, "ORDER_NOT_FOUND")
    assert len(response.content) < 1000


async def test_an_id_is_accepted_only_in_its_canonical_form(shared_api: httpx.AsyncClient) -> None:
    order_id = await placed(shared_api)
    digits = order_id.replace("-", "")
    spellings = [
        digits,
        f"----{digits}",
        f"urn:{digits}",
        f"urn:uuid:{order_id}",
        f"{{{order_id}}}",
        f"{order_id}-",
        f"{order_id}%20",
        f"{order_id}%0a",
        f"{digits[0]}-{digits[1:]}---",
    ]
    for spelling in spellings:
        fault(await shared_api.get(f"{ORDERS}/{spelling}"), 404, "ORDER_NOT_FOUND")
    for usual in (order_id, order_id.upper()):
        assert (await shared_api.get(f"{ORDERS}/{usual}")).json()["order_id"] == order_id
