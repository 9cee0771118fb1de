"""Handles standard streams that are closed or cannot be written."""

import os
import sys
from io import TextIOWrapper
from typing import TextIO


def open_standard_streams() -> None:
    """Open standard streams that were closed when this process started, on /dev/null.

    Otherwise the next file or socket would get their file descriptor, and receive what a library
    or a child process writes to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            stream = os.fdopen(os.dup(number), "w", encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, stream)


def flush_or_discard(stream: TextIO | None) -> None:
    """Flush a standard stream; redirect one that cannot be written to /dev/null.

    So neither later writes nor the interpreter's flush at exit raise again.
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
