"""The conformance file is what the code writes, and a second implementation agrees with it.

The second one is in JavaScript, written from docs/reference/conformance/README.md alone.
"""

import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pulse
from pulse.domain import (
    SCHEDULE_RULES,
    SPLITTERS,
    Session,
    SplitTerms,
    split,
    splitter_version_for,
)
from pulse.testing.comparing import generated_orders
from tests.conformance.vectors import vectors

ROOT = Path(pulse.__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "conformance" / "README.md"
CHECK = Path(__file__).parents[2] / "conformance" / "check_vectors.mjs"
NODE = shutil.which("node")

needs_node = pytest.mark.skipif(NODE is None, reason="no Node.js here")


def file_of(splitter_version: int) -> Path:
    return ROOT / "docs" / "reference" / "conformance" / f"splitting-v{splitter_version}.json"


FILES: dict[int, dict[str, Any]] = {
    version: json.loads(file_of(version).read_text(encoding="utf-8")) for version in SPLITTERS
}
FILE = FILES[1]
EVERY_VERSION = pytest.mark.parametrize("splitter_version", SPLITTERS)


@EVERY_VERSION
def test_writing_the_file_again_changes_nothing(splitter_version: int) -> None:
    lines = "".join(f"{line}\n" for line in vectors(splitter_version))
    assert lines == file_of(splitter_version).read_text(encoding="utf-8")


@EVERY_VERSION
def test_there_are_more_than_five_hundred_schedules_all_different(
    splitter_version: int,
) -> None:
    schedules = FILES[splitter_version]["schedules"]
    assert len(schedules) >= 500
    assert len({json.dumps(case) for case in schedules}) == len(schedules)
    assert all(("sessions" in case) == (splitter_version == 2) for case in schedules)


def test_every_rule_is_broken_alone_or_with_as_few_others_as_possible() -> None:
    """A time outside the window and a time not increasing always break another rule too."""
    cases = [case for file in FILES.values() for case in file["broken_schedules"]]
    alone = {tuple(case["broken_rules"]) for case in cases}
    for rule in SCHEDULE_RULES:
        most = 2 if rule.__name__ == "times_increase_in_window" else 1
        assert any(rule.__name__ in broken and len(broken) <= most for broken in alone), rule
    assert () in alone


def test_every_code_of_a_refusal_occurs_and_so_do_accepted_orders() -> None:
    assert {case["code"] for case in FILE["invalid_orders"]} == {
        "INVALID_REQUEST",
        "INVALID_INSTRUMENT",
        "INVALID_QUANTITY",
        "INVALID_SPLIT_CONFIG",
    }
    assert len(FILE["accepted_orders"]) >= 15


def test_the_page_lists_every_rule_in_order() -> None:
    page = PAGE.read_text(encoding="utf-8")
    places = [page.index(f"| `{rule.__name__}` |") for rule in SCHEDULE_RULES]
    assert places == sorted(places)


def node(*arguments: str | Path, lines: str = "") -> "subprocess.CompletedProcess[str]":
    assert NODE is not None
    return subprocess.run(
        [NODE, CHECK, *arguments],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@needs_node
@EVERY_VERSION
def test_the_second_implementation_passes_every_case(splitter_version: int) -> None:
    done = node(file_of(splitter_version))
    assert done.returncode == 0, done.stdout + done.stderr
    file = FILES[splitter_version]
    counts = [f"{name} {len(file[name])}/{len(file[name])}" for name in list(file)[2:]]
    assert done.stdout.strip() == ", ".join(counts)


@needs_node
@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("random", {"shuffled_0_to_9": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}),
        ("schedules", {"quantities": [2, 0]}),
        ("schedules", {"scheduled_at": []}),
        ("accepted_orders", {"randomize": None}),
        ("invalid_orders", {"code": "INVALID_SIDE"}),
        ("broken_schedules", {"broken_rules": ["slices_are_numbered"]}),
    ],
)
def test_the_second_implementation_finds_an_altered_case(
    tmp_path: Path, part: str, change: dict[str, Any]
) -> None:
    first, *others = FILE[part]
    altered = tmp_path / "altered.json"
    altered.write_text(json.dumps({**FILE, part: [{**first, **change}, *others]}), "utf-8")
    done = node(altered)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{part}[0]: ")


@needs_node
@pytest.mark.parametrize("with_sessions", [False, True], ids=["version 1", "version 2"])
def test_both_implementations_split_other_orders_alike(*, with_sessions: bool) -> None:
    orders = generated_orders(300)
    if with_sessions:
        orders = [msgspec.structs.replace(t, sessions=sessions_of(t)) for t in orders]
    lines = "\n".join(msgspec.json.encode(_as_in_the_file(terms)).decode() for terms in orders)
    done = node("--derive", lines=lines)
    assert done.returncode == 0, done.stderr
    for terms, line in zip(orders, done.stdout.splitlines(), strict=True):
        slices = split(terms, splitter_version_for(terms.sessions))
        assert json.loads(line) == {
            "quantities": [s.quantity for s in slices],
            "scheduled_at": [msgspec.to_builtins(s.scheduled_at) for s in slices],
        }


def _as_in_the_file(terms: SplitTerms) -> dict[str, Any]:
    sessions = [[session.opens_at, session.closes_at] for session in terms.sessions]
    return {**msgspec.structs.asdict(terms), "seed": f"{terms.seed:016x}", "sessions": sessions}


def sessions_of(terms: SplitTerms) -> tuple[Session, ...]:
    """A third of the window on each of three days, and a second more on the last."""
    third = timedelta(microseconds=terms.duration_microseconds // 3)
    opens = [terms.starts_at + timedelta(days=day) for day in range(3)]
    lengths = (third, third, third + timedelta(seconds=1))
    return tuple(
        Session(opens_at=at, closes_at=at + length)
        for at, length in zip(opens, lengths, strict=True)
    )
