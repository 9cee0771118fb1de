"""Open-loop load generator: sends requests at a fixed rate, independent of the answers.

    python -m tests.faults.open_loop_load < plan.json > outcome.json

It uses plain sockets, because a client library cannot send ten times what Pulse can process. In a
batch request nearly all CPU time is Pulse's; little is used by the client or by a proxy on the same
machine.
"""

import contextlib
import errno
import itertools
import resource
import select
import socket
import sys
import time
from collections import deque
from typing import Final

import msgspec

BROKEN: Final = 0
TIMED_OUT: Final = -1
UNSENT: Final = -2

_HOSTS: Final = 100
_READ_BYTES: Final = 65_536
_POLL_SECONDS: Final = 0.001
_MAX_STARTED_PER_TURN: Final = 64
_BIND_NO_PORT: Final = 24
"""Linux's IP_BIND_ADDRESS_NO_PORT, which Python's socket module lacks."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send for `seconds`: `rate` orders per second, or `concurrency` requests in flight.

    A request is one order, or a batch of `orders_per_request`. Its timeout is `timeout_seconds`.
    With `keep_alive` free connections are reused; otherwise each request opens a new one.
    """

    port: int
    name: str
    headers: dict[str, str]
    seconds: float
    rate: float = 0.0
    concurrency: int = 0
    keep_alive: bool = False
    timeout_seconds: float = 2.0
    orders_per_request: int = 1


class Outcome(msgspec.Struct, kw_only=True):
    """The results. Times are monotonic: `begun` is the first request, `ended` the end of new
    requests, `all_done` the end of the last request. `offered` counts orders, `accepted` maps key
    to order id.

    `statuses` counts requests by status: 0 for a broken connection, -1 for a timeout, -2 if no
    socket could be opened.
    """

    begun: float = 0.0
    ended: float = 0.0
    all_done: float = 0.0
    offered: int = 0
    statuses: dict[int, int] = {}
    accepted: dict[str, str] = {}
    accepted_at: list[float] = []
    seconds: list[float] = []


class _Call:
    """One request in flight on one socket."""

    __slots__ = ("began_at", "done", "keys", "read", "sock", "unsent")

    def __init__(
        self, sock: socket.socket, keys: list[str], request: bytes, began_at: float
    ) -> None:
        self.sock = sock
        self.keys = keys
        self.unsent: bytes | None = request
        self.began_at = began_at
        self.read = b""
        self.done = False


