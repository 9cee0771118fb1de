"""Invalid bodies: bad JSON, other encodings, duplicate names, too deep, too large."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.orders import BATCH, ORDERS, body, fault, new_key, order, post, split_config

DEEP = "[" * 15_000 + "]" * 15_000  # Python 3.13 decodes 10,000 levels
NOT_JSON = {
    "truncated": b'{"order_unique_key":"k"',
    "two values": body() + b"{}",
    "trailing comma": b'{"side":"BUY",}',
    "single quotes": b"{'side':'BUY'}",
    "comment": b"/* */" + body(),
    "not a number": body(total_quantity="NaN"),
    "infinity": body(total_quantity="Infinity"),
    "leading zero": body(total_quantity="0100"),
    "plus sign": body(total_quantity="+100"),
    "control character in a string": body(order_unique_key='"a\nb"'),
    "form": b"side=BUY",
    "nul": b"\x00",
    "byte order mark": b"\xef\xbb\xbf" + body(),
    "utf-16": body().decode().encode("utf-16"),
    "utf-32": body().decode().encode("utf-32-le"),
    "invalid utf-8": body().replace(b"RELIANCE", b"REL\xffIANCE"),
    "overlong utf-8": body().replace(b"RELIANCE", b"REL\xc0\xafIANCE"),
    "surrogate in utf-8": body().replace(b"RELIANCE", b"REL\xed\xa0\x80IANCE"),
    "lone high surrogate": body(order_unique_key='"\\ud800"'),
    "lone low surrogate": body(order_unique_key='"a\\udc00b"'),
    "surrogates in the wrong order": body(order_unique_key='"\\udc00\\ud800"'),
}
NOT_AN_OBJECT = {"null": b"null", "array": b"[]", "string": b'"x"', "number": b"1", "true": b"true"}
EMPTY = {"empty": b"", "blank": b" \r\n\t "}


@pytest.mark.parametrize("content", [*NOT_JSON.values(), *NOT_AN_OBJECT.values(), *EMPTY.values()])
async def test_a_body_that_is_not_a_json_object_is_refused(
    shared_api: httpx.AsyncClient, content: bytes
) -> None:
    fault(await post(shared_api, content), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "content", [b"{}", b"null", b'"x"', b"{", b"[", b"[1,]", b"\xff", b"", b" "]
)
async def test_a_batch_that_is_not_a_json_array_is_refused(
    shared_api: httpx.AsyncClient, content: bytes
) -> None:
    details = fault(await post(shared_api, content, BATCH), 400, "INVALID_REQUEST")
    assert details["expected"]


TOO_DEEP = {
    "body": (DEEP.encode(), "INVALID_REQUEST"),
    "objects": (b'{"side":' * 5000 + b"1" + b"}" * 5000, "INVALID_REQUEST"),
    "key": (body(order_unique_key=DEEP), "INVALID_REQUEST"),
    "quantity": (body(total_quantity=DEEP), "INVALID_QUANTITY"),
    "split_config": (body(split_config=DEEP), "INVALID_SPLIT_CONFIG"),
    "num_splits": (body(split_config=split_config(num_splits=DEEP)), "INVALID_SPLIT_CONFIG"),
    "unknown field": (body(price=DEEP), "INVALID_REQUEST"),
}


@pytest.mark.parametrize(("content", "code"), TOO_DEEP.values(), ids=TOO_DEEP)
async def test_an_order_nested_too_deep_is_refused_alone(
    shared_api: httpx.AsyncClient, content: bytes, code: str
) -> None:
    single = await post(shared_api, content)
    fault(single, 400, code)
    last = body(order_unique_key=f'"{new_key()}]["')
    batch = b" [ " + body() + b" , " + content + b" , " + last + b" ] "
    results = (await post(shared_api, batch, BATCH)).json()["results"]
    assert [result["status"] for result in results] == [201, 400, 201]
    assert results[1]["body"] == single.json()


async def test_a_batch_that_is_mostly_nesting_is_refused(
    shared_api: httpx.AsyncClient,
) -> None:
    content = f"[{','.join([DEEP] * 60)}]".encode()
    fault(await post(shared_api, content, BATCH), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("path", [ORDERS, BATCH])
async def test_nesting_that_is_never_closed_is_refused(
    shared_api: httpx.AsyncClient, path: str
) -> None:
    fault(await post(shared_api, b"[" * 60_000, path), 400, "INVALID_REQUEST")


async def test_nesting_within_the_limit_is_a_wrong_value_of_its_field(
    shared_api: httpx.AsyncClient,
) -> None:
    response = await post(shared_api, body(total_quantity="[" * 500 + "]" * 500))
    assert fault(response, 400, "INVALID_QUANTITY")["field"] == "total_quantity"


def with_member(member: str) -> bytes:
    """A valid order with one more member at its end."""
    return body()[:-1] + b"," + member.encode() + b"}"


DUPLICATES = {
    "total_quantity": [
        with_member('"total_quantity":2'),
        with_member('"total_quantity":100'),
        with_member('"\\u0074otal_quantity":100'),
        with_member('"total_quantit\\u0079" : 100'),
        body(total_quantity='1,"total_quantity":2,"total_quantity":3'),
    ],
    "order_unique_key": [with_member('"order_unique_key":"other"')],
    "side": [with_member('"side":"BUY"'), body(side='{"a":1,"a":2},"side":"BUY"')],
    "split_config": [
        with_member('"split_config":{"num_splits":5,"duration_minutes":60}'),
        with_member('"split_\\u0063onfig":{"num_splits":5,"duration_minutes":60}'),
        body(split_config='1,"split_config":{"num_splits":5,"duration_minutes":60}'),
    ],
    "split_config.num_splits": [
        body(split_config='{"num_splits":5,"num_splits":6,"duration_minutes":60}'),
        body(split_config='{"num_splits":5,"\\u006eum_splits":5,"duration_minutes":60}'),
    ],
    "split_config.randomize": [
        body(split_config=split_config()[:-1] + ',"randomize":false}'),
        body(
            split_config='{"randomize":"x","num_splits":5,"duration_minutes":60,"randomize":true}'
        ),
    ],
}


@pytest.mark.parametrize(
    ("field", "content"),
    [(field, content) for field, contents in DUPLICATES.items() for content in contents],
)
async def test_a_duplicate_name_is_refused(
    shared_api: httpx.AsyncClient, field: str, content: bytes
) -> None:
    assert fault(await post(shared_api, content), 400, "INVALID_REQUEST")["field"] == field
    answer = await post(shared_api, b"[" + content + b"]", BATCH)
    assert [result["status"] for result in answer.json()["results"]] == [400]


async def test_duplicate_names_within_a_wrong_value_are_a_fault_of_that_value(
    shared_api: httpx.AsyncClient,
) -> None:
    response = await post(shared_api, body(total_quantity='{"a":1,"a":2}'))
    assert fault(response, 400, "INVALID_QUANTITY")["field"] == "total_quantity"


async def test_a_value_that_looks_like_a_duplicate_name_is_accepted(
    shared_api: httpx.AsyncClient,
) -> None:
    key = json.dumps('","side":"SELL","side":"')
    response = await post(shared_api, body(order_unique_key=key))
    assert response.status_code == 201


async def test_blanks_and_escapes_change_nothing(shared_api: httpx.AsyncClient) -> None:
    request = order()
    first = await post(shared_api, request)
    again = await post(shared_api, json.dumps(request, indent=8).encode() + b"\r\n ")
    escaped = (
        json.dumps(request).replace("RELIANCE", "\\u0052ELIANCE").replace("side", "sid\\u0065")
    )
    once_more = await post(shared_api, escaped.encode())
    assert [first.status_code, again.status_code, once_more.status_code] == [201, 200, 200]
    assert first.content == again.content == once_more.content


@pytest.mark.parametrize("path", [ORDERS, BATCH])
@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/xml", "application/jsonx", "*/*", "\xff"]
)
async def test_a_body_not_declared_as_json_is_415(
    shared_api: httpx.AsyncClient, path: str, content_type: str | None
) -> None:
    headers = [] if content_type is None else [(b"content-type", content_type.encode("latin-1"))]
    response = await shared_api.post(path, content=body(), headers=headers)
    fault(response, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "said", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x"]
)
async def test_every_valid_notation_of_json_is_accepted(
    shared_api: httpx.AsyncClient, said: str
) -> None:
    response = await post(shared_api, body(), **{"content-type": said})
    assert response.status_code == 201


@pytest.mark.parametrize(
    ("path", "size_bytes"), [(ORDERS, 1_000_000), (ORDERS, 65_537), (BATCH, 2 * 1024 * 1024 + 1)]
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large_is_413(
    shared_api: httpx.AsyncClient, path: str, size_bytes: int, *, chunked: bool
) -> None:
    content = (
        body().ljust(size_bytes) if path == ORDERS else (b"[" + body() + b"]").ljust(size_bytes)
    )

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size_bytes, 10_000):
            yield content[start : start + 10_000]

    headers = {"content-type": "application/json"}
    sent = chunks() if chunked else content
    response = await shared_api.post(path, content=sent, headers=headers)
    fault(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(("path", "size_bytes"), [(ORDERS, 65_536), (BATCH, 2 * 1024 * 1024)])
async def test_a_body_as_large_as_allowed_is_read(
    shared_api: httpx.AsyncClient, path: str, size_bytes: int
) -> None:
    content = body() if path == ORDERS else b"[" + body() + b"]"
    response = await post(shared_api, content.ljust(size_bytes), path)
    assert response.status_code == (201 if path == ORDERS else 200), response.text
