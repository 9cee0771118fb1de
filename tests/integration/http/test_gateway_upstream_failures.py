"""A separate gateway while Pulse is down, busy, broken or another server."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from structlog.testing import capture_logs

from pulse.application.callers import Caller
from pulse.application.over_http import HttpClientLimits, PulseUnavailable, open_orders_over_http
from pulse.domain import OrderSpec, Trace, order_id_for, parse_order_request
from pulse.process.apps import api_app, gateway_app
from pulse.rights import ServiceRights
from tests.support.api import api_settings, client_of, lifespan_of
from tests.support.gateway import GATEWAY_TOKEN, SERVICES, FakePulse, gateway_in_front_of, refusal
from tests.support.orders import body, fault, order
from tests.support.tokens import ISSUER, bearer, signer_of

SIGNER = signer_of("HS256")
UNKNOWN_ORDER_ID = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
CALLER = Caller.of_token(ISSUER, "alice")
TRACE = Trace(trace_id="t", trace_source="ts", request_id="r", request_source="rs")
Answer = httpx.Response | Exception


async def answers(*given: Answer) -> tuple[httpx.Response, httpx.Response, FakePulse]:
    """What the gateway makes of Pulse's answers, to placing an order and to reading one."""
    pulse = FakePulse()
    headers = bearer(SIGNER.token())
    async with gateway_in_front_of(httpx.MockTransport(pulse), SIGNER.settings) as client:
        pulse.answers = list(given)
        placing = await client.post("/api/orders", json=order(), headers=headers)
        pulse.answers = list(given)
        reading = await client.get(f"/api/orders/{UNKNOWN_ORDER_ID}", headers=headers)
    return placing, reading, pulse


BROKEN = [httpx.ConnectError("x"), httpx.ReadError("x"), httpx.RemoteProtocolError("x")]
SLOW = [httpx.ConnectTimeout("x"), httpx.ReadTimeout("x"), httpx.PoolTimeout("x")]


@pytest.mark.parametrize("error", [*BROKEN, *SLOW], ids=lambda error: type(error).__name__)
async def test_a_pulse_that_does_not_answer_is_503(error: Exception) -> None:
    placing, reading, pulse = await answers(error, error, error)
    for response in (placing, reading):
        fault(response, 503, "UNAVAILABLE")
        assert "retry it unchanged" in response.text
    assert len(pulse.requests) == (6 if error in BROKEN else 2)


@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
async def test_a_broken_call_is_retried_with_the_same_key(error: Exception) -> None:
    placing, reading, pulse = await answers(error, error)
    assert (placing.status_code, reading.status_code) == (202, 404)
    assert len({request.content for request in pulse.requests[:3]}) == 1


async def test_every_request_has_the_gateways_token_and_names_its_caller() -> None:
    _, _, pulse = await answers()
    for request in pulse.requests:
        assert request.headers["Authorization"] == f"Bearer {GATEWAY_TOKEN}"
        assert request.headers["X-Pulse-On-Behalf-Of"] == f"{ISSUER}|alice"
        assert request.headers["X-Trace-Source"].startswith("PULSE:")
    assert [r.url.path for r in pulse.requests] == [
        "/internal/orders",
        f"/internal/orders/{UNKNOWN_ORDER_ID}",
    ]


AWAY: dict[str, Callable[[], httpx.Response]] = {
    "Pulse says so": lambda: refusal(503, "UNAVAILABLE", "nothing was accepted, try again"),
    "a proxy says so": lambda: httpx.Response(503, text="<html>no"),
    "a bad gateway": lambda: httpx.Response(502, text="<html>no"),
    "a gateway's timeout": lambda: httpx.Response(504, text="<html>no"),
    "it does not know the gateway": lambda: refusal(401, "UNAUTHORIZED"),
    "it does not let the gateway in": lambda: refusal(403, "FORBIDDEN"),
}


