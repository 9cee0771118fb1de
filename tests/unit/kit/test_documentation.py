"""The example in the kit's documentation runs unchanged in another project."""

import os
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


def test_the_documented_test_passes_in_another_project_and_finds_a_lost_slice(
    tmp_path: Path,
) -> None:
    (test,) = TESTS
    (tmp_path / "test_my_desk.py").write_text(test, encoding="utf-8")
    (tmp_path / "my_desk.py").write_text(MY_DESK.format(kept="lines"), encoding="utf-8")
    losing = test.replace("my_desk", "losing_desk")
    (tmp_path / "test_losing_desk.py").write_text(losing, encoding="utf-8")
    (tmp_path / "losing_desk.py").write_text(MY_DESK.format(kept="lines[:-1]"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # to load them takes seconds
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "FAILED test_losing_desk.py" in done.stdout
    assert "ScheduleBroken" in done.stdout


def test_the_documented_test_has_at_most_ten_lines() -> None:
    assert len([line for line in TESTS[0].splitlines() if line.strip()]) <= 10
