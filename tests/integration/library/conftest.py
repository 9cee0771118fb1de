"""Factories on the test's own database, each closed with it."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from eventsourcing.utils import Environment

from pulse.eventstore import Factory
from tests.integration.library.stock import environment

MakeFactory = Callable[..., Factory]


@pytest.fixture
def make_factory(conninfo: str) -> Iterator[MakeFactory]:
    """Makes a factory for an application of that name, its environment changed as given."""
    made: list[Factory] = []

    def make(name: str = "stored", kind: type[Factory] = Factory, **changes: str) -> Factory:
        made.append(kind(Environment(name, environment(conninfo, **changes))))
        return made[-1]

    yield make
    for factory in made:
        factory.close()


@pytest.fixture
def connection(conninfo: str) -> Iterator[psycopg.Connection]:
    """A connection past everything."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection
