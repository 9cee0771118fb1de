"""The load client: posts a file of orders to a running Pulse over HTTP, and checks each outcome."""

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import httpx
import msgspec

from pulse.domain import BrokenRule, Session, Slice, SplitTerms, Window, broken_rules
from pulse.errors import PulseError
from pulse.http_client import is_http_url, open_client
from pulse.retry import Retry, RetryPolicy
from pulse.rfc3339 import parse_time

_RETRY: Final = RetryPolicy(first_seconds=0.4, max_seconds=8.0, deadline_seconds=30.0)
_DEFAULTS: Final = {"randomize": True, "start_at": None, "session_policy": None}
_POLL_SECONDS: Final = 0.2
_RULES_OF_TIMES: Final = frozenset(
    {"window_is_filled", "times_stay_near_even", "times_increase_in_window"}
)
_PLACED: Final = frozenset({200, 201})
_UNAVAILABLE: Final = frozenset({429, 503})
_REFUSED_AS_A_WHOLE: Final = frozenset({400, 413})

Time = Annotated[datetime, msgspec.Meta(tz=True)]
OnProgress = Callable[[int, int], None]
"""Called with the number done and the total."""


class LoadError(PulseError):
    """The load cannot run; the message is one line that says what to do."""


class Line(msgspec.Struct, frozen=True):
    """A non-blank line of the file and its order, which is empty if it cannot be parsed."""

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
    window: Window
    order_queue_status: Literal["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
    failure_reason: str | None
    created_at: Time
    split_completed_at: Time | None
    slices: tuple[Slice, ...]


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: msgspec.Raw


class _Body(msgspec.Struct, frozen=True):
    """The fields that are read from a response; defaults if it has another format."""

    status: str = ""
    order_id: UUID | None = None
    results: tuple[_Answer, ...] = ()
    orders: tuple[_Order, ...] = ()
    next_cursor: str | None = None
    error: dict[str, Any] = {}


class Load:
    """One load run: counts, `faults` by kind, and the `first` fault of each kind.

    `request_seconds` are measured from the first attempt of a request to its last response,
    `completion_seconds` from created_at to split_completed_at.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        batch: int,
        concurrency: int,
        idle_seconds: float = 60.0,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        self.trace_id = f"t{int(time.time())}{secrets.token_hex(6)}"
        self.counts, self.faults = Counter[str](), Counter[str]()
        self.first: dict[str, str] = {}
        self.posting_seconds = 0.0
        self.request_seconds: list[float] = []
        self.completion_seconds: list[float] = []
        http.headers["X-Trace-Id"] = self.trace_id
        http.headers["X-Request-Source"] = "PULSE_LOAD"
        http.headers["Content-Type"] = "application/json"
        self._http, self._batch, self._concurrency = http, batch, concurrency
        self._idle_seconds, self._retry = idle_seconds, retry
        self._sent: dict[UUID, Line] = {}
        self._waiting: set[UUID] = set()

    async def run(
        self, lines: Sequence[Line], progress: Callable[[str], AbstractContextManager[OnProgress]]
    ) -> None:
        """Post every order in batches, then poll the outcomes, so that polling delays no post.

        Raises:
            LoadError: no ready Pulse answers at the URL.
        """
        starts = range(0, len(lines), self._batch)
        batches = iter([lines[start : start + self._batch] for start in starts])

        async def post_batches(on_progress: OnProgress) -> None:
            for some in batches:
                posted = time.perf_counter()
                await self._post(some)
                self.request_seconds.append(time.perf_counter() - posted)
                on_progress(self.counts["posted"], len(lines))

        async with self._http:
            await self._require_ready()
            started = time.perf_counter()
            with progress("posted") as on_progress:
                await asyncio.gather(*(post_batches(on_progress) for _ in range(self._concurrency)))
            self.posting_seconds = time.perf_counter() - started
            with progress("completed") as on_progress:
                await self._poll_outcomes(on_progress)
        for order_id in self._waiting:
            self._record_fault("without an outcome", self._sent[order_id], f"order {order_id}")

    def _record_fault(self, fault: str, line: Line, sentence: str) -> None:
        self.faults[fault] += 1
        self.first.setdefault(fault, f"line {line.number}: {sentence}")

    async def _require_ready(self) -> None:
        try:
            response = await self._http.get("/health/ready")
        except httpx.RequestError as error:
            raise self._unreachable(type(error).__name__) from None
        if _read(response.content).status != "ready":
            raise self._unreachable(f"GET health/ready answered {response.status_code}")

    def _unreachable(self, reason: str) -> LoadError:
        return LoadError(
            f"no ready Pulse answers at {self._http.base_url} ({reason}): start it with "
            "`make run`, or give the URL of its API with --url (for `pulse up` it ends in /pulse), "
            "and run this again; orders that Pulse already has are not duplicated"
        )

    async def _post(self, lines: Sequence[Line]) -> None:
        """Post these lines in one request, and retry those that were answered 429 or 503."""
        retry = Retry(self._retry)
        while lines:
            body = b"[%b]" % b",".join(line.body for line in lines)
            try:
                response = await self._http.post("/internal/orders/batch", content=body)
            except httpx.RequestError as error:
                if not await retry.wait():
                    raise self._unreachable(type(error).__name__) from None
                self.counts["sent again"] += 1
                continue
            if response.status_code in _REFUSED_AS_A_WHOLE and len(lines) > 1:
                for line in lines:
                    await self._post([line])
                return
            answered = list(zip(lines, _answers(response, len(lines)), strict=True))
            later = _UNAVAILABLE & {answer.status for _, answer in answered}
            asked = response.headers.get("Retry-After", "")
            asked_seconds = float(asked) if asked.isdecimal() else 0.0
            if later and await retry.wait(at_least_seconds=asked_seconds):
                self.counts["sent again"] += 1
            else:
                later = frozenset()
            for line, answer in answered:
                if answer.status not in later:
                    self._count(line, answer)
            lines = [line for line, answer in answered if answer.status in later]

    def _count(self, line: Line, answer: _Answer) -> None:
        """Count the final response to this line."""
        self.counts["posted"] += 1
        order_id = _read(answer.body).order_id
        if answer.status not in _PLACED or order_id is None:
            error = _read(answer.body).error
            code = "UNREADABLE_ANSWER" if answer.status in _PLACED else f"HTTP_{answer.status}"
            message = str(error.get("message", f"{answer.status} without a message"))
            self._record_fault(f"refused: {error.get('code', code)}", line, message)
            return
        self.counts["created" if answer.status == httpx.codes.CREATED else "already there"] += 1
        first = self._sent.setdefault(order_id, line)
        if first.order != line.order:
            breach = f"order {order_id} also belongs to line {first.number}"
            self._record_fault("broken: one_key_is_one_order", line, breach)

    async def _poll_outcomes(self, on_progress: OnProgress) -> None:
        """Poll the list of orders, newest first, until every order has an outcome.

        Polling takes at most a fifth of the time. Stops `idle_seconds` after the last outcome.
        """
        self._waiting, self._last_outcome_at = set(self._sent), time.perf_counter()
        while self._waiting:
            unread, params, started = set(self._waiting), {"limit": "200"}, time.perf_counter()
            while True:
                try:
                    response = await self._http.get("/internal/orders", params=params)
                except httpx.RequestError:
                    break
                page = _read(response.content)
                for order in page.orders:
                    unread.discard(order.order_id)
                    self._record_outcome(order)
                on_progress(self.counts["COMPLETED"], len(self._sent))
                if not unread or page.next_cursor is None:
                    break
                params = {**params, "cursor": page.next_cursor}
            now = time.perf_counter()
            if not self._waiting or now - self._last_outcome_at >= self._idle_seconds:
                return
            await asyncio.sleep(max(_POLL_SECONDS, 4 * (now - started)))

    def _record_outcome(self, answer: _Order) -> None:
        """Count an order that has an outcome since the last poll, and the rules that it breaks."""
        order_id, status = answer.order_id, answer.order_queue_status
        if order_id not in self._waiting or status in {"PENDING", "IN_PROGRESS"}:
            return
        self._waiting.discard(order_id)
        self._last_outcome_at = time.perf_counter()
        line = self._sent[order_id]
        if status == "FAILED":
            self._record_fault(f"FAILED: {answer.failure_reason}", line, f"order {order_id}")
        elif status == "CANCELLED":
            self._record_fault("CANCELLED before it was split", line, f"order {order_id}")
        else:
            shares = sum(s.quantity for s in answer.slices)
            self.counts.update(COMPLETED=1, slices=len(answer.slices), shares=shares)
        if answer.split_completed_at is not None:
            took = answer.split_completed_at - answer.created_at
            self.completion_seconds.append(took.total_seconds())
        for rule, breach in _breaches(line.order, answer):
            self._record_fault(f"broken: {rule}", line, f"order {order_id}: {breach}")


def _breaches(sent: dict[str, Any], answer: _Order) -> Iterator[tuple[str, str]]:
    """What is wrong with an order that has an outcome: each broken rule with its first breach."""
    answered = msgspec.structs.asdict(answer)
    for name, value in sent.items():
        if answered.get(name) != value:
            yield (
                "fields_equal_what_was_sent",
                f"{name} is {answered.get(name)}, but {value} was sent",
            )
            return
    if answer.order_queue_status == "COMPLETED":
        broken = [one for one in _broken_rules(answer) if one.rule not in _unchecked(answer)]
        yield from {one.rule: one.breach for one in reversed(broken)}.items()


def _broken_rules(answer: _Order) -> Sequence[BrokenRule]:
    """The rules that the slices break. A clipped window ends one second before the close.

    No rule uses the seed, which the API does not return.
    """
    window = answer.window
    terms = {"total_quantity": answer.total_quantity, "seed": 0, "starts_at": window.starts_at}
    given = msgspec.convert(terms | answer.split_config, SplitTerms)
    if window.ends_at < given.ends_at:
        close = Session(opens_at=window.starts_at, closes_at=window.ends_at + timedelta(seconds=1))
        given = msgspec.structs.replace(given, sessions=(close,))
    return broken_rules(given, answer.slices)


def _unchecked(answer: _Order) -> frozenset[str]:
    """The rules that cannot be checked: those about times, if the window has several sessions.

    Such a window is longer than requested. The response does not contain the sessions.
    """
    minutes = answer.split_config["duration_minutes"]
    length = answer.window.ends_at - answer.window.starts_at
    return _RULES_OF_TIMES if length > timedelta(minutes=minutes) else frozenset()


def _answers(response: httpx.Response, count: int) -> Sequence[_Answer]:
    """The response to each order of a batch; if it has no results, the whole response for each."""
    answers = _read(response.content).results
    whole = _Answer(response.status_code, msgspec.Raw(response.content))
    return answers if len(answers) == count else [whole] * count


def _read(body: bytes | msgspec.Raw) -> _Body:
    try:
        return msgspec.json.decode(body, type=_Body)
    except ValueError:
        return _Body()


def read_lines(file: Path) -> list[Line]:
    """Read a file of orders, one JSON object per line."""
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
        raise LoadError(f"{file} has no orders; expected one JSON order per line")
    return lines


def _order(text: bytes) -> dict[str, Any]:
    """Parse an order, with `split_config` as in responses."""
    try:
        order = msgspec.json.decode(text, type=dict[str, Any])
        config = _DEFAULTS | order["split_config"]
        if config["start_at"] is not None:
            config["start_at"] = msgspec.to_builtins(parse_time(config["start_at"]))
        return order | {"split_config": config}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def open_http(base_url: str, token: str | None) -> httpx.AsyncClient:
    """A client for `base_url`. It uses proxies of the environment, but not for this machine."""
    if not is_http_url(base_url) or httpx.URL(base_url).userinfo:  # it may contain a password
        raise LoadError(
            "--url is not the URL of a Pulse API: expected one like http://127.0.0.1:8000/pulse, "
            "without user and password; use --token for a token"
        )
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise LoadError("--token is not a token: it has blanks or characters that are not ASCII")
    return open_client(
        "pulse load",
        base_url=base_url,
        headers={} if token is None else {"Authorization": f"Bearer {token}"},
        timeout=30,
        trust_env=httpx.URL(base_url).host not in {"127.0.0.1", "::1", "localhost"},
    )
