import asyncio
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from rich.console import Console

from pulse.domain import (
    INTERNAL_SCOPE,
    OrderRefused,
    OrderRequest,
    RequestedOrder,
    SplitTerms,
    order_id_for,
    parse_order_request,
    split,
)
from pulse.load import LoadResult, Pace, load_orders, render

URL = "http://127.0.0.1:8000/pulse"
CREATED_AT = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
SPLIT_AFTER = timedelta(milliseconds=12)


class FakePulse:
    """Pulse in one process without time: it keeps what it is sent and splits it when asked.

    A test plants a fault by setting `status`, by changing answers in `alter`, or by queueing
    responses in `first_answers`, which are given before the right ones.
    """

    def __init__(self) -> None:
        self.orders: dict[UUID, RequestedOrder] = {}
        self.requests: list[httpx.Request] = []
        self.first_answers: list[httpx.Response | httpx.TransportError] = []
        self.status = "COMPLETED"
        self.alter: Callable[[dict[str, Any]], None] = lambda _: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path.removeprefix("/pulse")
        if path == "/health":
            return httpx.Response(200, json={"status": "ok"})
        if self.first_answers:
            answer = self.first_answers.pop(0)
            if isinstance(answer, httpx.TransportError):
                raise answer
            return answer
        if request.method == "POST" and path == "/internal/orders":
            return self._place(request.content)
        return self._show(UUID(path.removeprefix("/internal/orders/")))

    def _place(self, body: bytes) -> httpx.Response:
        try:
            requested = parse_order_request(msgspec.json.decode(body, type=OrderRequest))
        except OrderRefused as refused:
            return error(400, refused.code, str(refused))
        order_id = order_id_for(INTERNAL_SCOPE, requested.order_unique_key)
        known = self.orders.setdefault(order_id, requested)
        if known is not requested and known != requested:
            return error(409, "DUPLICATE_ORDER_UNIQUE_KEY", "the key belongs to another order")
        answer = {"order_id": str(order_id), "order_unique_key": requested.order_unique_key}
        return httpx.Response(201 if known is requested else 200, json=answer)

    def _show(self, order_id: UUID) -> httpx.Response:
        order, spec = self.orders[order_id], self.orders[order_id].spec
        terms = SplitTerms(
            total_quantity=spec.total_quantity,
            num_splits=spec.num_splits,
            duration_minutes=spec.duration_minutes,
            randomize=spec.randomize,
            seed=order_id.int,
            starts_at=CREATED_AT,
        )
        completed = self.status == "COMPLETED"
        answer = {
            "order_id": order_id,
            "order_unique_key": order.order_unique_key,
            "instrument": spec.instrument,
            "side": spec.side,
            "total_quantity": spec.total_quantity,
            "split_config": {
                "num_splits": spec.num_splits,
                "duration_minutes": spec.duration_minutes,
                "randomize": spec.randomize,
            },
            "order_queue_status": self.status,
            "failure_reason": "TIMED_OUT" if self.status == "FAILED" else None,
            "created_at": CREATED_AT,
            "split_completed_at": CREATED_AT + SPLIT_AFTER if completed else None,
            "slices": split(terms, 1) if completed else (),
        }
        plain = msgspec.to_builtins(answer)
        self.alter(plain)
        return httpx.Response(200, json=plain)


def error(status: int, code: str, message: str, **headers: str) -> httpx.Response:
    body = {"error": {"code": code, "message": message, "details": {}}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=named)


def order(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "order_unique_key": f"ouk_{number}",
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 1000 + number,
        "split_config": {"num_splits": 5, "duration_minutes": 60},
        **changes,
    }


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


