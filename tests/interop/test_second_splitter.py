"""A second implementation of the splitter passes the conformance files, and agrees with ours.

It is in JavaScript, written from docs/reference/conformance/README.md alone.
"""

import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pulse.domain import SPLITTERS, Session, SplitTerms, split, splitter_version_for
from pulse.testing.comparing import generated_orders
from tests.conformance.files import contents_of, file_of
from tests.support.processes import ROOT

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js on this machine")

CHECK = ROOT / "tests" / "conformance" / "check_vectors.mjs"
EVERY_VERSION = pytest.mark.parametrize("splitter_version", SPLITTERS)


def node(*arguments: str | Path, lines: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["node", CHECK, *arguments],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@EVERY_VERSION
def test_the_second_implementation_passes_every_case(splitter_version: int) -> None:
    done = node(file_of(splitter_version))
    assert done.returncode == 0, done.stdout + done.stderr
    file = contents_of(splitter_version)
    counts = [f"{name} {len(file[name])}/{len(file[name])}" for name in list(file)[2:]]
    assert done.stdout.strip() == ", ".join(counts)


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
    whole = contents_of(1)
    first, *others = whole[part]
    altered = tmp_path / "altered.json"
    altered.write_text(json.dumps({**whole, part: [{**first, **change}, *others]}), "utf-8")
    done = node(altered)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{part}[0]: ")


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
