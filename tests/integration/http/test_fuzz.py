"""Arbitrary bodies never cause a 5xx, and every error has the schema."""

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulse.testing import order_request_bodies
from tests.support.orders import BATCH, ORDERS, fault, fault_in, post

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.sampled_from(
    [
        "order_unique_key",
        "instrument",
        "side",
        "total_quantity",
        "split_config",
        "num_splits",
        "duration_minutes",
        "randomize",
        "start_at",
        "session_policy",
        "split_seed",
    ]
)
numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 10**400)
)
leaves = st.one_of(
    st.none(), st.booleans(), numbers, st.text(), st.sampled_from(["BUY", "NSE:RELIANCE"])
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(names, st.text(max_size=8)), inner, max_size=6),
    ),
    max_leaves=20,
)
paths = st.sampled_from([ORDERS, BATCH, f"{ORDERS}/preview"])


def is_answered_well(response: httpx.Response) -> None:
    if response.status_code in {200, 201}:
        for result in response.json().get("results", ()):
            assert result["status"] in {200, 201, 400, 409, 413}
            if result["status"] >= 400:
                fault_in(result["body"], result["body"]["error"]["code"])
        return
    assert response.status_code in {400, 404, 405, 409, 413, 415}, response.text
    fault(response, response.status_code, response.json()["error"]["code"])


@FUZZ
@given(path=paths, value=anything)
async def test_any_json_never_causes_a_server_error(
    shared_api: httpx.AsyncClient, path: str, value: Any
) -> None:
    is_answered_well(await post(shared_api, json.dumps(value).encode(), path))


@FUZZ
@given(request=order_request_bodies(), field=names, value=anything, inside=st.booleans())
async def test_an_order_with_any_value_in_one_field_never_causes_a_server_error(
    shared_api: httpx.AsyncClient, request: dict[str, Any], field: str, value: Any, *, inside: bool
) -> None:
    within = {**request["split_config"], field: value}
    changed = {**request, "split_config": within} if inside else {**request, field: value}
    response = await post(shared_api, changed)
    is_answered_well(response)
    batch = await post(shared_api, json.dumps([changed]).encode(), BATCH)
    (result,) = batch.json()["results"]
    if response.status_code < 300:
        assert (result["status"], result["body"]) == (200, response.json())
    else:
        assert (result["status"], result["body"]) == (response.status_code, response.json())


@FUZZ
@given(path=paths, content=st.binary(max_size=200))
async def test_any_bytes_never_cause_a_server_error(
    shared_api: httpx.AsyncClient, path: str, content: bytes
) -> None:
    is_answered_well(await post(shared_api, content, path))


@FUZZ
@given(
    path=paths,
    request=order_request_bodies(),
    change=st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=3)),
)
async def test_an_order_with_changed_bytes_never_causes_a_server_error(
    shared_api: httpx.AsyncClient,
    path: str,
    request: dict[str, Any],
    change: tuple[float, int, bytes],
) -> None:
    whole = json.dumps([request] if path == BATCH else request, ensure_ascii=False).encode()
    at, cut, junk = change
    place = int(at * len(whole))
    is_answered_well(await post(shared_api, whole[:place] + junk + whole[place + cut :], path))


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    tail=st.lists(st.integers(0, 255).map("%{:02x}".format), max_size=40).map("".join),
    prefix=st.sampled_from(["/", "/pulse", "/pulse/", "/pulse/internal/", f"{ORDERS}/"]),
)
async def test_any_path_never_causes_a_server_error(
    shared_api: httpx.AsyncClient, method: str, prefix: str, tail: str
) -> None:
    is_answered_well(await shared_api.request(method, prefix + tail))


header_bytes = st.binary(max_size=40).filter(lambda value: not set(value) & set(b"\r\n\0"))


@FUZZ
@given(values=st.lists(header_bytes, min_size=5, max_size=5))
async def test_any_headers_never_cause_a_server_error(
    shared_api: httpx.AsyncClient, values: list[bytes]
) -> None:
    fields = (b"X-Trace-Id", b"X-Request-Id", b"X-Trace-Source", b"X-Request-Source", b"Cookie")
    headers = [*zip(fields, values, strict=True), (b"content-type", b"application/json")]
    response = await shared_api.post(ORDERS, content=b"{}", headers=headers)
    fault(response, 400, "INVALID_REQUEST")
