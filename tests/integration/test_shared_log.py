"""Several processes that share stderr write whole lines, however long, also to a pipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import ROOT

PROCESSES, LINES, CHARACTERS = 3, 40, 30_000
WRITER = """
import sys
from pathlib import Path
import structlog
from pulse.logs import LogShare, configure_logs
name, lock, lines, characters = sys.argv[1:]
configure_logs("json", "info", LogShare(name, Path(lock)))
for number in range(int(lines)):
    structlog.get_logger("pulse.test").info("line", number=number, text=name * int(characters))
"""


def test_no_line_is_mixed_with_one_of_another_process(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    numbers = [str(number) for number in range(PROCESSES)]
    arguments = [str(tmp_path / "lock"), str(LINES), str(CHARACTERS)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, *arguments], cwd=ROOT, stderr=writing)
        for name in numbers
    ]
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        lines = [json.loads(line) for line in pipe]
    assert [writer.wait(60) for writer in writers] == [0] * PROCESSES
    for name in numbers:
        own = [line for line in lines if line["process"] == name]
        assert [line["number"] for line in own] == list(range(LINES))
        assert all(line["text"] == name * CHARACTERS for line in own)
