import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from pulse.domain import (
    INTERNAL_SCOPE,
    Session,
    SplitTerms,
    order_id_for,
    split,
    splitter_version_for,
)
from pulse.load import Load, LoadError, open_http, read_lines
from pulse.retry import RetryPolicy

URL = "http://127.0.0.1:8000/pulse"
CREATED_AT = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "orders.ndjson"
Answer = httpx.Response | httpx.TransportError
LONG_DEADLINES = RetryPolicy(first_seconds=0.4, max_seconds=8.0, deadline_seconds=30.0)
SHORT = RetryPolicy(first_seconds=0.001, max_seconds=0.001, deadline_seconds=0.05)


class FakePulse:
    """Pulse in one process: it keeps what it is sent and splits it when asked.

    A test plants a fault by `status`, by changing answers in `alter`, or by `first_answers`, which
    come before the right ones.
    """

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.requests: list[httpx.Request] = []
        self.first_answers: list[Answer] = []
        self.readiness = httpx.Response(200, json={"status": "ready"})
        self.status = "COMPLETED"
        self.alter: Callable[[dict[str, Any]], None] = lambda _: None
        self.sessions: tuple[Session, ...] = ()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/pulse/health/ready":
            return self.readiness
        self.requests.append(request)
        if self.first_answers:
            answer = self.first_answers.pop(0)
            if isinstance(answer, httpx.TransportError):
                raise answer
            return answer
        if request.method == "POST":
            return self._place(request.content)
        start = int(request.url.params.get("cursor", 0))
        limit = int(request.url.params["limit"])
        newest = list(reversed(self.orders.values()))
        page = [self._show(order) for order in newest[start : start + limit]]
        more = str(start + limit) if start + limit < len(newest) else None
        return httpx.Response(200, json={"orders": page, "next_cursor": more})

    def _place(self, body: bytes) -> httpx.Response:
        try:
            batch = msgspec.json.decode(body, type=list[dict[str, Any]])
        except ValueError:
            return error(400, "INVALID_REQUEST", "the body is not JSON")
        return httpx.Response(200, json={"results": [self._place_one(order) for order in batch]})

    def _place_one(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["total_quantity"] == 0:
            return refused(400, "INVALID_QUANTITY", "total_quantity is out of range")
        known = self.orders.setdefault(order["order_unique_key"], order)
        if known != order:
            return refused(409, "DUPLICATE_ORDER_UNIQUE_KEY", "the key belongs to another order")
        return placed(order["order_unique_key"], 201 if known is order else 200)

    def _show(self, order: dict[str, Any]) -> dict[str, Any]:
        asked = {"randomize": True, **order["split_config"]}
        config = {"start_at": None, "session_policy": None, **asked}
        terms = SplitTerms(
            num_splits=config["num_splits"],
            duration_minutes=config["duration_minutes"],
            randomize=config["randomize"],
            total_quantity=order["total_quantity"],
            seed=7,
            starts_at=datetime.fromisoformat(config["start_at"] or CREATED_AT.isoformat()),
            sessions=self.sessions,
        )
        if config["start_at"] is not None:
            config["start_at"] = msgspec.to_builtins(terms.starts_at.astimezone(UTC))
        completed = self.status == "COMPLETED"
        answer = {
            **order,
            "order_id": order_id_for(INTERNAL_SCOPE, order["order_unique_key"]),
            "split_config": config,
            "window": {"starts_at": terms.starts_at, "ends_at": terms.ends_at},
            "order_queue_status": self.status,
            "failure_reason": "TIMED_OUT" if self.status == "FAILED" else None,
            "created_at": CREATED_AT,
            "split_completed_at": CREATED_AT + timedelta(milliseconds=12) if completed else None,
            "slices": split(terms, splitter_version_for(terms.sessions)) if completed else (),
        }
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
        self.alter(plain)
        return plain


def placed(key: str, status: int) -> dict[str, Any]:
    order_id = str(order_id_for(INTERNAL_SCOPE, key))
    return {"status": status, "body": {"order_id": order_id, "order_unique_key": key}}


def refused(status: int, code: str, message: str) -> dict[str, Any]:
    return {"status": status, "body": {"error": {"code": code, "message": message, "details": {}}}}


def error(status: int, code: str, message: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=refused(status, code, message)["body"], headers=named)


def results(*answers: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"results": answers})