class Flood:
    """Executes one plan."""

    def __init__(self, plan: Plan) -> None:
        self.outcome = Outcome()
        self._plan = plan
        self._epoll = select.epoll()
        self._calls: dict[int, _Call] = {}
        self._free: dict[int, socket.socket] = {}
        self._waiting: deque[_Call] = deque()
        self._numbers = itertools.count()
        self._hosts = itertools.cycle(f"127.0.1.{number}" for number in range(1, _HOSTS))
        named = {
            "Host": "flood",
            "Content-Type": "application/json",
            "Connection": "keep-alive" if plan.keep_alive else "close",
            **plan.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        path = "/internal/orders" if plan.orders_per_request == 1 else "/internal/orders/batch"
        self._head = f"POST {path} HTTP/1.1\r\n{lines}Content-Length: ".encode()

    def run(self) -> Outcome:
        """Start requests until the time is over; then wait for those in flight."""
        outcome, plan = self.outcome, self._plan
        outcome.begun = time.monotonic()
        end = outcome.begun + plan.seconds
        while (now := time.monotonic()) < end:
            if plan.concurrency:
                due = plan.concurrency - len(self._calls)
            else:
                due = (
                    int((now - outcome.begun) * plan.rate - outcome.offered)
                    // plan.orders_per_request
                )
            for _ in range(min(due, _MAX_STARTED_PER_TURN)):
                self._begin()
            self._turn(0.0 if due > _MAX_STARTED_PER_TURN else _POLL_SECONDS)
        outcome.ended = end
        while self._calls:
            self._turn(_POLL_SECONDS)
        outcome.all_done = time.monotonic()
        return outcome

    def _begin(self) -> None:
        outcome = self.outcome
        outcome.offered += self._plan.orders_per_request
        keys = [
            f"{self._plan.name}_{number}"
            for number in itertools.islice(self._numbers, self._plan.orders_per_request)
        ]
        body = b",".join(map(order_of, keys))
        if len(keys) > 1:
            body = b"[%b]" % body
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        if self._free:
            _, sock = self._free.popitem()
        else:
            try:
                sock = self._connected()
            except OSError:
                self._count(UNSENT)
                return
        call = _Call(sock, keys, request, time.monotonic())
        self._calls[sock.fileno()] = call
        self._waiting.append(call)
        self._send(call)

    def _connected(self) -> socket.socket:
        """A connecting socket. Source addresses rotate, so that local ports do not run out."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, _BIND_NO_PORT, 1)
        sock.bind((next(self._hosts), 0))
        if sock.connect_ex(("127.0.0.1", self._plan.port)) not in {0, errno.EINPROGRESS}:
            sock.close()
            raise OSError
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        return sock

    def _turn(self, wait_seconds: float) -> None:
        for number, events in self._epoll.poll(wait_seconds):
            call = self._calls.get(number)
            if call is None:
                if number in self._free and events & ~select.EPOLLOUT:
                    self._free.pop(number).close()
                continue
            if call.unsent is not None and events & select.EPOLLOUT:
                self._send(call)
            if events & ~select.EPOLLOUT and not call.done:
                self._read(call)
        late = time.monotonic() - self._plan.timeout_seconds
        while self._waiting and (self._waiting[0].done or self._waiting[0].began_at < late):
            call = self._waiting.popleft()
            if not call.done:
                self._end(call, TIMED_OUT)

    def _send(self, call: _Call) -> None:
        assert call.unsent is not None
        try:
            call.sock.send(call.unsent)
        except (BlockingIOError, OSError) as error:
            if error.errno not in {errno.EAGAIN, errno.ENOTCONN, errno.EINPROGRESS}:
                self._end(call, BROKEN)
        else:
            call.unsent = None

    def _read(self, call: _Call) -> None:
        try:
            data = call.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        call.read += data
        head, whole, body = call.read.partition(b"\r\n\r\n")
        if whole and len(body) >= _length_in(head):
            self._answered(call, int(head[9:12]), body)
        elif not data:
            self._end(call, BROKEN)

    def _answered(self, call: _Call, status: int, body: bytes) -> None:
        now = time.monotonic()
        if status in {200, 201}:
            answer = msgspec.json.decode(body)
            results = answer.get("results", [{"status": status, "body": answer}])
            for key, result in zip(call.keys, results, strict=True):
                if result["status"] == 201:
                    self.outcome.accepted[key] = result["body"]["order_id"]
                    self.outcome.accepted_at.append(now)
            self.outcome.seconds.append(now - call.began_at)
        closes = b"connection: close" in call.read.lower()
        self._end(call, status, keep=self._plan.keep_alive and not closes)

    def _end(self, call: _Call, status: int, *, keep: bool = False) -> None:
        call.done = True
        number = call.sock.fileno()
        del self._calls[number]
        self._count(status)
        if keep:
            self._free[number] = call.sock
        else:
            call.sock.close()

    def _count(self, status: int) -> None:
        self.outcome.statuses[status] = self.outcome.statuses.get(status, 0) + 1


def order_of(key: str) -> bytes:
    """The order that is sent with this key. It is small, because only acceptance is measured."""
    return (
        b'{"order_unique_key":"%b","instrument":"NSE:RELIANCE","side":"BUY","total_quantity":100,'
        b'"split_config":{"num_splits":2,"duration_minutes":60,"randomize":true}}' % key.encode()
    )


def _length_in(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n", 1)[0] or 0)


def main() -> None:
    """Read the plan from stdin, execute it, write the outcome to stdout."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    sys.stdout.buffer.write(msgspec.json.encode(Flood(plan).run()))


if __name__ == "__main__":
    main()
