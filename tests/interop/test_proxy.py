"""Behind nginx with the documented configuration: slow and large requests are refused."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.http import answers, send_raw
from tests.support.nginx import NGINX, Nginx, nginx
from tests.support.orders import order
from tests.support.processes import DEADLINE_SECONDS, PulseProcess, pulse, until
from tests.support.tokens import SERVICE_TOKEN, Signer

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx on this machine")

HEADER_SECONDS = 5
MAX_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def behind(
    module_database_url: str, signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    with pulse(
        tmp_path_factory.mktemp("behind"),
        database_url=module_database_url,
        service_tokens=f"desk:{SERVICE_TOKEN}",
        **signer.process_settings,
    ) as process:
        yield process


@pytest.fixture(scope="module")
def proxy(behind: PulseProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx"), behind.port) as running:
        yield running


@pytest.fixture
def public(proxy: Nginx, signer: Signer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {signer.token()}"}
    url = f"http://127.0.0.1:{proxy.public_port}"
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def services(proxy: Nginx) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {SERVICE_TOKEN}"}
    url = f"http://127.0.0.1:{proxy.internal_port}"
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "x-trace-id" in response.headers
    assert ("retry-after" in response.headers) == (status in {429, 503})
    fault = response.json()["error"]
    assert fault["code"] == code
    assert list(fault) == ["code", "message", "details"]
    return dict(fault)


def test_a_public_order_is_accepted_with_its_trace(public: httpx.Client) -> None:
    sent = public.post("/gapi/api/orders", json=order(), headers={"X-Trace-Id": "t-proxy"})
    assert sent.status_code == 202, sent.text
    assert sent.headers["x-trace-id"] == "t-proxy"
    assert sent.headers["x-content-type-options"] == "nosniff"
    found = public.get(f"/gapi/api/orders/{sent.json()['order_id']}")
    assert found.status_code == 200


def test_public_callers_reach_only_the_gateway(public: httpx.Client, proxy: Nginx) -> None:
    for path in (
        "/pulse/internal/orders",
        "/pulse/health",
        "/console",
        "/",
        "/fault",
        "/gapi/../pulse/health",
    ):
        refused(public.get(path), 404, "NOT_FOUND")
    for raw_path in (
        b"/gapi/%2e%2e/pulse/internal/hello",
        b"/pulse/internal/orders/..%2f..%2f..%2fgapi%2fx",
        b"/pulse/internal/orders/../../../gapi/health",
        b"/pulse/docs/..%2f..%2fgapi%2f",
        b"//gapi/health",
        b"/gapi/./health",
        b"/gapi",
    ):
        raw = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % raw_path
        (answer,) = answers(send_raw(proxy.public_port, raw))
        assert (raw_path, answer.status) == (raw_path, 404)
        assert b"NOT_FOUND" in answer.body
        assert "x-trace-source" not in answer.headers, "it did not reach Pulse"


def test_a_service_needs_its_token_whatever_its_forwarding_headers_are(
    services: httpx.Client,
) -> None:
    assert services.post("/pulse/internal/orders", json=order()).status_code == 201
    batch = services.post("/pulse/internal/orders/batch", json=[order() for _ in range(1000)])
    assert len(batch.content) > MAX_BYTES
    assert {result["status"] for result in batch.json()["results"]} == {201}
    del services.headers["authorization"]
    claimed = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
    answer = services.get("/pulse/internal/hello", headers=claimed)
    assert answer.status_code == 401


def test_the_console_is_served_to_services_only(services: httpx.Client) -> None:
    assert services.get("/console").headers["content-type"] == "text/html; charset=utf-8"
    del services.headers["authorization"]
    signed_out = services.get("/console")
    assert signed_out.status_code == 303
    assert signed_out.headers["location"] == "/console/sign-in?next=/console"
    assert services.get("/consoles").status_code == 404


def test_without_service_tokens_a_proxied_internal_call_is_refused(
    module_database_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "closed"
    home.mkdir()
    with (
        pulse(tmp_path, database_url=module_database_url) as process,
        nginx(home, process.port) as closed,
    ):
        url = f"http://127.0.0.1:{closed.internal_port}/pulse"
        answer = httpx.get(f"{url}/internal/hello", trust_env=False)
        assert answer.status_code == 403
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        assert process.http.get("/internal/hello").status_code == 200


def test_a_public_caller_cannot_act_on_behalf_of_another(public: httpx.Client) -> None:
    request = order()
    headers = {"X-Pulse-On-Behalf-Of": "https://issuer.example|mallory"}
    first = public.post("/gapi/api/orders", json=request, headers=headers)
    again = public.post("/gapi/api/orders", json=request)
    assert (first.status_code, first.json()) == (202, again.json())


def test_bodies_too_large_are_refused(public: httpx.Client, services: httpx.Client) -> None:
    large = b" " * (MAX_BYTES + 1)
    json_type = {"content-type": "application/json"}
    answer = public.post("/gapi/api/orders", content=large, headers=json_type)
    refused(answer, 413, "PAYLOAD_TOO_LARGE")
    answer = services.post("/pulse/internal/orders", content=large, headers=json_type)
    refused(answer, 413, "PAYLOAD_TOO_LARGE")
    answer = services.post("/pulse/internal/orders/batch", content=large * 33, headers=json_type)
    refused(answer, 413, "PAYLOAD_TOO_LARGE")


def test_malformed_http_is_answered_with_the_error_schema(proxy: Nginx) -> None:
    for raw in (
        b"GARBAGE\r\n\r\n",
        b"GET /gapi/health HTTP/1.1\r\n\r\n",
        b"GET /gapi/health HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 40_000 + b"\r\n\r\n",
    ):
        (answer,) = answers(send_raw(proxy.public_port, raw))
        assert answer.status == 400
        assert json.loads(answer.body)["error"]["code"] == "INVALID_REQUEST"


def test_a_slow_request_head_is_ended_and_never_reaches_pulse(proxy: Nginx) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", proxy.public_port), timeout=0.05) as connection:
        connection.sendall(b"POST /gapi/api/orders HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        while time.monotonic() - started < DEADLINE_SECONDS:
            try:
                connection.sendall(b"x")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        took = time.monotonic() - started
    assert HEADER_SECONDS - 1 <= took < DEADLINE_SECONDS


def test_while_pulse_is_down_the_proxy_answers_with_the_error_schema(
    tmp_path: Path, signer: Signer
) -> None:
    with nginx(tmp_path, pulse_port=1) as proxy:
        url = f"http://127.0.0.1:{proxy.public_port}/gapi/api/orders"
        headers = {"authorization": f"Bearer {signer.token()}", "x-trace-id": "t-away"}
        answer = httpx.post(url, json=order(), headers=headers, trust_env=False)
        refused(answer, 503, "UNAVAILABLE")
        assert answer.headers["x-trace-id"] == "t-away"


def test_the_access_log_contains_no_token_and_no_query(public: httpx.Client, proxy: Nginx) -> None:
    assert public.get("/gapi/health?secret=canary").status_code == 400
    # nginx logs a request after it has sent the answer.
    until(lambda: "GET /gapi/health" in proxy.access_log.read_text(), "the request is logged")
    logged = proxy.access_log.read_text()
    assert "canary" not in logged
    assert public.headers["authorization"].split(".")[-1] not in logged
