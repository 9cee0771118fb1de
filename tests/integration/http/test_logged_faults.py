"""Every 500 leaves one error line with the ids, method and path of its request."""

from typing import Any

import httpx
import psycopg
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from pulse.application.in_process import InProcessOrders
from tests.support.api import api_settings, serving
from tests.support.gateway import FakePulse, gateway_in_front_of, refusal
from tests.support.orders import BATCH, ORDERS, fault, fault_in, order, placed, post
from tests.support.tokens import Signer, bearer, new_signer

SECRET = "s3cret internals"  # noqa: S105 - what no caller may see
IDS = {"X-Trace-Id": "t-of-the-caller", "X-Request-Id": "r-of-the-caller"}


@pytest.fixture
def signer() -> Signer:
    return new_signer("HS256")


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bugs in the use cases: each raises what no table of errors knows."""

    async def crash(*_: object, **__: object) -> Any:
        raise ZeroDivisionError(SECRET)

    async def crash_each(_: object, requested: list[object], *__: object) -> list[Exception]:
        return [ZeroDivisionError(SECRET) for _ in requested]

    for name in ("place", "order", "history", "events"):
        monkeypatch.setattr(InProcessOrders, name, crash)
    monkeypatch.setattr(InProcessOrders, "place_each", crash_each)


@pytest.mark.usefixtures("crashing")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", ORDERS, order()),
        ("POST", f"{ORDERS}/", order()),
        ("GET", f"{ORDERS}/0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77", None),
        ("GET", f"{ORDERS}/0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77/events", None),
        ("GET", "/pulse/internal/events", None),
    ],
    ids=["hot path to place", "handler to place", "hot path to read", "history", "log"],
)
async def test_a_crash_is_one_log_line_with_its_request(
    api: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None
) -> None:
    with capture_logs((merge_contextvars,)) as lines:
        response = await api.request(method, path, json=body, headers=IDS)
    assert SECRET not in response.text
    fault(response, 500, "INTERNAL_ERROR")
    (line,) = lines
    assert line["log_level"] == "error"
    assert isinstance(line["exc_info"], ZeroDivisionError)
    named = {name: line[name] for name in ("trace_id", "request_id", "method", "path", "status")}
    assert named == {
        "trace_id": "t-of-the-caller",
        "request_id": "r-of-the-caller",
        "method": method,
        "path": path,
        "status": 500,
    }


@pytest.mark.usefixtures("crashing")
async def test_each_crashed_order_of_a_batch_is_a_log_line(api: httpx.AsyncClient) -> None:
    with capture_logs((merge_contextvars,)) as lines:
        response = await api.post(BATCH, json=[order(), {}, order()], headers=IDS)
    assert [result["status"] for result in response.json()["results"]] == [500, 400, 500]
    fault_in(response.json()["results"][0]["body"], "INTERNAL_ERROR")
    assert SECRET not in response.text
    assert [(line["request_id"], line["path"]) for line in lines] == [
        ("r-of-the-caller", BATCH)
    ] * 2


@pytest.mark.usefixtures("crashing")
async def test_a_crash_behind_the_gateway_is_one_log_line(conninfo: str, signer: Signer) -> None:
    settings = api_settings(
        conninfo,
        jwt_secret=signer.settings.jwt_secret,
        jwt_audience=signer.settings.jwt_audience,
        jwt_issuer=signer.settings.jwt_issuer,
    )
    async with serving(settings) as client:
        with capture_logs((merge_contextvars,)) as lines:
            response = await client.post(
                "/gapi/api/orders", json=order(), headers={**IDS, **bearer(signer.token())}
            )
    fault(response, 500, "INTERNAL_ERROR")
    (line,) = lines
    assert (line["path"], line["request_id"]) == ("/gapi/api/orders", "r-of-the-caller")


async def test_a_failure_of_pulse_is_one_log_line_of_a_separate_gateway(signer: Signer) -> None:
    pulse = FakePulse(answers=[refusal(500, "INTERNAL_ERROR", SECRET)])
    async with gateway_in_front_of(httpx.MockTransport(pulse), signer.settings) as gateway:
        with capture_logs((merge_contextvars,)) as lines:
            response = await gateway.post(
                "/api/orders", json=order(), headers={**IDS, **bearer(signer.token())}
            )
    fault(response, 500, "INTERNAL_ERROR")
    (line,) = lines
    assert line["error"] == "Pulse answered 500: INTERNAL_ERROR"
    assert line["request_id"] == "r-of-the-caller"


async def test_an_unreadable_history_is_a_log_line(api: httpx.AsyncClient, conninfo: str) -> None:
    order_id = await placed(api)
    with psycopg.connect(conninfo) as connection:
        connection.execute("ALTER TABLE stored_events DISABLE TRIGGER USER")
        connection.execute(
            "UPDATE stored_events SET state = %s WHERE originator_id = %s", (b"{", order_id)
        )
    with capture_logs((merge_contextvars,)) as lines:
        fault(await api.get(f"{ORDERS}/{order_id}"), 500, "INTERNAL_ERROR")
    (line,) = [line for line in lines if line["event"] == "http.server_error"]
    assert line["path"] == f"{ORDERS}/{order_id}"


async def test_a_503_without_an_outage_is_logged_with_its_cause(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("ALTER TABLE stored_events RENAME TO gone")
    with capture_logs((merge_contextvars,)) as lines:
        response = await post(api, order(), **IDS)
        fault(response, 503, "UNAVAILABLE")
        fault(await api.get("/pulse/internal/events", headers=IDS), 503, "UNAVAILABLE")
    assert "stored_events" not in response.text
    found = [line for line in lines if line["event"] == "http.unavailable"]
    assert [(line["method"], line["request_id"]) for line in found] == [
        ("POST", "r-of-the-caller"),
        ("GET", "r-of-the-caller"),
    ]
    assert all('"stored_events" does not exist' in line["error"] for line in found)


async def test_refusals_are_not_logged_as_errors(
    api: httpx.AsyncClient,
) -> None:
    with capture_logs() as lines:
        assert (await api.get("/pulse/openapi.json")).status_code == 200
        fault(await post(api, {}), 400, "INVALID_REQUEST")
        fault(await api.get("/pulse/nowhere"), 404, "NOT_FOUND")
    assert [line for line in lines if line["log_level"] == "error"] == []
