"""What tests with other programs share."""

from collections.abc import Iterator

import pytest

from tests.support.processes import PulseProcess, pulse
from tests.support.tokens import SERVICE_TOKEN


@pytest.fixture(scope="module")
def guarded(
    served: PulseProcess, module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    """Pulse on the database of `served`, with SERVICE_TOKEN as the token of a service."""
    del served
    with pulse(
        tmp_path_factory.mktemp("guarded"),
        database_url=module_database_url,
        service_tokens=f"oms:{SERVICE_TOKEN}",
    ) as process:
        yield process
