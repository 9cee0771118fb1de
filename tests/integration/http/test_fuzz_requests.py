"""Arbitrary requests to both components: never a 5xx, and every error has the schema."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import BASE_URL, serving
from tests.support.database import as_runtime
from tests.support.orders import fault, order
from tests.support.tokens import bearer, signer_of

SIGNER = signer_of("HS256")
NO_LINE = frozenset(b"\r\n\0")

Headers = list[tuple[bytes, bytes]]

methods = st.sampled_from(
    ["POST", "POST", "POST", "GET", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"]
)
segments = st.one_of(
    st.sampled_from(
        ["internal", "api", "orders", "batch", "preview", "cancel", "events", "slices", "hello"]
    ),
    st.sampled_from(
        ["health", "ready", "docs", "openapi.json", "page.js", "", ".", "..", "%2f", "%2e%2e"]
    ),
    st.text(max_size=12).map(lambda text: quote(text.encode("utf-8", "surrogatepass"))),
    st.binary(max_size=12).map(quote),
)
known_paths = st.sampled_from(
    [
        "/pulse/internal/orders",
        "/pulse/internal/orders",
        "/gapi/api/orders",
        "/pulse/internal/orders/batch",
        "/pulse/internal/orders/preview",
        "/pulse/internal/orders/0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77",
        "/pulse/internal/orders/0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77/cancel",
        "/gapi/api/orders/0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77/cancel",
        "/pulse/internal/events",
        "/pulse/internal/slices",
        "/pulse/health/ready",
        "/gapi/api/orders",
        "/gapi/api/orders/0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77",
        "/gapi/api/hello",
    ]
)
unknown_paths = st.tuples(
    st.sampled_from(["/pulse/", "/gapi/", "/"]), st.lists(segments, max_size=5).map("/".join)
).map("".join)
queries = st.one_of(
    st.just(""),
    st.tuples(
        st.sampled_from(["limit", "cursor", "after", "type", "instrument", "scheduled_from", "x"]),
        st.binary(max_size=20).map(quote),
    ).map(lambda pair: "?" + "=".join(pair)),
)
values = st.binary(max_size=30).filter(lambda value: not set(value) & NO_LINE)
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"content-type",
                b"authorization",
                b"accept",
                b"accept-encoding",
                b"content-encoding",
                b"cookie",
                b"forwarded",
                b"host",
                b"origin",
                b"range",
                b"x-forwarded-for",
                b"x-pulse-on-behalf-of",
                b"x-trace-id",
            ]
        ),
        values,
    ),
    max_size=3,
)
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=100),
    st.builds(lambda: msgspec.json.encode(order())),
    st.builds(lambda: msgspec.json.encode(order())),
    st.builds(lambda: msgspec.json.encode([order(), order()])),
    st.just(b'{"reason":"a test"}'),
)


@pytest.fixture(scope="module")
async def client(shared_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    configured = msgspec.structs.replace(SIGNER.settings, database_url=as_runtime(shared_conninfo))
    async with serving(configured) as client:
        yield client


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    method=methods,
    path=st.one_of(known_paths, known_paths, unknown_paths),
    query=queries,
    extra=headers,
    body=bodies,
)
async def test_any_request_never_causes_a_server_error(
    client: httpx.AsyncClient,
    *,
    method: str,
    path: str,
    query: str,
    extra: Headers,
    body: bytes,
) -> None:
    await is_answered_well(client, method, path + query, extra, body)


@FUZZ
@given(
    path=st.sampled_from(["/pulse/internal/orders", "/gapi/api/orders"]),
    query=st.one_of(st.just(""), queries),
    extra=st.one_of(st.just([]), headers),
    body=st.one_of(st.builds(lambda: msgspec.json.encode(order())), bodies),
)
async def test_an_order_with_any_query_and_headers_never_causes_a_server_error(
    client: httpx.AsyncClient, path: str, query: str, extra: Headers, body: bytes
) -> None:
    credentials = bearer(SIGNER.token()) if path.startswith("/gapi") else {}
    sent = {"content-type": "application/json", **credentials}
    good = [(name.encode(), value.encode()) for name, value in sent.items()]
    await is_answered_well(client, "POST", path + query, [*good, *extra], body)


async def is_answered_well(
    client: httpx.AsyncClient, method: str, target: str, sent: Headers, body: bytes
) -> None:
    response = await client.request(method, BASE_URL + target, headers=sent, content=body)
    assert response.status_code < 500, (method, target, response.text)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "server" not in response.headers
    if response.status_code >= 400 and method != "HEAD":
        fault(response, response.status_code, response.json()["error"]["code"])
