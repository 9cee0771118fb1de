"""`pulse splitter`: pictures, the list of rules, and comparisons with another splitter."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pulse.domain import SCHEDULE_RULES, SplitTerms, rule_sentence, split_v1
from pulse.testing import SPLITTER_LAWS, comparing
from tests.support.cli import projected, run_pulse, write
from tests.support.events import foreign_event, order_created, slices_scheduled, stored
from tests.support.processes import ROOT

SHOW = ("splitter", "show", "--total", "1000", "--splits", "20", "--duration", "60")
COMPARE = ("splitter", "compare")
TERMS = SplitTerms(
    total_quantity=1000,
    num_splits=20,
    duration_minutes=60,
    randomize=True,
    seed=7,
    starts_at=datetime(2026, 1, 1, tzinfo=UTC),
)


# The picture


def test_a_schedule_is_drawn_with_one_bar_per_slice_and_needs_no_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = run_pulse(*SHOW, "--seed", "7")
    assert (ended.exit_code, ended.err) == (0, "")
    first, even, *chart, last = ended.out.splitlines()
    assert first == "1,000 shares in 20 slices over 60 min, seed 0000000000000007"
    assert even == "the even split: 50 shares every 3 min 9 s"
    assert last == "  sum 1,000 of 1,000 shares; every rule of a schedule holds"
    assert sum(line.endswith("#") for line in chart) == 20
    assert max(map(len, chart)) <= 80


def test_the_same_seed_is_the_same_picture_and_a_drawn_one_is_named() -> None:
    drawn = run_pulse(*SHOW)
    seed = drawn.out.splitlines()[0].rpartition(" ")[2]
    assert run_pulse(*SHOW, "--seed", seed) == drawn
    assert run_pulse(*SHOW) != drawn


def test_a_schedule_without_randomisation_is_labelled_even() -> None:
    ended = run_pulse(*SHOW, "--even")
    assert ended.out.splitlines()[0] == "1,000 shares in 20 slices over 60 min, evenly"


def test_the_picture_is_an_image_with_every_slice_and_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"
    for path in (first, second):
        ended = run_pulse(*SHOW, "--seed", "7", "--svg", str(path))
        assert (ended.exit_code, ended.out) == (0, f"written to {path}\n")
    assert first.read_bytes() == second.read_bytes()
    root = ET.fromstring(first.read_bytes())  # noqa: S314 - written by this very test
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"even split", "slices", "allowed: 40 to 60", "shares"} <= texts


def test_an_image_that_cannot_be_written_is_one_error_line_and_exit_code_1(tmp_path: Path) -> None:
    ended = run_pulse(*SHOW, "--svg", str(tmp_path / "none" / "x.svg"))
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith("pulse: the picture cannot be written: ")


def test_the_slices_in_json_are_those_of_the_event() -> None:
    ended = run_pulse(*SHOW, "--seed", "7", "--json")
    answer = json.loads(ended.out)
    assert answer["seed"] == "0000000000000007"
    assert [s["quantity"] for s in answer["slices"]] == [s.quantity for s in split_v1(TERMS)]
    assert answer["slices"][0]["scheduled_at"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("missing", "module", "arguments"),
    [
        ("matplotlib", "matplotlib.figure", ("--svg", "x.svg")),
        ("matplotlib", "matplotlib.figure", ("--svg", "x.svg", "--json")),
    ],
)
def test_without_the_extra_nothing_is_printed_but_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    missing: str,
    module: str,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    ended = run_pulse(*SHOW, *arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err == (
        f"pulse: this command needs {missing}: install Pulse with its extra `charts`, "
        "in a clone with pip install '.[charts]'\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "-1"), "or a whole number from 0 to 18446744073709551615"),
        (("--seed", str(2**64)), "or a whole number from 0 to "),
        (("--seed", "1_0"), "expected 16 hex digits"),
        (("--seed", "seven"), "expected 16 hex digits"),
        (("--seed", "g" * 16), "expected 16 hex digits"),
        (("--total", "19"), "at least one share per slice: 20"),
        (("--splits", "101"), "not in the range 2<=x<=100"),
    ],
)
def test_invalid_terms_are_one_error_line_and_exit_code_2(
    arguments: tuple[str, ...], message: str
) -> None:
    ended = run_pulse(*SHOW, *arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1


# The list of rules


def test_every_rule_and_law_is_listed_with_its_sentence() -> None:
    ended = run_pulse("splitter", "rules")
    assert (ended.exit_code, ended.err) == (0, "")
    rules: tuple[Callable[..., object], ...] = (*SCHEDULE_RULES, *SPLITTER_LAWS)
    listed = [line.split(maxsplit=1) for line in ended.out.splitlines() if line.startswith("  ")]
    assert listed == [[rule.__name__, rule_sentence(rule)] for rule in rules]


def test_the_tables_of_the_documentation_have_every_rule() -> None:
    page = (ROOT / "docs" / "reference" / "splitting.md").read_text(encoding="utf-8")
    tables: dict[str, tuple[Callable[..., object], ...]] = {
        "rule of a schedule": SCHEDULE_RULES,
        "law over many seeds": SPLITTER_LAWS,
    }
    for heading, rules in tables.items():
        rows = [f"| `{rule.__name__}` | {rule_sentence(rule)} |" for rule in rules]
        assert "\n".join([f"| {heading} | holds when |", "|---|---|", *rows, ""]) in page


# Comparisons


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of 500 orders instead of 2,000, which still show the broken laws."""
    monkeypatch.setattr(comparing, "LAW_SEEDS", comparing.LAW_SEEDS[:500])


