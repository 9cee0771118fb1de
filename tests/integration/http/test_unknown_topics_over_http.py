"""A topic of newer code in the log: the process serves, and readiness names the topic."""

from datetime import UTC, datetime, timedelta

import httpx
from eventsourcing.persistence import StoredEvent

from tests.support.cli import write
from tests.support.events import order_created
from tests.support.orders import ORDERS, fault, placed
from tests.support.waiting import until

NEWER_TOPIC = "pulse.domain:OrderAmended"
READY = "/pulse/health/ready"


async def test_readiness_names_the_topic_and_the_process_keeps_serving(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    order_id = await placed(api)
    stream_of_newer_code = order_created("of tomorrow").originator_id
    minute_ago = datetime.now(UTC) - timedelta(minutes=1)
    write(
        conninfo, StoredEvent(stream_of_newer_code, 1, NEWER_TOPIC, b"{}"), recorded_at=minute_ago
    )

    async def is_named() -> bool:
        answer = await api.get(READY)
        return answer.status_code == 503 and NEWER_TOPIC in answer.text

    await until(is_named, "readiness names the topic")
    checks = fault(await api.get(READY), 503, "UNAVAILABLE")["checks"]
    assert "newer code" in checks["projection"]
    assert await placed(api)
    assert (await api.get(f"{ORDERS}/{order_id}")).status_code == 200
    fault(await api.get(f"{ORDERS}/{stream_of_newer_code}"), 503, "UNAVAILABLE")
    page = (await api.get("/pulse/internal/events")).json()["events"]
    assert "OrderAmended" in [event["type"] for event in page]
