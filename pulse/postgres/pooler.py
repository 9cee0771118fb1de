"""Connection poolers: a probe by a second connection, and the options that they drop."""

import contextlib
import re
import selectors
import time
from itertools import pairwise
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn

from pulse.postgres.sql import load_sql

_ANSWER_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 2
_SELECT_BACKEND_PID: Final = load_sql(__package__, "select_backend_pid").encode()
_WORD: Final = re.compile(r"(?:\\.|[^\\\s])+")


class AnotherConnection:
    """A second connection to the pooler of a first one, to compare their server processes. Blocks.

    The pooler may have no server connection left for it, so each query has a time limit.
    """

    def __init__(self, conninfo: str, first: psycopg.ConnectionInfo) -> None:
        self._conninfo = make_conninfo(
            conninfo,
            host=first.host or None,
            hostaddr=first.hostaddr or None,
            port=first.port,
            client_encoding="UTF8",
            application_name="pulse:probe",
            connect_timeout=_CONNECT_SECONDS,
        )
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def connect(self) -> None:
        """Connect.

        Raises:
            psycopg.OperationalError: the pooler refuses it.
        """
        self._connection = psycopg.connect(self._conninfo, autocommit=True)

    def backend_pid(self) -> int | None:
        """The server process that answers it; None if none does within a second."""
        if self._connection is None:
            return None
        pgconn = self._connection.pgconn
        pgconn.send_query(_SELECT_BACKEND_PID)
        if not _is_answered(pgconn, time.monotonic() + _ANSWER_SECONDS):
            return None
        pid = None
        while (result := pgconn.get_result()) is not None:
            value = result.get_value(0, 0) if result.ntuples else None
            pid = int(value) if value is not None else pid
        return pid

    def close(self) -> None:
        """Close it; harmless when it was never connected."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()


def settings_of_options(options: str) -> dict[str, str]:
    """The settings in libpq's `options`, by name: `-c name=value`, `-cname=value`, `--name=value`.

    A pooler that is configured to ignore `options` drops them; statements set them all the same.
    """
    words = [re.sub(r"\\(.)", r"\1", word) for word in _WORD.findall(options)]
    assignments = []
    for word, following in pairwise([*words, ""]):
        if word == "-c":
            assignments.append(following)
        elif word.startswith("-c"):
            assignments.append(word.removeprefix("-c"))
        elif word.startswith("--"):
            assignments.append(word.removeprefix("--"))
    pairs = (assignment.partition("=") for assignment in assignments)
    return {name.replace("-", "_").lower(): value for name, sign, value in pairs if sign}


def _is_answered(pgconn: PGconn, deadline: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ)
        while pgconn.is_busy():
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
            pgconn.consume_input()
    return True
