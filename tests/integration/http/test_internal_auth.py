"""Access to the internal API: from this machine, or with a service token."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from pulse.http.root import Root
from pulse.process.apps import all_in_one_app
from pulse.secret import Secret, ServiceToken
from tests.support.api import BASE_URL, api_settings, lifespan_of
from tests.support.database import as_runtime
from tests.support.gateway import DESK_TOKEN, GATEWAY_TOKEN, SERVICES
from tests.support.orders import BATCH, ORDERS, fault, order
from tests.support.tokens import bearer, signer_of

SECOND_DESK_TOKEN = "second-desk-token-" + "e" * 32
BEHALF = "X-Pulse-On-Behalf-Of"
ALICE = "https://issuer.example|alice"
UNKNOWN_ORDER_ID = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
CALLS = [
    ("GET", "/pulse/internal/hello"),
    ("POST", ORDERS),
    ("POST", BATCH),
    ("POST", f"{ORDERS}/preview"),
    ("GET", ORDERS),
    ("GET", f"{ORDERS}/{UNKNOWN_ORDER_ID}"),
    ("GET", f"{ORDERS}/{UNKNOWN_ORDER_ID}/events"),
    ("POST", f"{ORDERS}/{UNKNOWN_ORDER_ID}/cancel"),
    ("GET", "/pulse/internal/events"),
    ("GET", "/pulse/internal/events/stream"),
    ("GET", "/pulse/internal/slices"),
    ("POST", "/pulse/internal/halts"),
    ("GET", "/pulse/internal/halts"),
    ("DELETE", f"/pulse/internal/halts/{UNKNOWN_ORDER_ID}"),
    ("GET", "/pulse/internal/nothing"),
    ("DELETE", ORDERS),
    ("OPTIONS", ORDERS),
]
FOR_CALLERS = {
    ("POST", ORDERS),
    ("GET", ORDERS),
    ("GET", f"{ORDERS}/{UNKNOWN_ORDER_ID}"),
    ("GET", f"{ORDERS}/{UNKNOWN_ORDER_ID}/events"),
    ("POST", f"{ORDERS}/{UNKNOWN_ORDER_ID}/cancel"),
}
SPELLINGS = [
    "/pulse//internal/hello",
    "/pulse/internal//hello",
    "/pulse/internal/hello/",
    "/pulse///internal///hello///",
    "/pulse/%69nternal/hello",
    "/pulse/x/pulse/internal/hello",
    "/pulse/pulse/internal/hello",
    "/pulse/pulseinternal/hello",
    "/pulse/./internal/hello",
    "/pulse/health/../internal/hello",
    "/pulse/internal%2fhello",
    "/pulse/%2finternal/hello",
    "/pulse/INTERNAL/hello",
    "/gapi/internal/hello",
    "/gapi/../pulse/internal/hello",
    "/internal/hello",
    "//pulse/internal/hello",
]


@pytest.fixture(scope="module")
async def without_tokens(shared_conninfo: str) -> AsyncIterator[Root]:
    app = all_in_one_app(api_settings(shared_conninfo))
    async with lifespan_of(app):
        yield app


@pytest.fixture(scope="module")
async def with_tokens(shared_conninfo: str) -> AsyncIterator[Root]:
    services = (*SERVICES, ServiceToken("desk", Secret(SECOND_DESK_TOKEN)))
    settings = msgspec.structs.replace(
        signer_of("HS256").settings,
        database_url=as_runtime(shared_conninfo),
        service_tokens=services,
    )
    app = all_in_one_app(settings)
    async with lifespan_of(app):
        yield app


def client_from(app: Root, peer: Any, **headers: str) -> httpx.AsyncClient:
    """A client whose socket's peer is this."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=peer)
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers)


HERE = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "::ffff:127.0.0.1"]
ELSEWHERE = [
    *["10.0.0.7", "192.168.1.1", "8.8.8.8", "128.0.0.1", "fe80::1", "2001:db8::1"],
    "0.0.0.0",  # noqa: S104 - nothing listens here
    *["::ffff:10.0.0.7", "::", "::127.0.0.1", "localhost", "127.0.0.1.evil.example", "", "unix:"],
    "127.1",
    "0x7f000001",
    "2130706433",
]


@pytest.mark.parametrize("peer", HERE)
async def test_without_tokens_this_machine_is_allowed(without_tokens: Root, peer: str) -> None:
    async with client_from(without_tokens, (peer, 1)) as client:
        assert (await client.get("/pulse/internal/hello")).status_code == 200


@pytest.mark.parametrize("peer", [*[(address, 1) for address in ELSEWHERE], None], ids=str)
async def test_without_tokens_no_other_machine_is_allowed(without_tokens: Root, peer: Any) -> None:
    async with client_from(without_tokens, peer) as client:
        for method, path in CALLS:
            response = await client.request(method, path)
            assert "PULSE_SERVICE_TOKENS" in response.json()["error"]["message"]
            fault(response, 403, "FORBIDDEN")
        for path in ("/pulse/health", "/pulse/health/ready", "/gapi/health", "/gapi/api/hello"):
            assert (await client.get(path)).status_code in {
                200,
                503,
            }  # a busy machine may be unready


