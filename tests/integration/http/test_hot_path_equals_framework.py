"""Hot paths bypass Litestar; with another spelling of the path Litestar answers the same."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from tests.support.gateway import served
from tests.support.orders import JSON, ORDERS, order
from tests.support.tokens import bearer, signer_of
from tests.support.waiting import until


@dataclass(frozen=True)
class Endpoint:
    """Where orders are posted and read, and what an order is answered, first and again."""

    client: httpx.AsyncClient
    orders: str
    first: int
    again: int

    @property
    def spellings(self) -> tuple[str, str]:
        return self.orders, f"{self.orders}/"


@pytest.fixture(scope="module", params=["API", "gateway"])
async def endpoint(
    request: pytest.FixtureRequest, shared_conninfo: str, shared_api: httpx.AsyncClient
) -> AsyncIterator[Endpoint]:
    if request.param == "API":
        yield Endpoint(shared_api, ORDERS, first=201, again=200)
        return
    signer = signer_of("HS256")
    async with served("in one process", shared_conninfo, signer) as apps:
        apps.gateway.headers.update(bearer(signer.token(sub="alice")))
        yield Endpoint(apps.gateway, "/api/orders", first=202, again=202)


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", JSON),
        (b"[]", JSON),
        (b"{", JSON),
        (b'{"side":"BUY"}', JSON),
        (b"x" * 70_000, JSON),
        (b"{}", {"content-type": "text/plain"}),
        (b"{}", {}),
    ],
    ids=["empty", "array", "broken", "field missing", "too large", "not JSON", "untyped"],
)
async def test_both_ways_refuse_alike(
    endpoint: Endpoint, content: bytes, headers: dict[str, str]
) -> None:
    direct, framed = [
        await endpoint.client.post(path, content=content, headers=headers)
        for path in endpoint.spellings
    ]
    assert 400 <= direct.status_code < 500
    assert direct.status_code != 404
    assert (direct.status_code, direct.content) == (framed.status_code, framed.content)
    assert of_answer(direct) == of_answer(framed)


async def test_both_ways_place_the_same_order(endpoint: Endpoint) -> None:
    for first, second in (endpoint.spellings, reversed(endpoint.spellings)):
        request = order()
        posted = await endpoint.client.post(first, json=request)
        again = await endpoint.client.post(second, json=request)
        assert (posted.status_code, again.status_code) == (endpoint.first, endpoint.again)
        assert posted.content == again.content
        assert of_answer(posted) == of_answer(again)


async def test_both_ways_read_the_same_order(endpoint: Endpoint) -> None:
    posted = await endpoint.client.post(endpoint.orders, json=order())
    order_id = posted.json()["order_id"]

    async def is_completed() -> bool:
        answer = await endpoint.client.get(f"{endpoint.orders}/{order_id}")
        return bool(answer.json()["order_queue_status"] == "COMPLETED")

    await until(is_completed, "nothing changes any more")
    for known in (order_id, order_id.upper(), str(uuid4()), "0" * 36, "-" * 36):
        direct, framed = [
            await endpoint.client.get(f"{endpoint.orders}/{known}{end}") for end in ("", "/")
        ]
        assert direct.status_code == (200 if known.lower() == order_id else 404)
        assert (direct.status_code, direct.content) == (framed.status_code, framed.content)
        assert of_answer(direct) == of_answer(framed)


def of_answer(response: httpx.Response) -> dict[str, str]:
    """The headers of a response, except those that differ for every request."""
    own = ("x-trace", "x-request", "date")
    return {name: value for name, value in response.headers.items() if not name.startswith(own)}
