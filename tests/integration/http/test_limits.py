"""Limits on requests and bodies, rate limits, and the headers of every response."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from pulse.application.callers import Caller
from pulse.http.asgi import CALLER_KEY
from pulse.http.limits import AdmissionLimits, RateLimiter, RateLimitMiddleware
from pulse.http.root import Root
from tests.support.api import api_settings, client_of, root_of, serving
from tests.support.database import as_runtime
from tests.support.orders import BATCH, JSON, ORDERS, fault, order, post
from tests.support.tokens import bearer, signer_of
from tests.support.waiting import until

GATEWAY = "/gapi/api/orders"
EVERY_ANSWER = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


async def test_every_answer_has_the_security_headers(shared_api: httpx.AsyncClient) -> None:
    answers = [
        await post(shared_api, order()),
        await post(shared_api, b"{"),
        await shared_api.get("/nowhere"),
        await shared_api.put(ORDERS),
        await shared_api.get("/pulse/health"),
        await shared_api.options(ORDERS),
    ]
    assert [answer.status_code for answer in answers] == [201, 400, 404, 405, 200, 204]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in EVERY_ANSWER} == EVERY_ANSWER
        assert "server" not in answer.headers


class Slow:
    """An application that responds once `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0

    async def until_begun(self, many: int) -> None:
        async def are_begun() -> bool:
            return self.begun >= many

        await until(are_begun, f"{many} are in flight")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            while (await receive())["more_body"]:
                pass
        if scope["path"] != "/health":
            self.begun += 1
            await self.go.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_requests_beyond_the_limit_are_503_but_health_is_answered() -> None:
    slow = Slow()
    async with (
        root_of(slow, AdmissionLimits(requests_in_flight=3)) as root,
        client_of(root) as client,
    ):
        waiting = [asyncio.ensure_future(client.get("/x")) for _ in range(3)]
        await slow.until_begun(3)
        refused = await client.get("/x")
        fault(refused, 503, "UNAVAILABLE")
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/health")).status_code == 204
        slow.go.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {204}
        assert (await client.get("/x")).status_code == 204


BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_a_browser_that_is_refused_gets_a_page_and_a_program_json() -> None:
    slow = Slow()
    async with (
        root_of(slow, AdmissionLimits(requests_in_flight=1), "/console", pages=True) as root,
        client_of(root) as client,
    ):
        waiting = asyncio.ensure_future(client.get("/console/x"))
        await slow.until_begun(1)
        refused = await client.get("/console/x", headers=BROWSER)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "text/html; charset=utf-8"
        assert "too many requests in flight" in refused.text
        assert refused.headers["x-trace-id"] in refused.text
        fault(await client.get("/console/x"), 503, "UNAVAILABLE")
        fault(
            await client.get("/console/x", headers={"accept": "application/json"}),
            503,
            "UNAVAILABLE",
        )
        slow.go.set()
        assert (await waiting).status_code == 204


async def test_only_the_console_answers_a_refused_browser_with_a_page(
    shared_api: httpx.AsyncClient,
) -> None:
    headers = {**BROWSER, "transfer-encoding": "gzip", "x-trace-id": "<script>"}
    page = await shared_api.get("/console", headers=headers)
    assert page.status_code == 400
    assert "transfer coding" in page.text
    assert "<code>&lt;script&gt;</code>" in page.text
    fault(await shared_api.get("/pulse/internal/hello", headers=headers), 400, "INVALID_REQUEST")


async def test_a_large_body_counts_as_several_requests() -> None:
    slow = Slow()
    async with (
        root_of(slow, AdmissionLimits(requests_in_flight=17)) as root,
        client_of(root) as client,
    ):
        content = b" " * 1024 * 1024
        waiting = asyncio.ensure_future(client.post("/orders/batch", content=content))
        await slow.until_begun(1)
        fault(await client.get("/x"), 503, "UNAVAILABLE")
        slow.go.set()
        assert (await waiting).status_code == 204
        assert (await client.get("/x")).status_code == 204


async def test_a_body_counts_at_most_as_the_limit_of_its_path() -> None:
    async def without_end() -> AsyncIterator[bytes]:
        yield b"{"

    slow = Slow()
    async with (
        root_of(slow, AdmissionLimits(requests_in_flight=3)) as root,
        client_of(root) as client,
    ):
        waiting = asyncio.ensure_future(client.post("/orders", content=without_end()))
        await slow.until_begun(1)
        other = asyncio.ensure_future(client.get("/x"))
        await slow.until_begun(2)
        slow.go.set()
        assert [(await waiting).status_code, (await other).status_code] == [204, 204]


def client_at(root: Root, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(root, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://pulse.test")


async def stalled() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


async def test_a_body_in_progress_does_not_count_as_a_request() -> None:
    slow = Slow()
    slow.go.set()
    limits = AdmissionLimits(requests_in_flight=1, bodies_in_progress=8, body_seconds=60)
    async with root_of(slow, limits) as root, client_of(root) as client:
        dripping = [asyncio.ensure_future(client.post("/orders", content=stalled())) for _ in "123"]
        await asyncio.sleep(0)
        assert (await client.get("/x")).status_code == 204
        assert (await client.post("/orders", content=b"{}")).status_code == 204
        for drip in dripping:
            drip.cancel()


async def test_with_too_many_bodies_in_progress_the_callers_oldest_is_refused() -> None:
    slow = Slow()
    slow.go.set()
    limits = AdmissionLimits(bodies_in_progress=4, body_seconds=60)  # a chunked body weighs two
    async with root_of(slow, limits) as root, client_of(root) as client:
        first, second, third = (
            asyncio.ensure_future(client.post("/orders", content=stalled())) for _ in "123"
        )
        fault(await first, 503, "UNAVAILABLE")
        assert (await client.post("/orders", content=b"{}")).status_code == 204
        assert not third.done()
        for drip in (second, third):
            drip.cancel()


async def test_a_caller_with_many_slow_bodies_affects_only_itself() -> None:
    slow = Slow()
    slow.go.set()
    async with (
        root_of(slow, AdmissionLimits(bodies_in_progress=6, body_seconds=60)) as root,
        client_at(root, "10.0.0.1") as other_caller,
        client_at(root, "10.0.0.2") as dripping,
    ):
        own = asyncio.ensure_future(other_caller.post("/orders", content=stalled()))
        drips = [asyncio.ensure_future(dripping.post("/orders", content=stalled())) for _ in "123"]
        fault(await drips[0], 503, "UNAVAILABLE")
        assert not own.done()
        for body in (own, *drips[1:]):
            body.cancel()


@pytest.mark.timing
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"0")]])
async def test_over_http2_a_body_ends_with_its_stream(
    headers: list[tuple[bytes, bytes]],
) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "path": "/orders",
        "headers": headers,
    }
    limits = AdmissionLimits(requests_in_flight=1, body_seconds=0.1)
    async with root_of(Slow(), limits) as root, client_of(root) as client:
        stuck = asyncio.ensure_future(root(scope, receive, send))
        await asyncio.sleep(0)
        assert (await client.get("/health")).status_code == 204
        await stuck
    assert sent[0]["status"] == 408


async def test_an_unread_response_does_not_count_as_a_request() -> None:
    slow = Slow()
    slow.go.set()
    unread = asyncio.Event()

    async def send(_: Any) -> None:
        unread.set()
        await asyncio.Event().wait()

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/x", "headers": []}
    async with (
        root_of(slow, AdmissionLimits(requests_in_flight=1)) as root,
        client_of(root) as client,
    ):
        stuck = asyncio.ensure_future(root(scope, asyncio.Event().wait, send))
        await unread.wait()
        assert (await client.get("/x")).status_code == 204
        stuck.cancel()


async def test_one_caller_cannot_use_all_requests_in_flight() -> None:
    slow = Slow()

    async def of_alice(scope: Any, receive: Any, send: Any) -> None:
        scope[CALLER_KEY] = Caller(placed_by="i|alice", key_scope="i|alice")
        await limited(scope, receive, send)

    limited = RateLimitMiddleware(slow, RateLimiter(1000, 1), max_in_flight=2)
    async with root_of(of_alice, AdmissionLimits()) as root, client_of(root) as client:
        waiting = [asyncio.ensure_future(client.get("/x")) for _ in range(2)]
        await slow.until_begun(2)
        fault(await client.get("/x"), 429, "TOO_MANY_REQUESTS")
        slow.go.set()
        assert [(await answer).status_code for answer in waiting] == [204, 204]
        assert (await client.get("/x")).status_code == 204


async def test_a_crashed_request_no_longer_counts() -> None:
    async def crash(*_: object) -> None:
        raise ZeroDivisionError

    async with (
        root_of(crash, AdmissionLimits(requests_in_flight=1)) as root,
        client_of(root) as client,
    ):
        for _ in range(3):
            fault(await client.get("/x"), 500, "INTERNAL_ERROR")


@pytest.mark.timing
@pytest.mark.parametrize("path", [ORDERS, BATCH])
async def test_a_stalled_body_is_refused(conninfo: str, path: str) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(3600)

    async with serving(api_settings(conninfo, body_timeout_seconds=0.2)) as client:
        response = await client.post(path, content=stalled(), headers=JSON)
        details = fault(response, 408, "REQUEST_TIMEOUT")
        assert details == {"expected": "the whole body within 0.2 s"}
        assert response.headers["connection"] == "close"
        assert (await post(client, order())).status_code == 201


async def test_a_body_in_pieces_is_accepted_before_the_deadline(
    shared_api: httpx.AsyncClient,
) -> None:
    content = httpx.Request("POST", "http://x", json=order()).content

    async def pieces() -> AsyncIterator[bytes]:
        for byte in content:
            yield bytes([byte])
            await asyncio.sleep(0)

    response = await shared_api.post(ORDERS, content=pieces(), headers=JSON)
    assert response.status_code == 201, response.text


async def test_the_rate_limit_applies_to_orders_and_not_to_health_checks(conninfo: str) -> None:
    settings = api_settings(
        conninfo,
        internal_rate_limit_per_second=0.5,
        rate_limit_burst_seconds=6,
    )
    async with serving(settings) as client:
        answers = [await post(client, order()) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        details = fault(answers[-1], 429, "TOO_MANY_REQUESTS")
        assert details == {"requests_per_second": 0.5, "retry_after_seconds": 2}
        assert answers[-1].headers["retry-after"] == "2"
        fault(await client.get(ORDERS), 429, "TOO_MANY_REQUESTS")
        for path in ("health", "health/ready"):
            assert (await client.get(f"/pulse/{path}")).status_code in {
                200,
                503,
            }  # a busy machine may be unready


async def test_each_gateway_caller_has_its_own_rate_limit(conninfo: str) -> None:
    signer = signer_of("HS256")
    settings = msgspec.structs.replace(
        signer.settings,
        database_url=as_runtime(conninfo),
        rate_limit_per_second=0.5,
        rate_limit_burst_seconds=6,
    )
    alice, bob = (bearer(signer.token(sub=name)) for name in ("alice", "bob"))
    async with serving(settings) as client:
        answers = [await post(client, order(), GATEWAY, **alice) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
        fault(answers[-1], 429, "TOO_MANY_REQUESTS")
        fault(await client.get(f"{GATEWAY}/x", headers=alice), 429, "TOO_MANY_REQUESTS")
        assert (await post(client, order(), GATEWAY, **bob)).status_code == 202
        fault(await post(client, order(), GATEWAY), 401, "UNAUTHORIZED")
        for _ in range(5):
            assert (await client.get("/gapi/api/hello", headers=alice)).status_code == 200
            assert (await post(client, order())).status_code == 201
