"""What tests share: a Postgres of their own, databases, and a Pulse process for a module."""

import fcntl
import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
from psycopg.conninfo import conninfo_to_dict

from pulse.postgres import Database
from pulse.postgres.embedded import EmbeddedServer
from tests.support.database import (
    as_runtime,
    cloned_database,
    close_kept,
    migrate_with_roles,
    temporary_database,
)
from tests.support.processes import PulseProcess, pulse, url_of
from tests.support.tokens import Signer, new_signer

gc.disable()  # until all tests are collected: their modules live as long as the process

# A shell starts its background jobs with SIGINT ignored, and nohup starts its command with SIGHUP
# ignored. Tested processes would inherit the ignored signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# By default Hypothesis limits the time of examples, which a busy machine exceeds.
hypothesis.settings.register_profile(
    "pulse",
    hypothesis.settings(),
    max_examples=50,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("pulse"), max_examples=1000
)
hypothesis.settings.load_profile("pulse")

# Rich tracebacks, structlog's default, take a tenth of a second each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

_FAST_NOT_DURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "128MB",
    "shared_buffers": "64MB",
}
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the directory in it has a random name
_MIN_MEMORY_BYTES = 2 * 1024**3


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude imported modules and collected tests from garbage collection."""
    result = yield
    gc.freeze()
    gc.enable()
    return result


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
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server: PULSE_TEST_DATABASE_URL's, or an embedded one that ends with the session."""
    url = os.environ.get("PULSE_TEST_DATABASE_URL")
    if url:
        yield url
        close_kept()
        return
    made_data_dir: Path = request.getfixturevalue("made_data_dir")
    with tempfile.TemporaryDirectory(prefix="pulse-tests-", dir=_memory()) as home:
        data_dir = copied(made_data_dir, Path(home))
        with EmbeddedServer.acquire(data_dir, options=_FAST_NOT_DURABLE) as server:
            yield server.conninfo
            close_kept()


def _memory() -> Path | None:
    """The file system in memory, where databases are made and dropped twice as fast; or None."""
    if not _SHARED_MEMORY.is_dir():
        return None
    found = os.statvfs(_SHARED_MEMORY)
    runs_programs = not found.f_flag & os.ST_NOEXEC  # the server may copy its programs
    has_space = found.f_bavail * found.f_frsize > _MIN_MEMORY_BYTES
    return _SHARED_MEMORY if runs_programs and has_space else None


@pytest.fixture(scope="session")
def made_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a migrated cluster, for copies; no server runs on it.

    The first worker makes it and the others wait: initdb takes a second of CPU time.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (base / "made.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "made").exists():
            being_made = base / "being-made"
            with EmbeddedServer.acquire(being_made, options=_FAST_NOT_DURABLE) as server:
                migrate_with_roles(server.conninfo)
            shutil.rmtree(being_made / "postgres" / "cluster" / "log")
            being_made.rename(base / "made")
    return base / "made"


@pytest.fixture
def data_dir(made_data_dir: Path) -> Iterator[Path]:
    """A data directory of the test's own, with a migrated cluster."""
    with tempfile.TemporaryDirectory(prefix="pulse-tests-", dir=_memory()) as home:
        yield copied(made_data_dir, Path(home))


def copied(data_dir: Path, home: Path) -> Path:
    """Copy the data directory to `home`, with the same owners; returns the copy."""
    subprocess.run(["cp", "-a", data_dir, home / "data"], check=True)
    return home / "data"


@pytest.fixture(scope="session")
def template_database(postgres: str) -> Iterator[str]:
    """The name of a migrated database for clones."""
    with temporary_database(postgres) as conninfo:
        migrate_with_roles(conninfo)
        yield str(conninfo_to_dict(conninfo)["dbname"])


@pytest.fixture
def conninfo(postgres: str, template_database: str) -> Iterator[str]:
    """A migrated database of the test's own, with roles. This is the superuser's conninfo."""
    with cloned_database(postgres, template_database) as conninfo:
        yield conninfo


@pytest.fixture
def empty_conninfo(postgres: str) -> Iterator[str]:
    """A database without a schema."""
    with temporary_database(postgres) as conninfo:
        yield conninfo


@pytest.fixture
async def database(conninfo: str) -> AsyncIterator[Database]:
    """A pool on the test's own database, as the role that processes use."""
    database = Database(as_runtime(conninfo), pool_size=5)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(scope="module")
def module_database_url(postgres: str, template_database: str) -> Iterator[str]:
    """The URL of a migrated database of the module, as PULSE_DATABASE_URL takes it."""
    with cloned_database(postgres, template_database) as conninfo:
        yield url_of(conninfo)


@pytest.fixture(scope="module")
def signer() -> Signer:
    """The token issuer that `served` trusts."""
    return new_signer("HS256")


@pytest.fixture(scope="module")
def served(
    module_database_url: str, signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    """A Pulse process without service tokens and without a rate limit of the gateway."""
    with pulse(
        tmp_path_factory.mktemp("served"),
        database_url=module_database_url,
        rate_limit_per_second=0,
        **signer.process_settings,
    ) as process:
        yield process
