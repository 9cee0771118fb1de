"""A POST of one order is answered before the framework; another spelling of its path reaches it."""

import httpx
import pytest

from tests.support.orders import ORDERS, order

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
        placed = await shared_api.post(first, json=request)
        again = await shared_api.post(second, json=request)
        assert (placed.status_code, again.status_code) == (201, 200)
        assert placed.content == again.content
        assert of_answer(placed) == of_answer(again)


def of_answer(response: httpx.Response) -> dict[str, str]:
    """Its headers but those that are another request's."""
    own = ("x-trace", "x-request", "date")
    return {name: value for name, value in response.headers.items() if not name.startswith(own)}
