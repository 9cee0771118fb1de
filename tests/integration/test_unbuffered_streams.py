"""PYTHONUNBUFFERED, as containers set it: a signal during a long write loses no part of it."""

import fcntl
import os
import signal
import subprocess
import sys
import termios

import pytest

from tests.support.processes import ROOT, until

CHARACTERS = 300_000  # more than a pipe holds, so that the write blocks
WRITER = f"""
import sys
from pulse.streams import open_standard_streams
open_standard_streams()
print("x" * {CHARACTERS}, file=sys.%s)
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_signal_during_a_write_to_a_full_pipe_loses_nothing(stream: str) -> None:
    reading, writing = os.pipe()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER % stream],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=writing if stream == "stdout" else None,
        stderr=writing if stream == "stderr" else None,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        until(lambda: readable_bytes(reading) >= os.fpathconf(reading, "PC_PIPE_BUF"), "it writes")
        writer.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(writer.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the write did not block"
        writer.send_signal(signal.SIGCONT)
        written = pipe.read()
    assert writer.wait(60) == 0
    assert written == b"x" * CHARACTERS + b"\n"


def readable_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
