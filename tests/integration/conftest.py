"""An event store and a proxy on the test's database."""

from collections.abc import AsyncIterator

import pytest

from pulse.eventstore import EventStore
from pulse.postgres import Database
from tests.support.log import running_store
from tests.support.proxy import PostgresProxy, proxied


@pytest.fixture
async def store(database: Database) -> AsyncIterator[EventStore]:
    """A running event store."""
    async with running_store(database) as store:
        yield store


@pytest.fixture
async def proxy(conninfo: str) -> AsyncIterator[PostgresProxy]:
    """A proxy to the database that can inject faults."""
    async with proxied(conninfo) as proxy:
        yield proxy
