"""`pulse preview`: the schedule that an order would get, drawn or as the API answers it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from pulse.domain import Session
from pulse.testing import ListedSessions
from tests.support.cli import run_pulse

ORDER = ("--instrument", "NSE:RELIANCE", "--side", "BUY", "--total", "100", "--splits", "5")
PREVIEW = ("preview", *ORDER, "--duration", "60")


def test_the_schedule_is_drawn_with_its_window() -> None:
    before = datetime.now(UTC)
    ended = run_pulse(*PREVIEW, "--seed", "7")
    after = datetime.now(UTC)
    assert (ended.exit_code, ended.err) == (0, "")
    first, window, *chart, last = ended.out.splitlines()
    assert first == "BUY NSE:RELIANCE: 100 shares in 5 slices over 60 min, seed 0000000000000007"
    _, start, _, end = window.split()
    assert before <= datetime.fromisoformat(start) <= after
    assert (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() == 3600
    assert last == "  sum 100 of 100 shares; every rule of a schedule holds"
    assert sum(line.endswith("#") for line in chart) == 5
    assert max(map(len, chart)) <= 80


def test_the_same_seed_gives_the_same_quantities_and_a_random_one_is_named() -> None:
    first, again, other = (
        json.loads(run_pulse(*PREVIEW, "--json", *seed).out)
        for seed in (("--seed", "7"), ("--seed", "0000000000000007"), ())
    )
    assert list(first) == ["slices", "split_seed", "window"]
    assert first["split_seed"] == again["split_seed"] == "0000000000000007"
    quantities = [[s["quantity"] for s in one["slices"]] for one in (first, again)]
    assert quantities[0] == quantities[1]
    assert first["slices"][0]["scheduled_at"] == first["window"]["starts_at"]
    assert other["split_seed"] != first["split_seed"]


def test_an_even_schedule_is_labelled_even() -> None:
    ended = run_pulse(*PREVIEW, "--even")
    assert ended.out.splitlines()[0].endswith("100 shares in 5 slices over 60 min, evenly")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--instrument", "RELIANCE", "expected EXCHANGE:SYMBOL"),
        ("--instrument", "NSE:\udcff", "expected EXCHANGE:SYMBOL"),
        ("--side", "buy", "expected BUY or SELL"),
        ("--total", "4", "at least one share per slice: 5"),
        ("--total", "1000000001", "not in the range"),
        ("--splits", "101", "not in the range"),
        ("--duration", "0", "not in the range"),
        ("--seed", "g" * 16, "expected 16 hex digits"),
        ("--seed", "28CE6F2410645D51", "expected 16 hex digits"),
    ],
)
def test_a_wrong_order_is_one_line_and_exit_code_2(option: str, value: str, message: str) -> None:
    ended = run_pulse(*PREVIEW, option, value)
    assert (ended.exit_code, ended.out) == (2, "")
    assert message in ended.err
    assert option in ended.err
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("see `pulse preview --help`\n")


def test_a_preview_needs_no_database_and_no_valid_settings() -> None:
    ended = run_pulse(*PREVIEW, database_url="postgresql://nobody@127.0.0.1:1/nowhere")
    assert (ended.exit_code, ended.err) == (0, "")


CALENDAR = ListedSessions(
    [
        Session(opens_at=at, closes_at=at + timedelta(minutes=375))
        for at in (datetime.now(UTC) + timedelta(days=day, hours=1) for day in range(3))
    ]
)


@pytest.fixture
def with_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulse.cli.preview.load_calendar", lambda _: CALENDAR)


@pytest.mark.usefixtures("with_calendar")
@pytest.mark.parametrize("given", ["option", "setting"])
def test_the_session_of_a_window_is_named(given: str) -> None:
    option = ("--session-policy", "CLIP") if given == "option" else ()
    setting = {"session_policy": "clip"} if given == "setting" else {}
    ended = run_pulse(*PREVIEW, *option, **setting)
    assert (ended.exit_code, ended.err) == (0, "")
    _, window, session, *_, last = ended.out.splitlines()
    opens_at = window.split()[1]
    assert session.startswith(f"in the session from {opens_at} to ")
    assert last == "  sum 100 of 100 shares; every rule of a schedule holds"


def test_a_start_is_the_start_of_the_window() -> None:
    start_at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    ended = run_pulse(*PREVIEW, "--start-at", start_at.isoformat(), "--json")
    window = json.loads(ended.out)["window"]
    assert datetime.fromisoformat(window["starts_at"]) == start_at


@pytest.mark.usefixtures("with_calendar")
def test_if_the_market_is_closed_the_next_possible_window_is_named() -> None:
    ended = run_pulse(*PREVIEW, "--session-policy", "REJECT")
    assert (ended.exit_code, ended.out) == (1, "")
    assert "is not inside one trading session of NSE:RELIANCE; use another" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--start-at", "2026-01-01T00:00:00Z", "a time from now to 30 days ahead"),
        ("--start-at", "2026-01-01T00:00:00", "its offset from UTC"),
        ("--start-at", "tomorrow", "an RFC 3339 time"),
        ("--session-policy", "SKIP", "CLIP or NONE or REJECT or ROLL"),
    ],
)
def test_a_wrong_window_is_one_line_and_exit_code_2(option: str, value: str, message: str) -> None:
    ended = run_pulse(*PREVIEW, option, value)
    assert (ended.exit_code, ended.out) == (2, "")
    assert message in ended.err
    assert option in ended.err
    assert ended.err.count("\n") == 1
