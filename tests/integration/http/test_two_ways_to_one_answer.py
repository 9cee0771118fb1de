"""An order is posted and read before the framework; another spelling of the path reaches it."""

from uuid import uuid4

import httpx
import pytest

from tests.support.orders import ORDERS, order, placed
from tests.support.waiting import until

OTHER_SPELLING = f"{ORDERS}/"
JSON = {"content-type": "application/json"}


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
async def test_both_refuse_alike(
    shared_api: httpx.AsyncClient, content: bytes, headers: dict[str, str]
) -> None:
    direct, framed = [
        await shared_api.post(path, content=content, headers=headers)
        for path in (ORDERS, OTHER_SPELLING)
    ]
    assert 400 <= direct.status_code < 500
    assert (direct.status_code, direct.content) == (framed.status_code, framed.content)
    assert of_answer(direct) == of_answer(framed)


async def test_both_place_one_and_the_same_order(shared_api: httpx.AsyncClient) -> None:
    for first, second in ((ORDERS, OTHER_SPELLING), (OTHER_SPELLING, ORDERS)):
        request = order()
        posted = await shared_api.post(first, json=request)
        again = await shared_api.post(second, json=request)
        assert (posted.status_code, again.status_code) == (201, 200)
        assert posted.content == again.content
        assert of_answer(posted) == of_answer(again)


async def test_both_read_one_and_the_same_order(shared_api: httpx.AsyncClient) -> None:
    order_id = await placed(shared_api)

    async def is_completed() -> bool:
        answer = await shared_api.get(f"{ORDERS}/{order_id}")
        return bool(answer.json()["order_queue_status"] == "COMPLETED")

    await until(is_completed, "nothing changes any more")
    for known in (order_id, order_id.upper(), str(uuid4()), "0" * 36, "-" * 36):
        direct, framed = [await shared_api.get(f"{ORDERS}/{known}{end}") for end in ("", "/")]
        assert direct.status_code == (200 if known.lower() == order_id else 404)
        assert (direct.status_code, direct.content) == (framed.status_code, framed.content)
        assert of_answer(direct) == of_answer(framed)


def of_answer(response: httpx.Response) -> dict[str, str]:
    """Its headers but those that are another request's."""
    own = ("x-trace", "x-request", "date")
    return {name: value for name, value in response.headers.items() if not name.startswith(own)}
