"""`uvicorn main:app` serves the same under /pulse, also for malformed requests."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.http import send_raw
from tests.support.orders import fault, order
from tests.support.processes import PulseProcess, free_port, pulse, until, uvicorn_on


@pytest.fixture(scope="module")
def served(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    home, port = tmp_path_factory.mktemp("uvicorn"), free_port()
    # PULSE_PORT is for `pulse up`; uvicorn has its own option.
    with pulse(
        home, command=uvicorn_on(port), port=port, database_url=module_database_url
    ) as process:
        yield process


def test_uvicorn_serves_the_same_under_pulse(served: PulseProcess) -> None:
    assert served.http.get("/internal/hello").json() == {"message": "Hello from Pulse"}
    until(lambda: served.http.get("/health/ready").status_code == 200, "it is ready")
    request = order()
    response = served.post(request)
    assert response.status_code == 201
    assert len(served.until_completed(response.json()["order_id"])["slices"]) == 5
    again = served.post(request)
    assert (again.status_code, again.content) == (200, response.content)
    other = served.post({**request, "side": "SELL"})
    fault(other, 409, "DUPLICATE_ORDER_UNIQUE_KEY")
    fault(served.http.get("/nowhere"), 404, "NOT_FOUND")


def test_a_chunked_body_too_large_is_413_without_a_length(served: PulseProcess) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    headers = {"content-type": "application/json"}
    response = served.http.post("/internal/orders", content=chunks(), headers=headers)
    fault(response, 413, "PAYLOAD_TOO_LARGE")
    assert served.http.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/internal/orders", "/internal/orders/{}", "/docs"])
def test_head_has_the_headers_of_get_and_no_body(served: PulseProcess, path: str) -> None:
    url = f"/pulse{path}".format(served.post(order()).json()["order_id"])
    head = f"HEAD {url} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = "GET /pulse/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    first, _, rest = send_raw(served.port, (head + head + last).encode()).partition(b"\r\n\r\n")
    second, _, third = rest.partition(b"\r\n\r\n")
    for answer in (first, second):
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"x-trace-id" in answer
        (length,) = re.findall(rb"content-length: ([0-9]+)", answer)
        assert int(length) > 0
    assert third.startswith(b"HTTP/1.1 200 ")
    assert third.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize(
    "path", [b"/pulse/internal/orders/%ff%00", b"/pulse/internal/orders/" + b"a" * 50_000]
)
def test_unusual_paths_are_answered_with_the_error_schema(
    served: PulseProcess, path: bytes
) -> None:
    answer = send_raw(
        served.port, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"content-type: application/json" in head
    assert json.loads(rest)["error"]["code"] == "ORDER_NOT_FOUND"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /pulse/caf\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /pulse/internal/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /pulse/health HTTP/1.1\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["garbage", "raw bytes", "negative length", "websocket"],
)
def test_malformed_http_is_answered_and_the_process_keeps_serving(
    served: PulseProcess, request_bytes: bytes
) -> None:
    answer = send_raw(served.port, request_bytes)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200 "))
    assert served.http.get("/health").status_code == 200
    assert "Traceback" not in served.logged


@pytest.fixture(scope="module", params=["h11", "zttp"])
def below_a_root_path(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[PulseProcess]:
    home, port = tmp_path_factory.mktemp("root"), free_port()
    command = (*uvicorn_on(port), "--root-path", "/x", "--http", request.param)
    with pulse(home, command=command, port=port, database_url=module_database_url) as process:
        yield process


def test_a_root_path_is_left_out_of_trace_sources_and_kept_in_the_access_log(
    below_a_root_path: PulseProcess,
) -> None:
    assert below_a_root_path.post(order()).status_code == 201
    assert below_a_root_path.http.get("/docs").status_code == 200
    hello = below_a_root_path.http.get("/internal/hello")
    assert hello.headers["x-trace-source"] == "PULSE:GET/internal/hello"
    until(
        lambda: (
            "POST /x/pulse/internal/orders HTTP/1.1"
            in below_a_root_path.output + below_a_root_path.logged
        ),
        "the request is logged",
    )
