"""What the tests of one module share: a database, a token issuer, and a Pulse process."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg import connect, sql
from psycopg.conninfo import make_conninfo

from tests.support.processes import PulseProcess, pulse, url_of
from tests.support.tokens import Signer, new_signer


@pytest.fixture(scope="module")
def module_database_url(postgres: str, template_database: str) -> Iterator[str]:
    """Its URL, as PULSE_DATABASE_URL takes it."""
    name = f"pulse_module_{uuid4().hex[:12]}"
    database, template = sql.Identifier(name), sql.Identifier(template_database)
    with connect(postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, template))
        yield url_of(make_conninfo(postgres, dbname=name))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


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