OWN_NAMES = ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.8.8.8", "[::1]:8000", "[::1]"]
OTHER_NAMES = [
    *["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"],
    *["localhost:8000.evil.example", "10.0.0.7:8000", "[2001:db8::1]:8000", ""],
]


@pytest.mark.parametrize("host", OWN_NAMES)
async def test_without_tokens_this_machine_may_be_called_by_its_own_names(
    without_tokens: Root, host: str
) -> None:
    async with client_from(without_tokens, ("127.0.0.1", 1), Host=host) as client:
        assert (await client.get("/pulse/internal/hello")).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"),
    [("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403), ("", 403)],
)
async def test_a_page_of_another_site_cannot_make_a_browser_send_requests(
    without_tokens: Root, site: str, status: int
) -> None:
    headers = {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": site}
    async with client_from(without_tokens, ("127.0.0.1", 1), **headers) as client:
        response = await client.get("/pulse/internal/hello")
    assert response.status_code == status


@pytest.mark.parametrize("host", OTHER_NAMES)
async def test_a_website_that_points_its_name_at_this_machine_is_refused(
    without_tokens: Root, host: str
) -> None:
    async with client_from(without_tokens, ("127.0.0.1", 1), Host=host) as client:
        for method, path in CALLS:
            fault(await client.request(method, path), 403, "FORBIDDEN")
        assert (await client.get("/pulse/health")).status_code == 200


OF_PROXIES = [
    *("True-Client-IP", "CF-Connecting-IP", "CF-Ray", "X-Client-IP", "X-Cluster-Client-IP"),
    *("Fastly-Client-IP", "Fly-Client-IP", "X-Original-URL", "X-Original-Forwarded-For"),
    *("X-Envoy-External-Address", "X-Amzn-Trace-Id", "X-Azure-ClientIP", "X-ARR-LOG-ID"),
    *("X-Scheme", "X-Host", "X-ProxyUser-Ip", "Proxy-Connection", "X-SSL-Client-Cert"),
    *("Remote-Addr", "X-Remote-User", "CDN-Loop", "X-Varnish", "X-Cloud-Trace-Context"),
    *("Front-End-Https", "X-Request-Start", "Akamai-Origin-Hop", "X-Appengine-User-IP"),
]
FORWARDED: list[dict[str, str]] = [
    {"Forwarded": "for=127.0.0.1"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": ""},
    {"x-forwarded-proto": "https"},
    {"X-FORWARDED-HOST": "pulse.test"},
    {"X-Forwarded-Anything": "x"},
    {"X-Forwarded": "x"},
    {"X-Real-IP": "127.0.0.1"},
    {"Via": "1.1 proxy"},
    *({name: "127.0.0.1"} for name in OF_PROXIES),
]


@pytest.mark.parametrize("headers", FORWARDED, ids=str)
async def test_without_tokens_a_proxied_request_is_refused(
    without_tokens: Root, headers: dict[str, str]
) -> None:
    async with client_from(without_tokens, ("127.0.0.1", 1), **headers) as client:
        for method, path in CALLS:
            fault(await client.request(method, path), 403, "FORBIDDEN")
        assert (await client.get("/pulse/health")).status_code == 200


@pytest.mark.parametrize(
    ("version", "headers"),
    [("1.0", [(b"host", b"127.0.0.1:8000")]), ("1.1", []), ("2", [])],
    ids=["HTTP/1.0", "no Host", "HTTP/2 without an authority"],
)
async def test_without_tokens_a_request_that_no_direct_client_sends_is_refused(
    without_tokens: Root, version: str, headers: list[tuple[bytes, bytes]]
) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "http_version": version,
        "method": "GET",
        "path": "/pulse/internal/hello",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    await without_tokens(scope, receive, send)
    assert sent[0]["status"] == 403


ORDINARY = {
    "Accept": "*/*",
    "User-Agent": "desk/1",
    "X-Trace-Id": "t1",
    "X-Request-Source": "desk",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "X-Correlation-ID": "1",
    "Cache-Control": "no-cache",
    "Sec-Fetch-Mode": "cors",
    "HTTP2-Settings": "AAMAAABk",
    "Expect": "100-continue",
}


async def test_without_tokens_ordinary_headers_are_allowed(without_tokens: Root) -> None:
    async with client_from(without_tokens, ("127.0.0.1", 1), **ORDINARY) as client:
        assert (await client.get("/pulse/internal/hello")).status_code == 200


@pytest.mark.parametrize("path", SPELLINGS)
async def test_no_spelling_of_a_path_bypasses_authentication(
    without_tokens: Root, with_tokens: Root, path: str
) -> None:
    for app in (without_tokens, with_tokens):
        async with client_from(app, ("10.0.0.7", 1)) as client:
            request = client.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            assert (await client.send(request)).status_code in {401, 403, 404}


async def test_with_tokens_a_call_needs_one_wherever_it_comes_from(with_tokens: Root) -> None:
    for peer in ("127.0.0.1", "10.0.0.7"):
        async with client_from(with_tokens, (peer, 1)) as client:
            for method, path in CALLS:
                response = await client.request(method, path)
                fault(response, 401, "UNAUTHORIZED")
                assert response.headers["www-authenticate"] == "Bearer"
            for path in ("/pulse/health", "/pulse/health/ready"):
                assert (await client.get(path)).status_code in {
                    200,
                    503,
                }  # a busy machine may be unready


WRONG = [
    "",
    "x",
    DESK_TOKEN[:-1],
    f"{DESK_TOKEN}x",
    f"desk:{DESK_TOKEN}",
    DESK_TOKEN.upper(),
    f"{DESK_TOKEN},{GATEWAY_TOKEN}",
    "a" * 60_000,
]


@pytest.mark.parametrize("token", WRONG, ids=lambda token: token[:30])
async def test_with_tokens_any_other_token_is_refused(with_tokens: Root, token: str) -> None:
    async with client_from(with_tokens, ("127.0.0.1", 1)) as client:
        for method, path in CALLS:
            fault(await client.request(method, path, headers=bearer(token)), 401, "UNAUTHORIZED")
        caller = bearer(signer_of("HS256").token())
        fault(await client.get(ORDERS, headers=caller), 401, "UNAUTHORIZED")


async def test_each_token_of_a_service_names_it(with_tokens: Root, without_tokens: Root) -> None:
    request = order()
    async with client_from(with_tokens, ("10.0.0.7", 1), Via="1.1 proxy") as client:
        ids = []
        for token in (DESK_TOKEN, SECOND_DESK_TOKEN):
            response = await client.post(ORDERS, json=request, headers=bearer(token))
            ids.append(response.json()["order_id"])
        shown = await client.get(f"{ORDERS}/{ids[0]}", headers=bearer(DESK_TOKEN))
        assert shown.json()["placed_by"] == "desk"
    async with client_from(without_tokens, ("127.0.0.1", 1)) as client:
        response = await client.post(ORDERS, json=request)
        assert response.status_code == 200
        ids.append(response.json()["order_id"])
    assert len(set(ids)) == 1


async def test_only_the_gateway_acts_on_behalf_of_others(
    with_tokens: Root, without_tokens: Root
) -> None:
    named = {BEHALF: ALICE}
    async with client_from(without_tokens, ("127.0.0.1", 1)) as client:
        for headers in (named, {**named, **bearer(GATEWAY_TOKEN)}):
            response = await client.post(ORDERS, json=order(), headers=headers)
            fault(response, 403, "FORBIDDEN")
    async with client_from(with_tokens, ("127.0.0.1", 1)) as client:
        for method, path in CALLS:
            response = await client.request(method, path, headers={**named, **bearer(DESK_TOKEN)})
            fault(response, 403, "FORBIDDEN")
            fault(await client.request(method, path, headers=named), 401, "UNAUTHORIZED")


async def test_the_gateway_acts_only_on_behalf_of_callers(with_tokens: Root) -> None:
    async with client_from(with_tokens, ("127.0.0.1", 1), **bearer(GATEWAY_TOKEN)) as client:
        for method, path in CALLS:
            fault(await client.request(method, path), 403, "FORBIDDEN")
        for method, path in CALLS:
            if (method, path) not in FOR_CALLERS:
                response = await client.request(method, path, headers={BEHALF: ALICE})
                fault(response, 403, "FORBIDDEN")
        doubled = [(BEHALF, ALICE), (BEHALF, ALICE)]
        response = await client.post(ORDERS, json=order(), headers=doubled)
        fault(response, 403, "FORBIDDEN")
        response = await client.post(ORDERS, json=order(), headers={BEHALF: ALICE})
        assert response.status_code == 201
        shown = f"{ORDERS}/{response.json()['order_id']}"
        assert (await client.get(shown, headers={BEHALF: ALICE})).json()["placed_by"] == ALICE
        other = {BEHALF: "https://issuer.example|bob"}
        fault(await client.get(shown, headers=other), 404, "ORDER_NOT_FOUND")
        fault(await client.post(f"{shown}/cancel", headers=other), 404, "ORDER_NOT_FOUND")
        cancelled = await client.post(f"{shown}/cancel", headers={BEHALF: ALICE})
        assert cancelled.json()["quantities"]["remaining"] == 0


NAMES = [
    *["internal", "anonymous", "desk", "", "|", "a|", "|b", "a|b|c", "a%7cb|c", "%61|b", "a|%"],
    *["a|b%", "a b|c", "a|b ", "a|%ff", "a|%00", "a|%ed%a0%80", "a|%0A", f"a|{'b' * 256}"],
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
async def test_an_invalid_name_is_refused(with_tokens: Root, name: str) -> None:
    headers = {BEHALF: name, **bearer(GATEWAY_TOKEN)}
    async with client_from(with_tokens, ("127.0.0.1", 1)) as client:
        response = await client.post(ORDERS, json=order(), headers=headers)
        fault(response, 400, "INVALID_REQUEST")
        fault(await client.get(ORDERS, headers=headers), 400, "INVALID_REQUEST")
        assert (await client.get("/pulse/internal/slices", headers=headers)).status_code == 403
