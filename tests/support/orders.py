"""Order requests as bytes, field by field, and what an answer about them must look like."""

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
    """A request that is accepted, under a key of its own; `changes` replace whole fields."""
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
    """An accepted request with some fields' JSON text replaced, or left out where None."""
    fields = {name: json.dumps(value) for name, value in order().items()}
    return text_of({**fields, **texts}).encode()


def split_config(**texts: str | None) -> str:
    """An accepted split_config with some fields' JSON text replaced, or left out where None."""
    return text_of({"num_splits": "5", "duration_minutes": "60", "randomize": "true", **texts})


async def post(
    client: httpx.AsyncClient, request: dict[str, Any] | bytes, path: str = ORDERS, **headers: str
) -> httpx.Response:
    content = request if isinstance(request, bytes) else json.dumps(request).encode()
    return await client.post(path, content=content, headers={**JSON, **headers})


async def placed(client: httpx.AsyncClient, request: dict[str, Any] | None = None) -> str:
    """The id of an order that was newly accepted."""
    response = await post(client, request or order())
    assert response.status_code == 201, response.text
    order_id: str = response.json()["order_id"]
    return order_id


def fault(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The details of an error that has the one shape every error has."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    assert all(header in response.headers for header in _TRACE_HEADERS)
    assert ("retry-after" in response.headers) == (status in {429, 503})
    return fault_in(response.json(), code)


def fault_in(answer: Any, code: str) -> dict[str, Any]:
    """The same of an error's body alone."""
    assert list(answer) == ["error"]
    error = answer["error"]
    assert list(error) == ["code", "message", "details"]
    assert error["code"] == code, error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["details"], dict)
    said = json.dumps(answer)
    assert not [word for word in _INTERNALS if word in said], said
    details: dict[str, Any] = error["details"]
    return details