@pytest.mark.usefixtures("small_samples")
def test_the_worked_example_fails_and_its_smallest_order_is_drawn() -> None:
    ended = run_pulse(*COMPARE, "pulse.testing:last_takes_the_rest", "--orders", "100")
    assert ended.exit_code == 1
    lines = ended.out.splitlines()
    assert lines[0].startswith(
        "pulse.testing:last_takes_the_rest over 3,100 orders, compared with "
    )
    assert "  5 shares in 3 slices over 1 min, evenly, started at 2026-01-01T00:00:00Z" in lines
    assert "  quantities_stay_near_average: slice 3 has 3 shares, expected 1 to 2" in lines
    assert lines[-1].endswith("orders fail: 2 rules and 3 laws are broken. Nothing was written.")


@pytest.mark.usefixtures("small_samples")
def test_the_current_splitter_breaks_no_rule_or_law() -> None:
    ended = run_pulse(*COMPARE, "pulse.domain:split_v1", "--orders", "100")
    assert ended.exit_code == 0
    assert ended.out.startswith("pulse.domain:split_v1 over 3,100 orders")
    assert ended.out.endswith("and in the samples no position is favoured.\n")


@pytest.mark.usefixtures("small_samples")
def test_a_module_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_splits.py").write_text(
        "from pulse.domain import split_v1\ndef short(terms): return split_v1(terms)[1:]\n"
        "def broken(terms): raise LookupError('no \\x1b[31mred')\nnumber = 5\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    ended = run_pulse(*COMPARE, "my_splits:short", "--orders", "20", "--json")
    answer = json.loads(ended.out)
    assert ended.exit_code == 1
    assert (answer["orders"], answer["failed"]) == (26, 26)
    assert answer["broken"]["slices_are_numbered"] == 26
    assert answer["smallest"]["terms"]["total_quantity"] == 2
    raising = run_pulse(*COMPARE, "my_splits:broken", "--orders", "5")
    assert "candidate_answers_with_slices: it raised LookupError: no \\x1b[31mred" in raising.out
    assert run_pulse(*COMPARE, "my_splits:number").exit_code == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("split", "is not of the form MODULE:FUNCTION"),
        (":split", "is not of the form MODULE:FUNCTION"),
        ("no_such_module:split", "no module no_such_module in "),
        ("pulse.domain:no_such", "pulse.domain has no function no_such"),
        ("pulse.domain:MAX_SPLITS", "pulse.domain has no function MAX_SPLITS"),
    ],
)
def test_an_unknown_function_is_one_error_line_and_exit_code_2(name: str, message: str) -> None:
    ended = run_pulse(*COMPARE, name)
    assert (ended.exit_code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_stored_orders_are_tried_newest_first_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conninfo: str
) -> None:
    # It fails at the first order of each of the six samples, so that no law is sampled.
    (tmp_path / "of_no_slice.py").write_text("def split(terms): return ()\n")
    monkeypatch.syspath_prepend(tmp_path)
    compare = (*COMPARE, "of_no_slice:split", "--stored", "--json")
    orders = [order_created(f"ouk_{n}", total_quantity=10 + n) for n in range(450)]
    splits = [slices_scheduled(order) for order in orders[:10]]
    write(conninfo, *stored([*orders, *splits]), foreign_event())
    projected(conninfo)
    found = run_pulse(*compare, "--orders", "300", conninfo=conninfo)
    assert json.loads(found.out)["orders"] == 300 + 6
    everything = run_pulse(*compare, conninfo=conninfo)
    assert json.loads(everything.out)["orders"] == 450 + 6
    assert " 10 schedules of " in run_pulse("verify", conninfo=conninfo).out