class Run:
    """A load under test: its result, its output, and the waits it asked for."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.output = io.StringIO()
        self.waits: list[float] = []
        self.console = Console(file=self.output, width=120, force_terminal=terminal)

    def __call__(
        self,
        file: Path,
        pulse: FakePulse,
        *,
        settle_seconds: float = 60,
        line_interval_seconds: float = 60,
    ) -> LoadResult:
        pace = Pace(
            poll_interval_seconds=0.001,
            line_interval_seconds=line_interval_seconds,
            sleep=self._sleep,
        )
        loading = load_orders(
            file,
            URL,
            concurrency=4,
            settle_seconds=settle_seconds,
            console=self.console,
            pace=pace,
            transport=httpx.MockTransport(pulse),
        )
        return asyncio.run(loading)

    def report(self, result: LoadResult) -> str:
        self.console.print(render(result))
        return self.output.getvalue()

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(min(seconds, 0.001))


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    assert "\x1b" not in run.output.getvalue()


def test_all_is_well_when_every_order_completes_by_the_rules(
    run: Run, pulse: FakePulse, file: Path
) -> None:
    result = run(file, pulse)
    assert result.exit_code == 0
    assert (result.posted, result.created, result.already_there) == (20, 20, 0)
    assert (result.completed, result.slices) == (20, 100)
    assert result.shares == sum(1000 + n for n in range(1, 21))
    assert result.completion_seconds == [0.012] * 20
    assert len(result.accept_seconds) == 20
    assert not run.waits


def test_the_whole_run_carries_one_trace(run: Run, pulse: FakePulse, file: Path) -> None:
    result = run(file, pulse)
    assert {r.headers["X-Trace-Id"] for r in pulse.requests} == {result.trace_id}
    assert {r.headers["X-Request-Source"] for r in pulse.requests} == {"PULSE_LOAD"}


def test_the_second_run_finds_every_order_there(run: Run, pulse: FakePulse, file: Path) -> None:
    run(file, pulse)
    again = run(file, pulse)
    assert again.exit_code == 0
    assert (again.created, again.already_there, again.completed) == (0, 20, 20)


def test_the_examples_load(run: Run, pulse: FakePulse) -> None:
    examples = Path(__file__).resolve().parents[2] / "examples" / "orders.ndjson"
    result = run(examples, pulse)
    assert result.exit_code == 0
    assert result.completed == 1000


def test_refusals_are_counted_by_code_and_named_by_line(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    file = write(
        tmp_path / "orders.ndjson",
        order(1),
        "",
        order(2, total_quantity=0),
        '{"order_unique_key": ',
        "   ",
        order(1, side="SELL"),
    )
    result = run(file, pulse)
    assert result.exit_code == 1
    assert (result.posted, result.created) == (3, 1)
    codes = {"INVALID_QUANTITY": 1, "BAD_JSON": 1, "DUPLICATE_ORDER_UNIQUE_KEY": 1}
    assert result.refused == codes
    report = run.report(result)
    assert "refused: line 3: INVALID_QUANTITY: total_quantity is out of range" in report
    assert "refused: line 4: BAD_JSON: not JSON: " in report
    assert "refused: line 6: DUPLICATE_ORDER_UNIQUE_KEY: the key belongs" in report
    assert "posted 4 of 4, completed 1 of 1" in report


def test_a_line_of_broken_utf8_is_refused_here(run: Run, pulse: FakePulse, tmp_path: Path) -> None:
    file = tmp_path / "orders.ndjson"
    file.write_bytes(b'{"order_unique_key":"\xff"}\n')
    result = run(file, pulse)
    assert result.refused == {"BAD_JSON": 1}
    assert result.exit_code == 1


def test_a_key_in_two_lines_is_one_order(run: Run, pulse: FakePulse, tmp_path: Path) -> None:
    file = write(tmp_path / "orders.ndjson", order(1), order(1), order(2))
    result = run(file, pulse)
    assert result.exit_code == 0
    assert (result.created, result.already_there, result.accepted) == (2, 1, 2)
    assert (result.completed, result.slices) == (2, 10)


def test_unavailable_is_asked_again_after_the_time_it_names(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    pulse.first_answers = [
        error(503, "UNAVAILABLE", "the database is away", Retry_After="7"),
        error(429, "TOO_MANY_REQUESTS", "slower", Retry_After="Mon, 23 Nov 2026 09:15:00 GMT"),
        httpx.ReadError("gone"),
    ]
    result = run(write(tmp_path / "orders.ndjson", order(1)), pulse)
    assert result.exit_code == 0
    assert (result.posted, result.created, result.retries) == (1, 1, 3)
    assert run.waits == [7.0, 0.4, 0.8]


def test_an_order_that_stays_unavailable_is_refused_in_the_end(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    pulse.first_answers = [error(503, "UNAVAILABLE", "away", Retry_After="99")] * 6
    result = run(write(tmp_path / "orders.ndjson", order(1)), pulse)
    assert result.refused == {"UNAVAILABLE": 1}
    assert run.waits == [30.0] * 5


def test_an_order_that_cannot_be_asked_for_yet_is_asked_for_later(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    body = {"order_id": str(order_id_for(INTERNAL_SCOPE, "ouk_1")), "order_unique_key": "ouk_1"}
    file = write(tmp_path / "orders.ndjson", order(1))
    run(file, pulse)
    pulse.first_answers = [httpx.Response(200, json=body)]
    pulse.first_answers += [error(503, "UNAVAILABLE", "away", Retry_After="0")] * 7
    result = run(file, pulse)
    assert result.exit_code == 0
    assert (result.already_there, result.completed, result.retries) == (1, 1, 6)


def test_a_slice_with_one_share_too_many_is_named(run: Run, pulse: FakePulse, file: Path) -> None:
    def one_share_more(answer: dict[str, Any]) -> None:
        if answer["order_unique_key"] == "ouk_7":
            answer["slices"][2]["quantity"] += 1

    pulse.alter = one_share_more
    result = run(file, pulse)
    assert result.exit_code == 1
    assert {rule: tally.orders for rule, tally in result.broken.items()} == {
        "quantities_sum_to_total": 1
    }
    broken_id = order_id_for(INTERNAL_SCOPE, "ouk_7")
    report = " ".join(run.report(result).split())
    assert f"quantities_sum_to_total, first by line 7, order {broken_id}: quantities sum" in report
    assert "sum to 1008, expected 1007" in report


def test_an_order_that_comes_back_changed_is_named(run: Run, pulse: FakePulse, file: Path) -> None:
    pulse.alter = lambda answer: answer.update(side="SELL")
    result = run(file, pulse)
    assert result.exit_code == 1
    assert result.broken["fields_equal_what_was_sent"].orders == 20
    assert result.broken["fields_equal_what_was_sent"].first_breach == "side is SELL, sent was BUY"


def test_an_order_that_never_completes_is_still_pending(
    run: Run, pulse: FakePulse, file: Path
) -> None:
    pulse.status = "PENDING"
    result = run(file, pulse, settle_seconds=0.03)
    assert result.exit_code == 1
    assert (result.pending, result.completed) == (20, 0)
    assert len(run.waits) > 1
    assert all(0 < wait <= 0.001 for wait in run.waits)
    assert not result.broken
    assert "still pending" in run.report(result)


def test_an_order_that_completes_later_is_waited_for(
    run: Run, pulse: FakePulse, file: Path
) -> None:
    pulse.status = "PENDING"

    def complete_at_the_second_look(_: dict[str, Any]) -> None:
        if run.waits:
            pulse.status = "COMPLETED"

    pulse.alter = complete_at_the_second_look
    result = run(file, pulse)
    assert result.exit_code == 0
    assert (result.completed, result.pending) == (20, 0)


def test_a_pending_order_that_has_slices_breaks_a_rule_once(
    run: Run, pulse: FakePulse, file: Path
) -> None:
    pulse.alter = lambda answer: answer.update(order_queue_status="IN_PROGRESS")
    result = run(file, pulse, settle_seconds=0.01)
    assert result.broken["status_and_outcome_agree"].orders == 20


def test_failed_orders_are_counted_by_reason(run: Run, pulse: FakePulse, file: Path) -> None:
    pulse.status = "FAILED"
    result = run(file, pulse)
    assert result.exit_code == 1
    assert result.failed == {"TIMED_OUT": 20}
    assert "FAILED: TIMED_OUT" in run.report(result)


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "ORDER_NOT_FOUND", "no such order"),
        httpx.Response(200, json={"order_id": "?"}),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(502, text="<html>"),
    ],
)
def test_an_accepted_order_that_is_not_answered_breaks_a_rule(
    run: Run, pulse: FakePulse, tmp_path: Path, answer: httpx.Response
) -> None:
    order_id = order_id_for(INTERNAL_SCOPE, "ouk_1")
    body = {"order_id": str(order_id), "order_unique_key": "ouk_1"}
    pulse.first_answers = [httpx.Response(201, json=body), answer]
    result = run(write(tmp_path / "orders.ndjson", order(1)), pulse)
    assert result.exit_code == 1
    assert list(result.broken) == ["accepted_orders_are_answered"]


def test_an_acceptance_that_names_no_order_is_a_refusal(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    pulse.first_answers = [httpx.Response(201, json={"order_unique_key": "ouk_1"})]
    result = run(write(tmp_path / "orders.ndjson", order(1)), pulse)
    assert result.refused == {"UNREADABLE_ANSWER": 1}


def test_a_refusal_without_a_code_is_counted_by_its_status(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    pulse.first_answers = [httpx.Response(502, text="<html>")]
    result = run(write(tmp_path / "orders.ndjson", order(1)), pulse)
    assert result.refused == {"HTTP_502": 1}


def test_an_order_accepted_against_the_rules_is_named(
    run: Run, pulse: FakePulse, tmp_path: Path
) -> None:
    body = {"order_id": str(UUID(int=1)), "order_unique_key": "ouk_1"}
    pulse.first_answers = [httpx.Response(201, json=body)]
    result = run(write(tmp_path / "orders.ndjson", order(1, total_quantity=100.0)), pulse)
    assert list(result.broken) == ["only_valid_orders_are_accepted"]


def test_a_key_that_creates_twice_is_named(run: Run, pulse: FakePulse, tmp_path: Path) -> None:
    order_id = order_id_for(INTERNAL_SCOPE, "ouk_1")
    body = {"order_id": str(order_id), "order_unique_key": "ouk_1"}
    pulse.orders[order_id] = parse_order_request(msgspec.convert(order(1), OrderRequest))
    pulse.first_answers = [httpx.Response(201, json=body), httpx.Response(201, json=body)]
    result = run(write(tmp_path / "orders.ndjson", order(1), order(1)), pulse)
    assert list(result.broken) == ["one_key_is_one_order"]


def test_two_orders_that_get_one_id_are_named(run: Run, pulse: FakePulse, tmp_path: Path) -> None:
    order_id = order_id_for(INTERNAL_SCOPE, "ouk_1")
    body = {"order_id": str(order_id), "order_unique_key": "ouk_1"}
    pulse.orders[order_id] = parse_order_request(msgspec.convert(order(1), OrderRequest))
    pulse.first_answers = [httpx.Response(200, json=body), httpx.Response(200, json=body)]
    result = run(write(tmp_path / "orders.ndjson", order(1), order(1, side="SELL")), pulse)
    assert "one_key_is_one_order" in result.broken


def test_in_a_pipe_a_line_is_printed_now_and_then(run: Run, pulse: FakePulse, file: Path) -> None:
    run(file, pulse, line_interval_seconds=0)
    lines = run.output.getvalue().splitlines()
    assert lines[0] == "posted 1 of 20, completed 0 of 1"
    assert lines[-1] == "posted 20 of 20, completed 20 of 20"
    assert len(lines) == len(set(lines)) == 40


def test_on_a_terminal_two_bars_move(pulse: FakePulse, file: Path) -> None:
    run = Run(terminal=True)
    result = run(file, pulse)
    output = run.output.getvalue()
    assert result.exit_code == 0
    assert "posted" in output
    assert "completed" in output
    assert "20/20" in output
