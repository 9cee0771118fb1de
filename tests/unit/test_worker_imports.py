"""A process with workers alone imports no web framework: a third of its start, 14 MiB of memory."""

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

FRAMEWORKS = ("litestar", "uvicorn")


@pytest.mark.parametrize(
    "module", ["pulse.background", "pulse.cli.background", "pulse.process.group.__main__"]
)
def test_a_process_with_workers_alone_imports_no_web_framework(module: str) -> None:
    script = f"import sys, {module}; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