def test_without_stored_orders_there_is_nothing_to_try(conninfo: str) -> None:
    ended = run_pulse(*COMPARE, "pulse.domain:split_v1", "--stored", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "there are no stored orders to test it with" in ended.err


def test_a_closed_pipe_ends_silently_with_141() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "pulse.cli", *SHOW, "--even"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (141, b"")


SESSIONS = (
    "--start-at", "2026-03-02T15:00:00+05:30",
    "--session", "2026-03-02T09:15:00+05:30/2026-03-02T15:30:00+05:30",
    "--session", "2026-03-03T03:45:00Z/2026-03-03T10:00:00Z",
)  # fmt: skip


def test_with_sessions_the_schedule_is_in_trading_time() -> None:
    ended = run_pulse(*SHOW, "--even", *SESSIONS)
    assert (ended.exit_code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[1:4] == [
        "from 2026-03-02T09:30:00.000000Z to 2026-03-03T04:15:00.000000Z",
        "in the session from 2026-03-02T03:45:00.000000Z to 2026-03-02T10:00:00.000000Z",
        "in the session from 2026-03-03T03:45:00.000000Z to 2026-03-03T10:00:00.000000Z",
    ]
    assert {"  2026-03-02", "  2026-03-03"} <= set(lines)
    assert lines[-1].endswith("every rule of a schedule holds")
    slices = json.loads(run_pulse(*SHOW, "--even", *SESSIONS, "--json").out)["slices"]
    assert slices[-1]["scheduled_at"] == "2026-03-03T04:15:00Z"


@pytest.mark.parametrize(
    ("arguments", "option", "message"),
    [
        (("--start-at", "2026-03-02T15:00:00"), "--start-at", "with its offset"),
        (("--session", "2026-03-02T03:45:00Z"), "--session", "with its offset"),
        (SESSIONS[2:4], "--session", "does not start in its first trading session"),
        ((*SESSIONS[:2], *SESSIONS[4:], *SESSIONS[2:4]), "--session", "are not in order"),
        (("--start-at", "2026-03-02T09:59:55Z", *SESSIONS[2:4]), "--session", "are too short"),
    ],
)
def test_wrong_sessions_are_wrong_usage(
    arguments: tuple[str, ...], option: str, message: str
) -> None:
    ended = run_pulse(*SHOW, *arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert message in ended.err
    assert option in ended.err
