"""Request bodies that are too large or too slow, sent as raw bytes."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.http import Answer, answers, send_raw
from tests.support.orders import order
from tests.support.processes import PulseProcess, pulse

POST = (
    b"POST /pulse/internal/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
BODY_SECONDS = 1.0


@pytest.fixture(scope="module")
def served(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    home = tmp_path_factory.mktemp("bodies")
    with pulse(
        home, database_url=module_database_url, body_timeout_seconds=BODY_SECONDS
    ) as process:
        yield process


def refused(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-trace-id" in answer.headers
    assert "server" not in answer.headers
    assert list(json.loads(answer.body)) == ["error"]
    assert json.loads(answer.body)["error"]["code"] == code


@pytest.mark.parametrize("path", [b"/pulse/internal/orders", b"/pulse/internal/orders/batch"])
def test_a_content_length_over_the_limit_is_refused_before_the_body_arrives(
    served: PulseProcess, path: bytes
) -> None:
    head = POST.replace(b"/pulse/internal/orders", path) + b"Content-Length: 2097153\r\n\r\n"
    refused(answers(send_raw(served.port, head))[0], 413, "PAYLOAD_TOO_LARGE")


def test_a_caller_that_sends_the_large_body_anyway_receives_the_answer(
    served: PulseProcess,
) -> None:
    body = b" " * 8_000_000
    answer = send_raw(served.port, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    refused(answers(answer)[0], 413, "PAYLOAD_TOO_LARGE")


def test_a_large_unread_body_is_not_waited_for(served: PulseProcess) -> None:
    head = POST.replace(b"POST", b"PUT") + b"Content-Length: 900000000\r\n\r\n"
    refused(answers(send_raw(served.port, head + b" "))[0], 405, "METHOD_NOT_ALLOWED")


def test_a_small_unread_body_leaves_the_connection_open(served: PulseProcess) -> None:
    wrong = POST.replace(b"POST", b"PUT") + b"Content-Length: 3\r\n\r\n{ }"
    right = b"GET /pulse/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert [a.status for a in answers(send_raw(served.port, wrong + right))] == [405, 200]


def test_a_slow_body_is_refused_at_the_deadline(served: PulseProcess) -> None:
    content = json.dumps(order()).encode()
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(content))
        started = time.monotonic()
        connection.settimeout(0.1)
        answer = b""
        for byte in content:  # each within the deadline, all together far beyond it
            connection.sendall(bytes([byte]))
            try:
                answer = connection.recv(65_536)
                break
            except TimeoutError:
                continue
        took = time.monotonic() - started
        connection.settimeout(20)
        while piece := connection.recv(65_536):  # until Pulse closes the connection
            answer += piece
    refused(answers(answer)[0], 408, "REQUEST_TIMEOUT")
    assert took >= BODY_SECONDS * 0.9


def test_a_caller_that_disconnects_during_the_body_causes_no_error(served: PulseProcess) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(POST + b"Content-Length: 200\r\n\r\n{")
    assert served.http.get("/health").status_code == 200
    assert "http.server_error" not in served.logged
