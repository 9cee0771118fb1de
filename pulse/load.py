"""Post a file of orders to a running Pulse, by its contract alone; follow and check each."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import httpx
import msgspec

from pulse.domain import Slice, SplitTerms, broken_rules
from pulse.errors import PulseError
from pulse.http_client import open_client
from pulse.retry import Retry, RetryPolicy

_MAX_PORT: Final = 65_535
_RETRY: Final = RetryPolicy(first_seconds=0.4, max_seconds=8.0, deadline_seconds=30.0)
_POLL_SECONDS: Final = 0.2
_PLACED: Final = frozenset({200, 201})
_UNAVAILABLE: Final = frozenset({429, 503})
_ONE_SPOILS_THE_BATCH: Final = frozenset({400, 413})

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Show = Callable[[int, int], None]  # how many are done, and of how many


class LoadError(PulseError):
    """The load cannot run or go on; the text is one line that says what to do."""


class Line(msgspec.Struct, frozen=True):
    """A line that is not blank, and the order it asks for, which is empty where it is no JSON."""

    number: int
    body: bytes
    order: dict[str, Any]


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    order_id: UUID
    order_unique_key: str
    instrument: str
    side: str
    total_quantity: int
    split_config: dict[str, Any]
    order_queue_status: Literal["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"]
    failure_reason: str | None
    created_at: Time
    split_completed_at: Time | None
    slices: tuple[Slice, ...]


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: msgspec.Raw


class _Body(msgspec.Struct, frozen=True):
    """What is read of any answer but that of one order: nothing, where it has another form."""

    status: str = ""
    order_id: UUID | None = None
    results: tuple[_Answer, ...] = ()
    orders: tuple[_Order, ...] = ()
    next_cursor: str | None = None
    error: dict[str, Any] = {}


class Load:
    """One load of one Pulse: counts, `faults` by their kind, and the `first` of each kind.

    A `request_seconds` runs from a request's first try to its last answer, a `completion_seconds`
    from created_at to split_completed_at.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        batch: int,
        concurrency: int,
        settle_seconds: float,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        self.trace_id = f"t{int(time.time())}{secrets.token_hex(6)}"
        self.counts, self.faults = Counter[str](), Counter[str]()
        self.first: dict[str, str] = {}
        self.posting_seconds = 0.0
        self.request_seconds: list[float] = []
        self.completion_seconds: list[float] = []
        headers = {"X-Trace-Id": self.trace_id, "X-Request-Source": "PULSE_LOAD"}
        http.headers.update({**headers, "Content-Type": "application/json"})
        self._http, self._batch, self._concurrency = http, batch, concurrency
        self._settle_seconds, self._retry = settle_seconds, retry
        self._sent: dict[UUID, Line] = {}
        self._created: set[UUID] = set()
        self._waiting: set[UUID] = set()

    async def run(
        self, lines: Sequence[Line], progress: Callable[[str], AbstractContextManager[Show]]
    ) -> None:
        """Post every order in batches; then follow them, so that asking slows no posting."""
        starts = range(0, len(lines), self._batch)
        batches = iter([lines[start : start + self._batch] for start in starts])
        started = time.perf_counter()

        async def post_batches(show: Show) -> None:
            for some in batches:
                posted = time.perf_counter()
                await self._post(some)
                self.request_seconds.append(time.perf_counter() - posted)
                show(self.counts["posted"], len(lines))

        with progress("posted") as show:
            await asyncio.gather(*(post_batches(show) for _ in range(self._concurrency)))
        self.posting_seconds = time.perf_counter() - started
        self._waiting, deadline = set(self._sent), time.perf_counter() + self._settle_seconds
        with progress("completed") as show:
            await self._follow(deadline, show)
        for order_id in self._waiting:
            self._note("still pending", self._sent[order_id], f"order {order_id}")

    def _note(self, fault: str, line: Line, sentence: str) -> None:
        self.faults[fault] += 1
        self.first.setdefault(fault, f"line {line.number}: {sentence}")

    async def _post(self, lines: Sequence[Line]) -> None:
        """Post these lines in one request, and those again that Pulse could not take then."""
        retry = Retry(self._retry)
        while lines:
            pause, asked_to_wait = retry.next_pause(), ""
            body = b"[%b]" % b",".join(line.body for line in lines)
            try:
                response = await self._http.post("/internal/orders/batch", content=body)
            except httpx.RequestError as error:
                if pause is None or not self.counts["posted"]:
                    raise LoadError(
                        f"no Pulse answers at {self._http.base_url} ({type(error).__name__}): "
                        "start it with `make run`, or name its API with --url, and run this again: "
                        "an order it already has is never doubled"
                    ) from None
            else:
                if response.status_code in _ONE_SPOILS_THE_BATCH and len(lines) > 1:
                    for line in lines:
                        await self._post([line])
                    return
                lines = self._count(lines, response, last=pause is None)
                asked_to_wait = response.headers.get("Retry-After", "")
            if lines:
                self.counts["sent again"] += 1
                asked = float(asked_to_wait) if asked_to_wait.isdecimal() else pause or 0.0
                await asyncio.sleep(min(asked, self._retry.deadline_seconds))

    def _count(
        self, lines: Sequence[Line], response: httpx.Response, *, last: bool
    ) -> Sequence[Line]:
        """Count the answers; the lines to send again, which is safe as they keep their keys."""
        counts, again = self.counts, []
        answers = _read(response.content).results
        if len(answers) != len(lines):
            whole = _Answer(response.status_code, msgspec.Raw(response.content))
            answers = (whole,) * len(lines)
        for line, answer in zip(lines, answers, strict=True):
            if answer.status in _UNAVAILABLE and not last:
                again.append(line)
                continue
            counts["posted"] += 1
            order_id = _read(answer.body).order_id
            if answer.status not in _PLACED or order_id is None:
                code, message = _refusal(answer.status, answer.body)
                self._note(f"refused: {code}", line, message)
                continue
            created = answer.status == httpx.codes.CREATED
            counts["created" if created else "already there"] += 1
            first = self._sent.setdefault(order_id, line)
            if first.order != line.order or (created and order_id in self._created):
                breach = f"order {order_id} is that of line {first.number} too"
                self._note("broken: one_key_is_one_order", line, breach)
            if created:
                self._created.add(order_id)
        return again

    async def _follow(self, deadline: float, show: Show) -> None:
        """Look at the orders page by page, the oldest first, as these are split first."""
        while self._waiting:
            for params in reversed(await self._pages()):
                while True:
                    page = await self._page(params)
                    for order in page.orders:
                        self._look(order)
                    show(self.counts["COMPLETED"], len(self._sent))
                    if not self._is_waiting_in(page) or time.perf_counter() >= deadline:
                        break
                    await asyncio.sleep(_POLL_SECONDS)
            if not self._waiting or time.perf_counter() >= deadline:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _pages(self) -> Sequence[dict[str, str]]:
        """Where orders wait among all orders, newest first; those far below others come later."""
        found, params = list[dict[str, str]](), {"limit": "200"}
        while True:
            page = await self._page(params)
            if self._is_waiting_in(page):
                found.append(params)
            elif found:
                return found
            if page.next_cursor is None:
                return found
            params = {**params, "cursor": page.next_cursor}

    async def _page(self, params: dict[str, str]) -> _Body:
        try:
            return _read((await self._http.get("/internal/orders", params=params)).content)
        except httpx.RequestError:
            return _Body()

    def _is_waiting_in(self, page: _Body) -> bool:
        return not self._waiting.isdisjoint(order.order_id for order in page.orders)

    def _look(self, answer: _Order) -> None:
        """Count an order that waits and has an outcome, and the rules it breaks."""
        order_id, status = answer.order_id, answer.order_queue_status
        if order_id not in self._waiting or status in {"PENDING", "IN_PROGRESS"}:
            return
        self._waiting.discard(order_id)
        line = self._sent[order_id]
        if status == "FAILED":
            self._note(f"FAILED: {answer.failure_reason}", line, f"order {order_id}")
        else:
            shares = sum(s.quantity for s in answer.slices)
            self.counts.update(COMPLETED=1, slices=len(answer.slices), shares=shares)
        if answer.split_completed_at is not None:
            took = answer.split_completed_at - answer.created_at
            self.completion_seconds.append(took.total_seconds())
        for rule, breach in _breaches(line.order, answer):
            self._note(f"broken: {rule}", line, f"order {order_id}: {breach}")


