"""What tests share: a Postgres of their own, and a database of its own for each test."""

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pulse.postgres import Database
from pulse.postgres.embedded import EmbeddedServer
from tests.support.database import migrate

# A shell starts its background jobs with SIGINT ignored, and nohup starts its command with SIGHUP
# ignored. The processes whose stop on these signals is tested would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Rich tracebacks, structlog's default, take a tenth of a second each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

_FAST_AND_FORGETFUL = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a server that is not the embedded one, run the tests that use it and no others."""
    if not os.environ.get("PULSE_TEST_DATABASE_URL"):
        return
    on_server = {item: "postgres" in getattr(item, "fixturenames", ()) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if not on_server[item]])
    items[:] = [item for item in items if on_server[item]]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server: PULSE_TEST_DATABASE_URL's, or an embedded one that ends with the session."""
    url = os.environ.get("PULSE_TEST_DATABASE_URL")
    if url:
        yield url
        return
    data_dir = tmp_path_factory.mktemp("postgres")
    with EmbeddedServer.acquire(data_dir, options=_FAST_AND_FORGETFUL) as server:
        yield server.conninfo


@pytest.fixture(scope="session")
def made_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a migrated cluster, which `data_dir` copies; no server runs on it."""
    made = tmp_path_factory.mktemp("made") / "data"
    with EmbeddedServer.acquire(made, options=_FAST_AND_FORGETFUL) as server:
        migrate(server.conninfo)
    shutil.rmtree(made / "postgres" / "cluster" / "log")
    return made


@pytest.fixture
def data_dir(made_data_dir: Path, tmp_path: Path) -> Path:
    """A data directory of the test's own, with a migrated cluster: copied, which initdb is not."""
    copy = tmp_path / "data"
    subprocess.run(["cp", "-a", made_data_dir, copy], check=True)  # it keeps the owners
    return copy


@pytest.fixture(scope="session")
def template_database(postgres: str) -> Iterator[str]:
    """A migrated database that each test's own is cloned from."""
    name = f"pulse_template_{uuid4().hex[:12]}"
    _administer(postgres, "CREATE DATABASE {}", name)
    migrate(make_conninfo(postgres, dbname=name))
    yield name
    _administer(postgres, "DROP DATABASE {} WITH (FORCE)", name)


_numbers = count(1)


@pytest.fixture
def conninfo(postgres: str, template_database: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"{template_database}_{next(_numbers)}"
    _administer(postgres, "CREATE DATABASE {} TEMPLATE {}", name, template_database)
    yield make_conninfo(postgres, dbname=name)
    _administer(postgres, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def empty_conninfo(postgres: str) -> Iterator[str]:
    """A database without a schema."""
    name = f"pulse_empty_{uuid4().hex[:12]}"
    _administer(postgres, "CREATE DATABASE {}", name)
    yield make_conninfo(postgres, dbname=name)
    _administer(postgres, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
async def database(conninfo: str) -> AsyncIterator[Database]:
    """A pool on the test's own database."""
    database = Database(conninfo, pool_size=5)
    await database.open()
    yield database
    await database.close()


def _administer(conninfo: str, statement: str, *names: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
