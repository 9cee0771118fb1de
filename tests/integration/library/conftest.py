"""Pulse's side on the test's own database, and a connection that bypasses it."""

from collections.abc import Iterator

import psycopg
import pytest

from pulse.postgres import Database
from tests.support.database import as_runtime
from tests.support.library_recorder import LibraryRecorder, library_recorder


@pytest.fixture
def pulse_recorder(conninfo: str) -> Iterator[LibraryRecorder]:
    """Pulse's event store, called as the library calls a recorder."""
    with library_recorder(Database(as_runtime(conninfo), pool_size=3)) as recorder:
        yield recorder


@pytest.fixture
def connection(conninfo: str) -> Iterator[psycopg.Connection]:
    """A connection that bypasses Pulse."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection
