"""The documentation of the kit runs as it stands, in a stranger's project."""

import re
import subprocess
import sys
from pathlib import Path

import pulse

ROOT = Path(pulse.__file__).parent.parent
PAGE = (ROOT / "docs" / "how-to" / "test-against-the-splitting-rules.md").read_text(
    encoding="utf-8"
)
TESTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

MY_DESK = """
from dataclasses import dataclass
from datetime import datetime

@dataclass
class Line:
    no: int
    instrument: str
    shares: int
    due: datetime

def book(instrument, slices):
    lines = [Line(s.sequence_number, instrument, s.quantity, s.scheduled_at) for s in slices]
    return {kept}
"""


def run_tests(home: Path, kept: str) -> "subprocess.CompletedProcess[str]":
    """Run the page's tests in a project of their own, beside a desk that keeps these lines."""
    (home / "my_desk.py").write_text(MY_DESK.format(kept=kept), encoding="utf-8")
    for number, test in enumerate(TESTS):
        (home / f"test_{number}.py").write_text(test, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_test_of_the_page_passes_in_a_strangers_project(tmp_path: Path) -> None:
    assert len(TESTS) == 1
    done = run_tests(tmp_path, kept="lines")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_they_find_a_desk_that_loses_a_slice(tmp_path: Path) -> None:
    done = run_tests(tmp_path, kept="lines[:-1]")
    assert "ScheduleBroken" in done.stdout
    assert "1 failed" in done.stdout


def test_the_strangers_test_takes_no_more_than_ten_lines() -> None:
    assert len([line for line in TESTS[0].splitlines() if line.strip()]) <= 10