@pytest.mark.parametrize("answer", AWAY)
async def test_an_unavailable_pulse_is_503_and_is_not_called_again(
    answer: str,
) -> None:
    placing, reading, pulse = await answers(AWAY[answer]())
    for response in (placing, reading):
        fault(response, 503, "UNAVAILABLE")
    assert len(pulse.requests) == 2


REFUSALS: dict[str, Callable[[], httpx.Response]] = {
    "401": lambda: refusal(401, "UNAUTHORIZED", "no service token of this Pulse"),
    "403": lambda: refusal(403, "FORBIDDEN", "the service gateway has no right"),
    "403 of a proxy": lambda: httpx.Response(403, text="<html>s3cret"),
}


@pytest.mark.parametrize("answer", REFUSALS)
async def test_a_refused_gateway_answers_503_and_logs_the_reason(answer: str) -> None:
    refused = REFUSALS[answer]()
    with capture_logs() as lines:
        placing, reading, _ = await answers(refused)
    for response in (placing, reading):
        assert fault(response, 503, "UNAVAILABLE") == {}
        assert response.json()["error"]["message"] == (
            "Pulse refuses the requests of this gateway: report this to the operator of the "
            "gateway, and retry the request unchanged later"
        )
    logged = [line for line in lines if line["event"] == "pulse.refused_gateway"]
    assert len(logged) == 2
    is_pulse = "html" not in refused.text
    reason = refused.json()["error"]["message"] if is_pulse else "no readable error"
    assert {line["reason"] for line in logged} == {reason}
    assert {line["status"] for line in logged} == {refused.status_code}


async def test_a_gateway_without_its_rights_is_503_and_the_log_names_the_right(
    shared_conninfo: str,
) -> None:
    """The API does not start with such settings; one of another release might."""
    settings = api_settings(
        shared_conninfo,
        service_tokens=SERVICES,
        service_rights=(ServiceRights("gateway", frozenset({"read"})),),
    )
    app = api_app(settings)
    headers = bearer(SIGNER.token())
    async with lifespan_of(app):
        to_api = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with gateway_in_front_of(to_api, SIGNER.settings) as client:
            with capture_logs() as lines:
                placing = await client.post("/api/orders", json=order(), headers=headers)
            reading = await client.get(f"/api/orders/{UNKNOWN_ORDER_ID}", headers=headers)
    fault(placing, 503, "UNAVAILABLE")
    fault(reading, 404, "ORDER_NOT_FOUND")
    assert "PULSE_SERVICE_RIGHTS" not in placing.text
    (logged,) = (line for line in lines if line["event"] == "pulse.refused_gateway")
    assert logged["reason"] == (
        "the service gateway does not have the right write: the operator of Pulse grants it with "
        "PULSE_SERVICE_RIGHTS, as in gateway=read+write"
    )


async def test_a_busy_pulse_is_429() -> None:
    for response in (await answers(refusal(429, "TOO_MANY_REQUESTS")))[:2]:
        fault(response, 429, "TOO_MANY_REQUESTS")


def placed(order_id: object, key: str) -> httpx.Response:
    return httpx.Response(201, json={"order_id": str(order_id), "order_unique_key": key})


FAILURES: dict[str, Callable[[], httpx.Response]] = {
    "a crash": lambda: refusal(500, "INTERNAL_ERROR"),
    "no such path": lambda: refusal(404, "NOT_FOUND"),
    "a strange 404": lambda: httpx.Response(404, text="<html>no"),
    "a strange 409": lambda: httpx.Response(409, text="<html>no"),
    "rules that differ": lambda: refusal(400, "INVALID_QUANTITY"),
    "a redirect": lambda: httpx.Response(302, headers={"Location": "http://evil.example"}),
    "no JSON": lambda: httpx.Response(200, text="<html>hello"),
    "another form": lambda: httpx.Response(200, json={"order_id": 1}),
    "no content": lambda: httpx.Response(204),
    "another caller's order": lambda: placed(order_id_for("internal", "k"), "k"),
    "another key": lambda: placed(order_id_for(CALLER.key_scope, "k"), "k"),
}


