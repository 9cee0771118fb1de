"""Order requests, also as raw JSON, and checks of the answers."""

import json
from itertools import count
from typing import Any, Final
from uuid import uuid4

import httpx

ORDERS: Final = "/pulse/internal/orders"
BATCH: Final = f"{ORDERS}/batch"
JSON: Final = {"content-type": "application/json"}

_INTERNALS: Final = ("Traceback", 'File "', "psycopg", "SELECT", "INSERT", "asyncio", "msgspec")
_TRACE_HEADERS: Final = ("x-trace-id", "x-request-id", "x-trace-source", "x-request-source")
_run, _numbers = uuid4().hex[:8], count(1)


def new_key() -> str:
    return f"ouk_{_run}_{next(_numbers)}"


def order(**changes: Any) -> dict[str, Any]:
    """A valid request with a new key; `changes` replace whole fields."""
    return {
        "order_unique_key": new_key(),
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 100,
        "split_config": {"num_splits": 5, "duration_minutes": 60, "randomize": True},
        **changes,
    }


def text_of(fields: dict[str, str | None]) -> str:
    """A JSON object of fields whose values are given as JSON text; None leaves a field out."""
    pairs = (f"{json.dumps(name)}:{text}" for name, text in fields.items() if text is not None)
    return "{" + ",".join(pairs) + "}"


def body(**texts: str | None) -> bytes:
    """A valid request with the JSON text of some fields replaced; None leaves a field out."""
    fields = {name: json.dumps(value) for name, value in order().items()}
    return text_of({**fields, **texts}).encode()


def split_config(**texts: str | None) -> str:
    """A valid split_config with the JSON text of some fields replaced; None leaves a field out."""
    return text_of({"num_splits": "5", "duration_minutes": "60", "randomize": "true", **texts})


async def post(
    client: httpx.AsyncClient, request: dict[str, Any] | bytes, path: str = ORDERS, **headers: str
) -> httpx.Response:
    content = request if isinstance(request, bytes) else json.dumps(request).encode()
    return await client.post(path, content=content, headers={**JSON, **headers})


async def placed(client: httpx.AsyncClient, request: dict[str, Any] | None = None) -> str:
    """Place a new order; returns its id."""
    response = await post(client, request or order())
    assert response.status_code == 201, response.text
    order_id: str = response.json()["order_id"]
    return order_id


def fault(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the status, headers and body of an error; returns its details."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    assert all(header in response.headers for header in _TRACE_HEADERS)
    assert ("retry-after" in response.headers) == (status in {429, 503})
    return fault_in(response.json(), code)


def fault_in(answer: Any, code: str) -> dict[str, Any]:
    """Check the body of an error; returns its details."""
    assert list(answer) == ["error"]
    error = answer["error"]
    assert list(error) == ["code", "message", "details"]
    assert error["code"] == code, error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["details"], dict)
    text = json.dumps(answer)
    assert not [word for word in _INTERNALS if word in text], text
    details: dict[str, Any] = error["details"]
    return details
