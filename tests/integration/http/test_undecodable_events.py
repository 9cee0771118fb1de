"""Whatever an event holds, the page of the log and the history that it is in can be read."""

from typing import Any

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from tests.support.events import MAPPER, order_created, stored
from tests.support.log import write


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
async def test_whatever_an_event_holds_the_log_and_the_history_can_be_read(
    api: httpx.AsyncClient, conninfo: str, state: Any, topic: str
) -> None:
    (created,) = stored([order_created("sound")])
    bad = order_created("poisoned").originator_id
    write(conninfo, StoredEvent(bad, 1, topic, state), created)

    page = await api.get("/pulse/internal/events?limit=2")
    assert page.status_code == 200
    assert [event["position"] for event in page.json()["events"]] == [1, 2]
    history = await api.get(f"/pulse/internal/orders/{bad}/events")
    assert history.status_code == 200
    assert MAPPER.owns(topic) == (history.json()["events"][0]["type"] == "OrderCreated")