def _breaches(sent: dict[str, Any], answer: _Order) -> Iterator[tuple[str, str]]:
    """What is wrong with the answer to an order with an outcome: the rule, and its first breach."""
    answered = msgspec.structs.asdict(answer)
    for name, value in sent.items():
        if answered.get(name) != value:
            yield "fields_equal_what_was_sent", f"{name} is {answered.get(name)}, sent was {value}"
            return
    if answer.order_queue_status == "COMPLETED":  # no rule needs the seed, which no answer has
        terms = {"total_quantity": answer.total_quantity, "seed": 0, "starts_at": answer.created_at}
        broken = broken_rules(
            msgspec.convert(terms | answer.split_config, SplitTerms), answer.slices
        )
        yield from {one.rule: one.breach for one in reversed(broken)}.items()


def _read(body: bytes | msgspec.Raw) -> _Body:
    try:
        return msgspec.json.decode(body, type=_Body)
    except ValueError:
        return _Body()


def _refusal(status: int, body: bytes | msgspec.Raw) -> tuple[str, str]:
    """The code and the message of an answer that is not the one asked for."""
    code = "UNREADABLE_ANSWER" if status in _PLACED else f"HTTP_{status}"
    error = _read(body).error
    return str(error.get("code", code)), str(error.get("message", f"{status} without a reason"))


