"""Binds the identity of a request to its log lines."""

import re
from typing import Final

from structlog.contextvars import bind_contextvars

from pulse.domain import Trace

_MOST_CHARACTERS: Final = 256
_INVISIBLE: Final = re.compile(r"[^!-~]")


def bind_request(trace: Trace, method: str, raw_path: bytes) -> None:
    """Let the log lines of the current task carry the ids, method and path of this request.

    The path is the whole one, with the prefix of a mount, without the query, and cut off after 256
    characters.
    """
    bind_contextvars(
        trace_id=trace.trace_id,
        request_id=trace.request_id,
        method=method,
        path=_INVISIBLE.sub("?", raw_path[:_MOST_CHARACTERS].decode("latin-1")),
    )