def order(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "order_unique_key": f"ouk_{number}",
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 1000 + number,
        "split_config": {"num_splits": 5, "duration_minutes": 60},
        **changes,
    }


class Run:
    """A load under test: what it found, the progress it showed, the waits it asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.progress: list[tuple[str, int, int]] = []
        self.waits: list[float] = []
        self._sleep = asyncio.sleep
        monkeypatch.setattr(asyncio, "sleep", self._wait)

    def __call__(
        self,
        file: Path,
        pulse: FakePulse,
        *,
        batch: int = 4,
        idle_seconds: float = 60,
        retry: RetryPolicy = LONG_DEADLINES,
    ) -> Load:
        async def run() -> Load:
            transport = httpx.MockTransport(pulse)
            http = httpx.AsyncClient(base_url=URL, transport=transport)
            load = Load(http, batch=batch, concurrency=3, idle_seconds=idle_seconds, retry=retry)
            await load.run(read_lines(file), self._phase)
            return load

        return asyncio.run(run())

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: self.progress.append((name, done, total))

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        await self._sleep(min(seconds, 0.001))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


@pytest.fixture
def pulse() -> FakePulse:
    return FakePulse()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "orders.ndjson", *(order(n) for n in range(1, 21)))


def write(file: Path, *lines: Any) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text("\n".join(texts), encoding="utf-8")
    return file


def test_a_load_succeeds_if_every_order_completes_by_the_rules(
    run: Run, pulse: FakePulse, file: Path
) -> None:
    found = run(file, pulse)
    assert not found.faults
    shares = sum(1000 + n for n in range(1, 21))
    assert found.counts == {
        "posted": 20,
        "created": 20,
        "COMPLETED": 20,
        "slices": 100,
        "shares": shares,
    }
    assert found.completion_seconds == [0.012] * 20
    assert len(found.request_seconds) == 5
    assert not run.waits
    assert ("posted", 20, 20) in run.progress
    assert run.progress[-1] == ("completed", 20, 20)


def test_the_whole_run_carries_one_trace(run: Run, pulse: FakePulse, file: Path) -> None:
    found = run(file, pulse)
    assert {r.headers["X-Trace-Id"] for r in pulse.requests} == {found.trace_id}
    assert {r.headers["X-Request-Source"] for r in pulse.requests} == {"PULSE_LOAD"}


def test_the_second_run_finds_every_order_there(run: Run, pulse: FakePulse, file: Path) -> None:
    run(file, pulse)
    again = run(file, pulse)
    assert not again.faults
    assert (again.counts["created"], again.counts["already there"]) == (0, 20)
    assert again.counts["COMPLETED"] == 20


def test_the_examples_load_over_several_pages(run: Run, pulse: FakePulse) -> None:
    found = run(EXAMPLES, pulse, batch=100)
    assert not found.faults
    assert found.counts["COMPLETED"] == 1000


def test_orders_far_below_newer_ones_are_found(
    run: Run, pulse: FakePulse, tmp_path: Path, file: Path
) -> None:
    run(file, pulse)
    run(EXAMPLES, pulse, batch=1000)
    mixed = write(tmp_path / "mixed.ndjson", order(1), order(2), order(2000))
    found = run(mixed, pulse)
    assert not found.faults
    assert (found.counts["created"], found.counts["COMPLETED"]) == (1, 3)


def test_refusals_are_counted_by_code_and_named_by_line(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    lines = (order(1), "", order(2, total_quantity=0), '{"a": ', "   ", order(1, side="SELL"))
    found = run(write(tmp_path / "orders.ndjson", *lines), pulse, batch=10)
    assert found.faults == {
        "refused: INVALID_QUANTITY": 1,
        "refused: INVALID_REQUEST": 1,
        "refused: DUPLICATE_ORDER_UNIQUE_KEY": 1,
    }
    assert found.first == {
        "refused: INVALID_QUANTITY": "line 3: total_quantity is out of range",
        "refused: INVALID_REQUEST": "line 4: the body is not JSON",
        "refused: DUPLICATE_ORDER_UNIQUE_KEY": "line 6: the key belongs to another order",
    }
    assert (found.counts["posted"], found.counts["created"]) == (4, 1)


def test_a_line_that_is_not_utf8_is_refused(run: Run, pulse: FakePulse, tmp_path: Path) -> None:
    file = tmp_path / "orders.ndjson"
    file.write_bytes(b'{"order_unique_key":"\xff"}\n')
    assert run(file, pulse).faults == {"refused: INVALID_REQUEST": 1}


def test_a_key_in_two_lines_is_one_order(run: Run, pulse: FakePulse, tmp_path: Path) -> None:
    found = run(write(tmp_path / "orders.ndjson", order(1), order(1), order(2)), pulse)
    assert not found.faults
    assert (found.counts["created"], found.counts["already there"]) == (2, 1)
    assert (found.counts["COMPLETED"], found.counts["slices"]) == (2, 10)


def test_orders_refused_with_429_or_503_are_sent_again_after_retry_after(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    pulse.first_answers = [
        results(placed("ouk_1", 201), refused(503, "UNAVAILABLE", "the database is down")),
        error(503, "UNAVAILABLE", "the database is down", Retry_After="7"),
        error(429, "TOO_MANY_REQUESTS", "slower", Retry_After="Mon, 23 Nov 2026 09:15:00 GMT"),
        httpx.ReadError("gone"),
    ]
    pulse.orders["ouk_1"] = order(1)
    found = run(write(tmp_path / "orders.ndjson", order(1), order(2)), pulse)
    assert not found.faults
    assert (found.counts["created"], found.counts["sent again"]) == (2, 4)
    bounds = (0.4, 7.0, 1.6, 3.2)
    assert all(wait <= bound for wait, bound in zip(run.waits, bounds, strict=False))
    assert run.waits[1] == 7.0
    assert [len(msgspec.json.decode(r.content)) for r in pulse.requests[:5]] == [2, 1, 1, 1, 1]


def test_an_order_refused_with_503_until_the_deadline_is_a_refusal(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    pulse.first_answers = [error(503, "UNAVAILABLE", "down", Retry_After="99")] * 1000
    found = run(write(tmp_path / "orders.ndjson", order(1)), pulse, retry=SHORT)
    assert found.faults["refused: UNAVAILABLE"] == 1
    assert not run.waits


@pytest.mark.parametrize(
    "first", [httpx.ConnectError("refused"), error(503, "UNAVAILABLE", "down")]
)
def test_an_order_that_cannot_be_read_yet_is_read_later(
    run: Run, pulse: FakePulse, tmp_path: Path, first: Answer
) -> None:
    file = write(tmp_path / "orders.ndjson", order(1))
    run(file, pulse)
    pulse.first_answers = [results(placed("ouk_1", 200)), first]
    found = run(file, pulse)
    assert not found.faults
    assert found.counts["COMPLETED"] == 1


def session(*, hours: int, minutes: int) -> Session:
    opens_at = CREATED_AT + timedelta(hours=hours)
    return Session(opens_at=opens_at, closes_at=opens_at + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    "sessions",
    [
        (session(hours=0, minutes=90),),
        (session(hours=0, minutes=60),),
        (session(hours=0, minutes=20),),
        (session(hours=0, minutes=20), session(hours=24, minutes=375)),
    ],
    ids=["inside", "with the close", "clipped", "rolled"],
)
def test_windows_in_sessions_and_later_starts_keep_the_rules(
    run: Run, pulse: FakePulse, tmp_path: Path, sessions: tuple[Session, ...]
) -> None:
    pulse.sessions = sessions
    config = {"num_splits": 5, "duration_minutes": 60, "start_at": "2026-11-23T14:45:00+05:30"}
    found = run(write(tmp_path / "orders.ndjson", order(1, split_config=config)), pulse)
    assert not found.faults
    assert found.counts["COMPLETED"] == 1


@pytest.mark.parametrize(
    ("change", "broken", "breach"),
    [
        (
            lambda answer: answer["slices"][2].update(quantity=999),
            "quantities_sum_to_total",
            "quantities sum",
        ),
        (lambda answer: answer["slices"].pop(), "slices_are_numbered", "4"),
        (
            lambda answer: answer.update(side="SELL"),
            "fields_equal_what_was_sent",
            "side is SELL, but BUY was sent",
        ),
        (
            lambda answer: answer["split_config"].update(randomize=False),
            "fields_equal_what_was_sent",
            "split_config is",
        ),
    ],
)
def test_an_order_that_comes_back_changed_is_named(  # noqa: PLR0917 - fixtures and cases
    run: Run,
    pulse: FakePulse,
    file: Path,
    change: Callable[[dict[str, Any]], None],
    broken: str,
    breach: str,
) -> None:
    pulse.alter = lambda answer: change(answer) if answer["order_unique_key"] == "ouk_7" else None
    found = run(file, pulse)
    assert found.faults[f"broken: {broken}"] == 1
    broken_id = order_id_for(INTERNAL_SCOPE, "ouk_7")
    assert found.first[f"broken: {broken}"].startswith(f"line 7: order {broken_id}: ")
    assert breach in found.first[f"broken: {broken}"]


@pytest.mark.timing
@pytest.mark.parametrize("status", ["PENDING", "IN_PROGRESS"])
def test_an_order_that_never_completes_is_without_an_outcome(
    run: Run, pulse: FakePulse, file: Path, status: str
) -> None:
    pulse.status = status
    found = run(file, pulse, idle_seconds=0.03)
    assert found.faults == {"without an outcome": 20}
    assert found.counts["COMPLETED"] == 0
    assert run.waits


def test_an_order_that_completes_later_is_waited_for(
    run: Run, pulse: FakePulse, file: Path
) -> None:
    pulse.status = "PENDING"

    def complete_at_the_second_look(_: dict[str, Any]) -> None:
        if run.waits:
            pulse.status = "COMPLETED"

    pulse.alter = complete_at_the_second_look
    found = run(file, pulse)
    assert not found.faults
    assert found.counts["COMPLETED"] == 20


@pytest.mark.parametrize("page", [{}, {"orders": [{"order_id": "?"}], "next_cursor": None}])
def test_an_accepted_order_that_is_not_answered_is_without_an_outcome(
    run: Run, pulse: FakePulse, tmp_path: Path, page: dict[str, Any]
) -> None:
    pulse.first_answers = [results(placed("ouk_1", 201)), httpx.Response(200, json=page)]
    found = run(write(tmp_path / "orders.ndjson", order(1)), pulse, idle_seconds=0)
    assert found.faults == {"without an outcome": 1}


def test_failed_orders_are_counted_by_reason(run: Run, pulse: FakePulse, file: Path) -> None:
    pulse.status = "FAILED"
    assert run(file, pulse).faults == {"FAILED: TIMED_OUT": 20}
    pulse.status = "CANCELLED"
    assert run(file, pulse).faults == {"CANCELLED before it was split": 20}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (results({"status": 201, "body": {"order_unique_key": "ouk_1"}}), "UNREADABLE_ANSWER"),
        (results(), "UNREADABLE_ANSWER"),
        (httpx.Response(200, content=b"\xff"), "UNREADABLE_ANSWER"),
        (httpx.Response(502, text="<html>"), "HTTP_502"),
        (error(404, "NOT_FOUND", "no"), "NOT_FOUND"),
    ],
)
def test_an_answer_without_an_order_is_a_refusal(
    run: Run, pulse: FakePulse, tmp_path: Path, answer: httpx.Response, fault: str
) -> None:
    pulse.first_answers = [answer]
    found = run(write(tmp_path / "orders.ndjson", order(1)), pulse)
    assert found.faults == {f"refused: {fault}": 1}


def test_two_orders_that_get_one_id_are_named(run: Run, pulse: FakePulse, tmp_path: Path) -> None:
    pulse.orders["ouk_1"] = order(1)
    pulse.first_answers = [results(placed("ouk_1", 200), placed("ouk_1", 200))]
    found = run(write(tmp_path / "orders.ndjson", order(1), order(1, side="SELL")), pulse)
    assert found.faults == {"broken: one_key_is_one_order": 1}


def test_a_port_without_a_listener_is_reported_with_advice(file: Path) -> None:
    async def run() -> None:
        load = Load(open_http("http://127.0.0.1:1", None), batch=1, concurrency=1)
        await load.run(read_lines(file), lambda _: contextlib.nullcontext(lambda *_: None))

    with pytest.raises(
        LoadError, match=r"no ready Pulse answers at http://127\.0\.0\.1:1 .*make run"
    ):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("readiness", "said"),
    [
        (error(503, "UNAVAILABLE", "the database is down"), "answered 503"),
        (error(404, "NOT_FOUND", "not found"), r"answered 404\).*--url"),
        (httpx.Response(200, text="<html>"), "answered 200"),
    ],
)
def test_nothing_is_posted_where_no_ready_pulse_answers(
    run: Run, pulse: FakePulse, file: Path, readiness: httpx.Response, said: str
) -> None:
    pulse.readiness = readiness
    with pytest.raises(LoadError, match=f"no ready Pulse answers at {URL}.*health/ready {said}"):
        run(file, pulse)
    assert not pulse.requests


def test_a_pulse_that_stays_unreachable_ends_the_load_at_the_deadline(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    pulse.orders["ouk_1"] = order(1)
    pulse.first_answers = [results(placed("ouk_1", 201)), *[httpx.ReadTimeout("gone")] * 5000]
    with pytest.raises(LoadError, match=r"ReadTimeout.*run this again; .* not duplicated"):
        run(
            write(tmp_path / "orders.ndjson", order(1), *map(order, range(2, 5))),
            pulse,
            batch=1,
            retry=SHORT,
        )


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8000", "ftp://x", "http:", "http://h:99999", "http://[::1"),
        "http://u:secretpw@127.0.0.1:1/pulse",
    ],
)
def test_an_invalid_url_or_one_with_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(LoadError, match="--url is not the URL of a Pulse API") as raised:
        open_http(url, None)
    assert "secretpw" not in str(raised.value)


@pytest.mark.parametrize("token", ["", " t", "a b", "é"])
def test_an_invalid_token_is_refused(token: str) -> None:
    with pytest.raises(LoadError, match="--token is not a token"):
        open_http(URL, token)


@pytest.mark.parametrize(
    ("host", "proxied"),
    [("127.0.0.1", False), ("localhost", False), ("[::1]", False), ("pulse.example", True)],
)
def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    host: str, *, proxied: bool
) -> None:
    assert open_http(f"http://{host}:8000/pulse", None).trust_env is proxied


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.ndjson"
    empty.write_text("\n  \n")
    for file, said in (
        (tmp_path / "absent", "No such file or directory; name a file with one JSON order"),
        (tmp_path, "Is a directory"),
        (empty, "has no orders"),
    ):
        with pytest.raises(LoadError, match=said):
            read_lines(file)
