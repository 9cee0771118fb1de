"""A client that places and cancels orders, retries refusals, and keeps a ledger."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from random import Random
from typing import Any, Final, Self
from uuid import UUID, uuid4

import aiohttp
import msgspec

from pulse.domain import INTERNAL_SCOPE
from tests.faults.ledger import CancelAnswer, Entry, Ledger

BROKEN: Final = 0
"""The status of a request whose connection failed or that got no answer."""

_CREATED: Final = frozenset({200, 201, 202})
_RETRYABLE: Final = frozenset({BROKEN, 429, 503})
_CANCELLED: Final = frozenset({200, 409})
_MINUTES: Final = (1, 1, 1, 2, 5, 60, 1440)
"""The windows of random orders. In the shortest ones slices are due during the case."""

_INSTRUMENTS: Final = ("NSE:RELIANCE", "NSE:M&M", "NSE:BAJAJ-AUTO", "BSE:500325")


class Endpoint(msgspec.Struct, frozen=True):
    """Where orders are placed: an API, or a gateway with a caller's token."""

    url: str
    path: str = "/internal/orders"
    headers: dict[str, str] = {}
    scope: str = INTERNAL_SCOPE


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer to one request. `sent_at` is monotonic time.

    `error` is the error's code and message. `cut_off`: the connection was established and broke.
    """

    sent_at: float
    seconds: float
    status: int
    error: str | None
    url: str
    cut_off: bool = False

    def spans(self, moment: float) -> bool:
        """Whether the request was in flight at that moment."""
        return self.sent_at < moment < self.sent_at + self.seconds


class Caller:
    """Places orders and records the results in a ledger.

    After a refusal (429, 503 or a broken connection) the caller retries with the same key at the
    next endpoint of the same scope, for `retry_seconds`. It does not retry the share
    `abandon_share` of the orders; their outcome stays unknown. `wrong` has each answer that a
    caller must never receive. Random orders have one of the windows `minutes` and a number of
    splits within `splits`. `retryable` are further statuses after which the caller retries, and
    `max_back_off_seconds` is the longest pause before a retry.
    """

    def __init__(
        self,
        ledger: Ledger,
        http: aiohttp.ClientSession,
        endpoints: Sequence[Endpoint],
        random: Random,
        *,
        retry_seconds: float = 60.0,
        abandon_share: float = 0.2,
        minutes: Sequence[int] = _MINUTES,
        splits: tuple[int, int] = (2, 10),
        retryable: frozenset[int] = frozenset(),
        max_back_off_seconds: float = 0.5,
    ) -> None:
        self.answers: list[Answer] = []
        self.wrong: list[str] = []
        self.placed: dict[str, float] = {}
        self.in_flight: Counter[str] = Counter()
        self.retry_seconds = retry_seconds
        self.abandon_share = abandon_share
        self._retryable = _RETRYABLE | retryable
        self._max_back_off_seconds = max_back_off_seconds
        self._minutes = minutes
        self._splits = splits
        self._ledger = ledger
        self._http = http
        self._random = random
        self._by_scope: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            self._by_scope.setdefault(endpoint.scope, []).append(endpoint)
        self._name = uuid4().hex[:8]
        self._numbers = itertools.count(1)

    @classmethod
    @asynccontextmanager
    async def with_endpoints(
        cls,
        ledger: Ledger,
        endpoints: Sequence[Endpoint],
        random: Random,
        *,
        new_connections: bool = False,
        answer_seconds: float = 30.0,
        **options: Any,
    ) -> AsyncIterator[Self]:
        """A connected caller; `options` are those of the constructor.

        The timeout of a request is `answer_seconds`. With `new_connections` every request opens a
        connection.
        """
        connector = aiohttp.TCPConnector(limit=0, force_close=new_connections)
        timeout = aiohttp.ClientTimeout(total=answer_seconds)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            yield cls(ledger, http, endpoints, random, **options)

    @property
    def statuses(self) -> Counter[int]:
        """The number of answers by status; BROKEN counts requests without an answer."""
        return Counter(answer.status for answer in self.answers)

    @property
    def scopes(self) -> list[str]:
        """The scopes of the endpoints."""
        return list(self._by_scope)

    def request(self, **changes: Any) -> dict[str, Any]:
        """A random order with a new key; `changes` replace whole fields."""
        splits = self._random.randint(*self._splits)
        return {
            "order_unique_key": f"fault_{self._name}_{next(self._numbers)}",
            "instrument": self._random.choice(_INSTRUMENTS),
            "side": self._random.choice(("BUY", "SELL")),
            "total_quantity": self._random.randint(splits, 10_000),
            "split_config": {
                "num_splits": splits,
                "duration_minutes": self._random.choice(self._minutes),
                "randomize": self._random.random() < 0.8,
            },
            **changes,
        }

    async def place(
        self, request: dict[str, Any] | None = None, scope: str | None = None
    ) -> UUID | None:
        """Place an order, by default a random one. Returns its id, or None if not accepted."""
        request = request or self.request()
        key: str = request["order_unique_key"]
        scope = scope or self._random.choice(self.scopes)
        await self._ledger.write(Entry(key, request=request, scope=scope))
        content = msgspec.json.encode(request)
        retries = self._random.random() >= self.abandon_share
        deadline = time.monotonic() + self.retry_seconds
        endpoints = self._by_scope[scope]
        first = self._random.randrange(len(endpoints))
        for attempt in itertools.count(1):
            endpoint = endpoints[(first + attempt) % len(endpoints)]
            answer, body = await self._post(endpoint, endpoint.path, content)
            if answer.status in _CREATED:
                return await self._accepted(key, scope, body)
            if answer.status not in self._retryable:
                self.wrong.append(f"{key}: {answer.status} {body[:300]!r} from {endpoint.url}")
                return None
            if not retries or time.monotonic() > deadline:
                return None
            await self._back_off(attempt)
        raise AssertionError("unreachable: the loop has no end")

    async def cancel(self, key: str, order_id: UUID, scope: str = INTERNAL_SCOPE) -> int:
        """Cancel an order, with retries like `place`; returns the status, 0 without an answer.

        The answer is in the ledger, to be compared with the log.
        """
        deadline = time.monotonic() + self.retry_seconds
        for attempt in itertools.count(1):
            endpoint = self._random.choice(self._by_scope[scope])
            path = f"{endpoint.path}/{order_id}/cancel"
            answer, body = await self._post(endpoint, path, b"{}")
            if answer.status in _CANCELLED:
                entry = self._cancel_answer(answer.status, body)
                if entry is None:
                    self.wrong.append(f"cancel of {key}: {answer.status} {body[:300]!r}")
                else:
                    await self._ledger.write(Entry(key, scope=scope, cancel=entry))
                return answer.status
            if answer.status not in self._retryable:
                self.wrong.append(f"cancel of {key}: {answer.status} {body[:300]!r}")
                return answer.status
            if time.monotonic() > deadline:
                return BROKEN
            await self._back_off(attempt)
        raise AssertionError("unreachable: the loop has no end")

    async def _back_off(self, attempt: int) -> None:
        longest = min(self._max_back_off_seconds, 0.02 * 2 ** min(attempt, 10))
        await asyncio.sleep(longest * self._random.random())

    def _cancel_answer(self, status: int, body: bytes) -> CancelAnswer | None:
        """The part of the answer that the ledger keeps; None if it is not as promised."""
        try:
            answered = msgspec.json.decode(body)
            if status == HTTPStatus.OK:
                found = {name: answered[name] for name in ("version", "quantities")}
            elif answered["error"]["code"] == "NOTHING_TO_CANCEL":
                found = {"quantities": answered["error"]["details"]["quantities"]}
            else:
                return None
            return msgspec.convert({"status": status, **found}, CancelAnswer)
        except (ValueError, KeyError, TypeError):
            return None

    async def _accepted(self, key: str, scope: str, body: bytes) -> UUID | None:
        try:
            answered = msgspec.json.decode(body)
            order_id = UUID(answered["order_id"])
        except (ValueError, KeyError, TypeError):
            self.wrong.append(f"{key}: accepted without an order id: {body[:300]!r}")
            return None
        if answered["order_unique_key"] != key:
            self.wrong.append(f"{key}: answered with the key {answered['order_unique_key']!r}")
        await self._ledger.write(Entry(key, scope=scope, order_id=order_id))
        self.placed[key] = time.monotonic()
        return order_id

    async def _post(self, endpoint: Endpoint, path: str, content: bytes) -> tuple[Answer, bytes]:
        sent_at = time.monotonic()
        status, body, cut_off = BROKEN, b"", False
        headers = {"Content-Type": "application/json", **endpoint.headers}
        self.in_flight[endpoint.url] += 1
        try:
            async with self._http.post(
                endpoint.url + path, data=content, headers=headers
            ) as response:
                body = await response.read()
                status = response.status
        except aiohttp.ClientConnectorError:
            pass  # connection refused: nothing was sent
        except (aiohttp.ClientError, OSError, TimeoutError):
            status, cut_off = BROKEN, True
        finally:
            self.in_flight[endpoint.url] -= 1
        error = None if status in _CREATED or status == BROKEN else self._error_in(status, body)
        answer = Answer(sent_at, time.monotonic() - sent_at, status, error, endpoint.url, cut_off)
        self.answers.append(answer)
        return answer, body

    def _error_in(self, status: int, body: bytes) -> str | None:
        """The error's code and message; an error without them is a wrong answer."""
        try:
            error = msgspec.json.decode(body)["error"]
            return f"{error['code']}: {error['message']}"
        except (ValueError, KeyError, TypeError):
            self.wrong.append(f"{status} without an error code: {body[:300]!r}")
            return None

    @asynccontextmanager
    async def load(self, *, rate: float) -> AsyncIterator[None]:
        """Open-loop load: start `rate` orders per second, independent of the answers.

        On exit no new order starts, and those in flight are awaited.
        """
        async with asyncio.TaskGroup() as orders:
            starting = asyncio.ensure_future(
                _start_at(rate, lambda: orders.create_task(self._one()))
            )
            try:
                yield
            finally:
                starting.cancel()
                await asyncio.wait({starting})
                if not starting.cancelled():
                    starting.result()

    async def _one(self) -> None:
        await self.place()

    def rate_between(self, begun: float, ended: float) -> float:
        """Orders accepted per second between two moments (monotonic)."""
        accepted = sum(begun <= at < ended for at in self.placed.values())
        return accepted / (ended - begun)


async def _start_at(rate: float, start: Callable[[], object]) -> None:
    begun = time.monotonic()
    for number in itertools.count():
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        start()
