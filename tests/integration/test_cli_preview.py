"""`pulse preview`: the schedule that an order would get, drawn or as the API answers it."""

import json
from datetime import UTC, datetime

import pytest

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


def test_evenly_it_says_so() -> None:
    ended = run_pulse(*PREVIEW, "--even")
    assert ended.out.splitlines()[0].endswith("100 shares in 5 slices over 60 min, evenly")


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--instrument", "RELIANCE", "expected EXCHANGE:SYMBOL"),
        ("--instrument", "NSE:\udcff", "expected EXCHANGE:SYMBOL"),
        ("--side", "buy", "expected BUY or SELL"),
        ("--total", "4", "at least one share per slice: 5"),
        ("--total", "1000000001", "less than or equal to"),
        ("--splits", "101", "less than or equal to 100"),
        ("--duration", "0", "greater than or equal to 1"),
        ("--seed", "g" * 16, "expected 16 hex digits"),
        ("--seed", "28CE6F2410645D51", "expected 16 hex digits"),
    ],
)
def test_a_wrong_order_is_one_line_and_2(option: str, value: str, told: str) -> None:
    ended = run_pulse(*PREVIEW, option, value)
    assert (ended.exit_code, ended.out) == (2, "")
    assert told in ended.err
    assert option in ended.err
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("see `pulse preview --help`\n")


def test_it_needs_no_database_and_no_valid_settings() -> None:
    ended = run_pulse(*PREVIEW, database_url="postgresql://nobody@127.0.0.1:1/nowhere")
    assert (ended.exit_code, ended.err) == (0, "")
