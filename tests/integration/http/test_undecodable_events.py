"""Any event, even an undecodable one, can be listed and read in its history."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.settings import Settings
from tests.support.api import serving
from tests.support.database import cloned_database, connect
from tests.support.events import MAPPER, order_created, stored
from tests.support.log import write


@pytest.fixture(scope="module")
def module_conninfo(postgres: str, template_database: str) -> Iterator[str]:
    with cloned_database(postgres, template_database) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
async def module_api(module_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Settings(database_url=module_conninfo)) as client:
        yield client


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    "state",
    [
        *map(nested, (850, 900, 950, 990)),
        b'{"timestamp":{"a":1}}',
        b'{"timestamp":7}',
        b'{"a":123456789012345678901234567890}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b"\xff",
        b"[]",
        b"",
        None,
    ],
)
@pytest.mark.parametrize("topic", ["pulse.domain:OrderCreated", "elsewhere:Thing"])
async def test_the_log_and_the_history_can_be_read_whatever_an_event_contains(
    module_api: httpx.AsyncClient, module_conninfo: str, state: Any, topic: str
) -> None:
    (created,) = stored([order_created(f"sound {uuid4()}")])
    bad = uuid4()
    write(module_conninfo, StoredEvent(bad, 1, topic, state), created)
    with connect(module_conninfo) as connection:
        row = connection.execute("SELECT max(notification_id) FROM stored_events").fetchone()
    assert row is not None

    page = await module_api.get(f"/pulse/internal/events?limit=2&after={row[0] - 2}")
    assert page.status_code == 200
    assert [event["order_id"] for event in page.json()["events"]] == [
        str(bad),
        str(created.originator_id),
    ]
    history = await module_api.get(f"/pulse/internal/orders/{bad}/events")
    assert history.status_code == 200
    assert MAPPER.owns(topic) == (history.json()["events"][0]["type"] == "OrderCreated")
