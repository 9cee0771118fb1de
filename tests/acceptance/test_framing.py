"""HTTP framing with raw bytes: no request smuggling, and bounded memory."""

import contextlib
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from pulse.domain import INTERNAL_SCOPE, order_id_for
from tests.support import http2
from tests.support.http import answers, send_raw
from tests.support.orders import order
from tests.support.processes import PulseProcess, pulse

ORDERS = "/pulse/internal/orders"
POST = f"POST {ORDERS} HTTP/1.1\r\nHost: localhost\r\n".encode()
JSON = b"Content-Type: application/json\r\n"
MAX_GROWTH_BYTES = 24 * 2**20
ATTACK_BYTES = 96 * 2**20


@pytest.fixture(scope="module")
def served(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    with pulse(tmp_path_factory.mktemp("framing"), database_url=module_database_url) as process:
        yield process


def request_with(head: bytes, content: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(content) + content


def is_stored(served: PulseProcess, request: dict[str, Any]) -> bool:
    order_id = order_id_for(INTERNAL_SCOPE, request["order_unique_key"])
    return served.http.get(f"/internal/orders/{order_id}").status_code == 200


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"anything"])
def test_the_body_of_a_request_that_offers_an_upgrade_is_never_a_request(
    served: PulseProcess, protocol: bytes
) -> None:
    hidden = order()
    smuggled = request_with(POST + JSON, json.dumps(hidden).encode())
    offer = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    outer = b"POST /gapi/api/orders HTTP/1.1\r\nHost: localhost\r\n" + offer
    answered = answers(send_raw(served.port, request_with(outer, smuggled)))
    assert [answer.status for answer in answered] == [401]
    assert answered[0].headers["connection"] == "close"
    assert not is_stored(served, hidden)


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"anything"])
def test_a_valid_order_that_offers_an_upgrade_is_placed_and_the_connection_closed(
    served: PulseProcess, protocol: bytes
) -> None:
    valid, after = order(), order()
    offer = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    first = request_with(POST + JSON + offer, json.dumps(valid).encode())
    second = request_with(POST + JSON, json.dumps(after).encode())
    answered = answers(send_raw(served.port, first + second))
    assert [answer.status for answer in answered] == [201]
    assert answered[0].headers["connection"] == "close"
    assert is_stored(served, valid)
    assert not is_stored(served, after)


CHUNKED = b"Transfer-Encoding: chunked\r\n"


def place_with_trailer(
    served: PulseProcess, placed: dict[str, Any], headers: bytes, trailer: bytes
) -> int:
    """Place an order whose chunked body ends with this trailer; returns the status."""
    content = json.dumps(placed).encode()
    body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(content), content, trailer)
    (answer,) = answers(send_raw(served.port, POST + headers + CHUNKED + b"\r\n" + body))
    return answer.status


@pytest.mark.parametrize("trailer", [JSON, b"Content-Length: 1\r\n", b"Host: localhost\r\n"])
def test_a_trailer_field_about_the_message_is_refused(served: PulseProcess, trailer: bytes) -> None:
    hidden = order()
    assert place_with_trailer(served, hidden, b"" if trailer is JSON else JSON, trailer) == 400
    assert not is_stored(served, hidden)


def test_a_trailer_field_about_the_caller_is_not_a_header(served: PulseProcess) -> None:
    field = b"X-Pulse-On-Behalf-Of: https%3A%2F%2Fissuer|alice\r\n"
    placed = order()
    assert place_with_trailer(served, placed, JSON + field, b"") == 403
    assert place_with_trailer(served, placed, JSON, field) == 201
    order_id = order_id_for(INTERNAL_SCOPE, placed["order_unique_key"])
    assert served.order(str(order_id))["placed_by"] == "anonymous"