def read_lines(file: Path) -> list[Line]:
    """The lines of a file of orders, one JSON object a line."""
    try:
        texts = file.read_bytes().split(b"\n")
    except OSError as error:
        raise LoadError(
            f"cannot read {file}: {error.strerror}; name a file with one JSON order per line"
        ) from None
    lines = [
        Line(number, text, _order(text)) for number, text in enumerate(texts, 1) if text.strip()
    ]
    if not lines:
        raise LoadError(f"{file} holds no orders; it should have one JSON order per line")
    return lines


def _order(text: bytes) -> dict[str, Any]:
    """The order with the default of `randomize`, as it is answered."""
    try:
        order = msgspec.json.decode(text, type=dict[str, Any])
        return order | {"split_config": {"randomize": True} | order["split_config"]}
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}


def open_http(base_url: str, token: str | None, connections: int) -> httpx.AsyncClient:
    """A client below `base_url`. A proxy of the environment is used, but not for this machine."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL()
    usable = url.scheme in {"http", "https"} and url.host and (url.port or 1) <= _MAX_PORT
    if not usable or url.userinfo:  # not repeated: it may hold a password
        raise LoadError(
            "--url is no URL of a Pulse: write it like http://127.0.0.1:8000/pulse, without user "
            "and password; a token goes into --token"
        )
    if token is not None and not (
        token.isascii() and token.isprintable() and token.split() == [token]
    ):
        raise LoadError("--token holds no token: it has blanks or other than ASCII characters")
    return open_client(
        "pulse load",
        base_url=url,
        headers={} if token is None else {"Authorization": f"Bearer {token}"},
        limits=httpx.Limits(max_connections=connections),
        timeout=30,
        trust_env=url.host not in {"127.0.0.1", "::1", "localhost"},
    )
