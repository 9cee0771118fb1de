"""What the tests of one module share: a database, a token issuer, and a Pulse process."""

from collections.abc import Iterator

import pytest

from tests.support.database import cloned_database
from tests.support.processes import PulseProcess, pulse, url_of
from tests.support.tokens import Signer, new_signer


@pytest.fixture(scope="module")
def module_database_url(postgres: str, template_database: str) -> Iterator[str]:
    """Its URL, as PULSE_DATABASE_URL takes it."""
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