AMBIGUOUS = {
    "length and chunked": (POST + JSON + CHUNKED, b"Content-Length: 3\r\n\r\n0\r\n\r\n"),
    "two lengths": (POST + JSON, b"Content-Length: 3\r\nContent-Length: 5\r\n\r\n{}   "),
    "a list of lengths": (POST + JSON, b"Content-Length: 3, 3\r\n\r\n{} "),
    "a signed length": (POST + JSON, b"Content-Length: +2\r\n\r\n{}"),
    "identity, chunked": (POST + JSON, b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    "chunked twice": (POST + JSON, b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "another coding": (POST + JSON, b"Transfer-Encoding: gzip\r\n\r\n{}"),
    "no host": (b"GET /pulse/health HTTP/1.1\r\n", b"\r\n"),
    "two hosts": (b"GET /pulse/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n", b"\r\n"),
    "a folded line": (POST + JSON, b"X-A: a\r\n b\r\n\r\n"),
    "bare line feeds": (b"GET /pulse/health HTTP/1.1\nHost: localhost\n", b"\n"),
    "a NUL": (POST + JSON, b"X-A: a\0b\r\n\r\n"),
    "a blank before the colon": (POST + JSON, b"Content-Length : 2\r\n\r\n{}"),
    "a signed chunk": (POST + JSON + CHUNKED, b"\r\n+2\r\n{}\r\n0\r\n\r\n"),
    "a chunk without a length": (POST + JSON + CHUNKED, b"\r\nzz\r\n"),
    "no HTTP": (b"GARBAGE\r\n", b"\r\n"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n"),
    "a path that is not ASCII": (b"GET /pulse/caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n", b"\r\n"),
}


@pytest.mark.parametrize("parts", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_a_request_that_two_parsers_could_read_differently_is_400_and_ends_the_connection(
    served: PulseProcess, parts: tuple[bytes, bytes]
) -> None:
    hidden = order()
    smuggled = request_with(POST + JSON, json.dumps(hidden).encode())
    answered = answers(send_raw(served.port, b"".join(parts) + smuggled))
    assert [answer.status for answer in answered] == [400]
    assert answered[0].headers["connection"] == "close"
    assert not is_stored(served, hidden)
    assert "Traceback" not in served.logged


@pytest.mark.parametrize("host", [b"localhost", b"evil.example"])
def test_the_authority_of_an_absolute_target_counts_and_not_the_host_header(
    served: PulseProcess, host: bytes
) -> None:
    valid, hidden = order(), order()
    for authority, request, status in (
        (b"127.0.0.1", valid, 201),
        (b"evil.example", hidden, 403),
    ):
        head = b"POST http://" + authority + ORDERS.encode() + b" HTTP/1.1\r\nHost: " + host
        content = json.dumps(request).encode()
        closing = b"\r\nConnection: close\r\n" + JSON
        (answer,) = answers(send_raw(served.port, request_with(head + closing, content)))
        assert answer.status == status
    assert is_stored(served, valid)
    assert not is_stored(served, hidden)


def test_garbage_after_requests_is_answered_after_them(served: PulseProcess) -> None:
    requests = b"".join(request_with(POST + JSON, json.dumps(order()).encode()) for _ in range(2))
    answered = answers(send_raw(served.port, requests + b"GARBAGE\r\n\r\n"))
    assert [answer.status for answer in answered] == [201, 201, 400]


Pieces = Callable[[], Iterator[bytes]]


def _after(first: bytes, then: bytes) -> Pieces:
    return lambda: itertools.chain([first], itertools.repeat(then))


def _http2(first: bytes, then: bytes) -> Pieces:
    return _after(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0) + first, then)


def _streams_that_take_no_data() -> Iterator[bytes]:
    """Requests for the largest answer an unauthenticated caller can get, over a closed window."""
    yield http2.PREFACE + http2.setting(http2.INITIAL_WINDOW_SIZE, 0)
    block = http2.head("GET", "/pulse/docs/swagger-ui-bundle.js")
    for stream in range(1, 2_000, 2):
        whole_head = http2.END_HEADERS | http2.END_STREAM
        yield http2.frame(http2.HEADERS, whole_head, stream, block)


CHUNKED_POST = POST + JSON + CHUNKED + b"\r\n"
_LINE = b"x-a: " + b"b" * 1000 + b"\r\n"
FLOODS: dict[str, Pieces] = {
    "trailers": _after(CHUNKED_POST + b"2\r\n{}\r\n0\r\n", _LINE * 64),
    "many headers": _after(b"GET /pulse/health HTTP/1.1\r\nHost: localhost\r\n", _LINE * 64),
    "one header": _after(b"GET /pulse/health HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"b" * 65_536),
    "the target": _after(b"GET /", b"a" * 65_536),
    "a chunk extension": _after(CHUNKED_POST + b"2;", b"a" * 65_536),
    "tiny chunks": _after(CHUNKED_POST, b"1\r\n \r\n" * 10_000),
    "a large body": _after(POST + JSON + b"Content-Length: 999999999\r\n\r\n", b" " * 65_536),
    "line ends": _after(b"", b"\r\n" * 32_768),
    "requests that are not read": _after(
        b"", b"GET /pulse/internal/hello HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
    ),
    "HTTP/2 pings": _http2(b"", http2.frame(http2.PING, 0, 0, b"12345678") * 1000),
    "HTTP/2 settings": _http2(b"", http2.frame(http2.SETTINGS, 0, 0) * 1000),
    "HTTP/2 header blocks": _http2(
        http2.frame(http2.HEADERS, 0, 1, http2.head("GET", "/pulse/health")),
        http2.frame(http2.CONTINUATION, 0, 1, http2.head("GET", "/")) * 100,
    ),
    "HTTP/2 streams that take no data": _streams_that_take_no_data,
}


@pytest.mark.parametrize("pieces", FLOODS.values(), ids=FLOODS.keys())
def test_one_connection_cannot_fill_the_memory(served: PulseProcess, pieces: Pieces) -> None:
    process = psutil.Process(served.pid)
    before = most = process.memory_info().rss
    sent = 0
    with socket.create_connection(("127.0.0.1", served.port), timeout=1) as connection:
        with contextlib.suppress(OSError):  # closed, or no longer read: both limit memory
            for piece in pieces():
                connection.sendall(piece)
                sent += len(piece)
                most = max(most, process.memory_info().rss)
                if sent > ATTACK_BYTES:
                    break
        with contextlib.suppress(OSError):
            connection.recv(1)
        assert served.http.get("/health").status_code == 200
        most = max(most, process.memory_info().rss)
    assert most - before < MAX_GROWTH_BYTES


def test_a_proxied_http2_request_without_a_token_is_forbidden_as_over_http1(
    served: PulseProcess,
) -> None:
    block = http2.head("GET", "/pulse/internal/hello", fields=[("x-forwarded-for", "127.0.0.1")])
    whole_head = http2.END_HEADERS | http2.END_STREAM
    request = http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0)
    request += http2.frame(http2.HEADERS, whole_head, 1, block)
    assert b"FORBIDDEN" in send_raw(served.port, request)
