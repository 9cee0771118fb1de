"""A database that the processes of one test module share."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg import connect, sql
from psycopg.conninfo import make_conninfo

from tests.support.processes import url_of


@pytest.fixture(scope="module")
def module_database_url(postgres: str, template_database: str) -> Iterator[str]:
    """Its URL, as PULSE_DATABASE_URL takes it."""
    name = f"pulse_module_{uuid4().hex[:12]}"
    database, template = sql.Identifier(name), sql.Identifier(template_database)
    with connect(postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, template))
        yield url_of(make_conninfo(postgres, dbname=name))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
