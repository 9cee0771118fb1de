"""Handles standard streams that are closed, cannot be written, or are not buffered."""

import io
import os
import sys
from typing import Any, TextIO


def open_standard_streams() -> None:
    """Open closed standard streams, and buffer unbuffered ones by lines.

    Streams that were closed when this process started are opened on /dev/null. Otherwise the next
    file or socket would get their file descriptor, and receive what a library or a child process
    writes to it.

    PYTHONUNBUFFERED makes streams unbuffered. An unbuffered text stream calls write(2) once and
    ignores how much was written. If a signal interrupts that call while a pipe is full, the rest
    of the text is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = os.fdopen(os.dup(number), "w", encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, stream)
        elif stream is getattr(sys, f"__{name}__") and _is_unbuffered(stream):
            setattr(sys, name, _line_buffered(stream))


def flush_or_discard(stream: TextIO | None) -> None:
    """Flush a standard stream. If it cannot be written, redirect it to /dev/null.

    So neither later writes nor the interpreter's flush at exit raise again.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        if isinstance(stream, io.TextIOWrapper):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _is_unbuffered(stream: TextIO) -> bool:
    return isinstance(getattr(stream, "buffer", None), io.RawIOBase)


def _line_buffered(stream: Any) -> TextIO:  # noqa: ANN401 - the types assume a buffered stream
    return open(
        stream.fileno(),
        "w",
        buffering=1,
        encoding=stream.encoding,
        errors=stream.errors,
        closefd=False,
    )
