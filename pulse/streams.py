"""Standard output and error that are closed or cannot be written: no traceback, no wrong file."""

import os
import sys
from io import TextIOWrapper
from typing import TextIO


def open_standard_streams() -> None:
    """Open standard streams that were closed when this process began, on /dev/null.

    Otherwise the next file or socket that is opened would take their number, and with it whatever
    a library or a child process writes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            stream = os.fdopen(os.dup(number), "w", encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, stream)


def drop_unwritten(stream: TextIO | None) -> None:
    """Flush a standard stream; redirect one that cannot be written to /dev/null.

    So neither a later write nor the interpreter's own flush at its end raises again.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        if isinstance(stream, TextIOWrapper):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
