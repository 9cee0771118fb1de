"""Lists that name a position, on an address of several servers, some of which lag behind."""

from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from typing import TypeVar

import psycopg
import pytest

from pulse.application.list_reads import ListReads, PositionNotReached
from pulse.postgres import Connection, Database
from pulse.projections.position import PROJECTION_NAME, read_position
from tests.support.database import as_superuser, cloned_database

T = TypeVar("T")
POSITION = 5


class TwoServers(Database):
    """Two servers behind one address: reads alternate between them."""

    def __init__(self, first: Database, second: Database) -> None:
        super().__init__(first.conninfo, pool_size=1)
        self._next = cycle((first, second))

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        return await next(self._next).read(query)


@pytest.fixture
def ahead(postgres: str, template_database: str) -> Iterator[str]:
    """A database whose queue reflects POSITION."""
    with cloned_database(postgres, template_database) as conninfo:
        with psycopg.connect(as_superuser(conninfo), autocommit=True) as connection:
            connection.execute("DELETE FROM notification_tracking")
            connection.execute(
                "INSERT INTO notification_tracking (application_name, notification_id)"
                " VALUES (%s, %s)",
                (PROJECTION_NAME, POSITION),
            )
        yield conninfo


async def test_a_list_is_refused_although_the_poll_reads_a_server_that_has_the_position(
    database: Database, ahead: str
) -> None:
    newer = Database(ahead, pool_size=1)
    await newer.open()

    async def end() -> int:
        return POSITION

    lists = ListReads(TwoServers(database, newer), end)
    with pytest.raises(PositionNotReached):
        await lists.not_older_than(POSITION).read(read_position)
    await newer.close()