@pytest.mark.parametrize("answer", FAILURES)
async def test_an_unexpected_answer_is_a_500(answer: str) -> None:
    for response in (await answers(FAILURES[answer]()))[:2]:
        fault(response, 500, "INTERNAL_ERROR")
        assert "evil" not in response.text


async def test_another_callers_order_is_not_shown_even_if_pulse_sends_it() -> None:
    shown = {
        "order_id": UNKNOWN_ORDER_ID, "order_unique_key": "k", "instrument": "NSE:X", "side": "BUY",
        "total_quantity": 10, "order_queue_status": "PENDING", "failure_reason": None,
        "split_config": {
            "num_splits": 2, "duration_minutes": 1, "randomize": True, "start_at": None,
            "session_policy": None,
        },
        "window": {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:01:00Z"},
        "failure_message": None, "version": 1, "position": 1, "placed_by": CALLER.placed_by,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "split_completed_at": None, "claimed_by": None, "claimed_at": None, "slices": [],
        "release": True,
        "quantities": {"remaining": 10, "released": 0, "cancelled": 0, "expired": 0},
    }  # fmt: skip
    _, reading, _ = await answers(httpx.Response(200, json=shown))
    fault(reading, 500, "INTERNAL_ERROR")


async def test_a_conflict_never_names_another_id_than_the_callers_own() -> None:
    pulse = FakePulse()
    leaking = refusal(409, "DUPLICATE_ORDER_UNIQUE_KEY", f"belongs to {UNKNOWN_ORDER_ID}")
    async with gateway_in_front_of(httpx.MockTransport(pulse), SIGNER.settings) as client:
        pulse.answers = [leaking]
        request = order()
        headers = bearer(SIGNER.token())
        response = await client.post("/api/orders", json=request, headers=headers)
    own = order_id_for(CALLER.key_scope, request["order_unique_key"])
    assert fault(response, 409, "DUPLICATE_ORDER_UNIQUE_KEY")["existing_order_id"] == str(own)
    assert UNKNOWN_ORDER_ID not in response.text


async def test_without_a_service_token_pulse_is_not_called() -> None:
    pulse = FakePulse()
    app = gateway_app(SIGNER.settings, httpx.MockTransport(pulse))
    async with lifespan_of(app), client_of(app) as client:
        assert (await client.get("/health")).status_code == 200
        response = await client.post("/api/orders", json=order(), headers=bearer(SIGNER.token()))
        fault(response, 503, "UNAVAILABLE")
    assert pulse.requests == []


def requested() -> OrderSpec:
    return parse_order_request(body())


async def test_a_call_ends_in_time_even_if_pulse_never_does() -> None:
    async def silent(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    limits = HttpClientLimits(call_seconds=0.05)
    async with open_orders_over_http(
        "http://pulse.test", "t", limits=limits, transport=httpx.MockTransport(silent)
    ) as orders:
        async with asyncio.timeout(5):
            with pytest.raises(PulseUnavailable):
                await orders.place(requested(), CALLER, TRACE)


async def test_connections_are_kept_and_shared() -> None:
    """Real sockets: 200 calls, eight at once, over eight connections at most."""
    opened = 0

    async def pulse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        content = b'{"error":{"code":"ORDER_NOT_FOUND","message":"no","details":{}}}'
        head = f"HTTP/1.1 404 x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            writer.write(head + content)
        writer.close()

    server = await asyncio.start_server(pulse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_orders_over_http(f"http://127.0.0.1:{port}", "t") as orders:
        for _ in range(25):
            calls = (orders.order(order_id_for("x", str(n)), CALLER) for n in range(8))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome).__name__ for outcome in outcomes} == {"OrderNotFound"}
    assert opened <= 8
