"""The API in this process, with its workers: shared, or one for each test.

Slices of orders that are placed here are not released, so an order does not change any more once it
is split. Slices of orders that a test writes into the log are released.
"""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.support.api import api_settings, serving
from tests.support.database import cloned_database
from tests.support.gateway import WAYS, Served, served
from tests.support.tokens import signer_of


@pytest.fixture(scope="session")
def shared_conninfo(postgres: str, template_database: str) -> Iterator[str]:
    """A migrated database that tests can share, since every order has a unique key.

    A test that sets a halt needs a database of its own.
    """
    with cloned_database(postgres, template_database) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")  # its event loop does not run between modules
async def shared_api(shared_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(api_settings(shared_conninfo, release_slices=False)) as client:
        yield client


@pytest.fixture
async def api(conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    """Orders placed through it are not released, and no slice that a test writes expires."""
    settings = api_settings(conninfo, release_slices=False, max_release_delay_seconds=86_400)
    async with serving(settings) as client:
        yield client


@pytest.fixture(scope="module", params=WAYS)
async def apps(request: pytest.FixtureRequest, shared_conninfo: str) -> AsyncIterator[Served]:
    """The gateway and the internal API: in one process, and as separate apps."""
    async with served(request.param, shared_conninfo, signer_of("HS256")) as found:
        yield found
