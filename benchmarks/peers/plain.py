"""The plain service: a table of orders, one INSERT per request, the same validation as Pulse.

    PULSE_PORT=8001 PULSE_DATABASE_URL=postgresql://... python -m benchmarks.peers.plain

A typical first version: Litestar, a connection pool, a unique key. It has no history, no event
stream and no claims that survive a crash. It refuses a taken key with other data, as Pulse does.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, post
from psycopg_pool import AsyncConnectionPool

from pulse.domain import OrderRefused, parse_order_request
from pulse.domain.events import flat_fields
from pulse.errors import PulseError

CREATE: Final = """
CREATE TABLE plain_orders (
    order_id uuid PRIMARY KEY,
    order_unique_key text NOT NULL UNIQUE,
    instrument text NOT NULL,
    side text NOT NULL,
    total_quantity bigint NOT NULL,
    num_splits integer NOT NULL,
    duration_minutes integer NOT NULL,
    randomize boolean NOT NULL,
    start_at timestamptz,
    session_policy text,
    state text NOT NULL DEFAULT 'PENDING',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    split_completed_at timestamptz
);
CREATE INDEX plain_orders_pending_idx ON plain_orders (created_at) WHERE state = 'PENDING';
CREATE TABLE plain_slices (
    order_id uuid NOT NULL REFERENCES plain_orders,
    sequence_number integer NOT NULL,
    quantity bigint NOT NULL,
    scheduled_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, sequence_number)
);"""
_INSERT: Final = """
INSERT INTO plain_orders (order_id, order_unique_key, instrument, side, total_quantity, num_splits,
                          duration_minutes, randomize, start_at, session_policy)
VALUES (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
    ON CONFLICT (order_unique_key) DO NOTHING
RETURNING order_id"""
_SELECT: Final = """
SELECT order_id, instrument, side, total_quantity, num_splits, duration_minutes, randomize,
       start_at, session_policy
  FROM plain_orders WHERE order_unique_key = %b"""
_CONNECTIONS: Final = 20

_pool = AsyncConnectionPool(
    os.environ.get("PULSE_DATABASE_URL", ""),
    min_size=_CONNECTIONS,
    max_size=_CONNECTIONS,
    kwargs={"autocommit": True, "prepare_threshold": 0},
    open=False,
)


@post("/internal/orders")
async def place(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Store one order."""
    spec = parse_order_request(await request.body())
    key = spec.order_unique_key
    order_id = uuid4()
    fields = tuple(flat_fields(spec).values())
    async with _pool.connection() as connection:
        cursor = await connection.execute(_INSERT, (order_id, *fields))
        row = await cursor.fetchone()
        if row is None:
            cursor = await connection.execute(_SELECT, (key,))
            row = await cursor.fetchone()
            if row is None or row[1:] != fields[1:]:
                return _answer({"error": {"code": "DUPLICATE_ORDER_UNIQUE_KEY"}}, 409)
            order_id = row[0]
    return _answer({"order_id": order_id, "order_unique_key": key}, 201)


def _answer(content: object, status: int) -> Response[bytes]:
    body = msgspec.json.encode(content)
    return Response(body, status_code=status, media_type="application/json")


def _refused(_: Request[Any, Any, Any], error: OrderRefused) -> Response[bytes]:
    return _answer({"error": {"message": str(error)}}, 400)


@asynccontextmanager
async def _lifespan(_: Litestar) -> AsyncIterator[None]:
    async with _pool:
        yield


def main() -> None:
    """Serve with uvicorn's fastest settings."""
    app = Litestar(
        [place],
        lifespan=[_lifespan],
        exception_handlers={PulseError: _refused},
        openapi_config=None,
        logging_config=None,
    )
    uvicorn.run(
        app,
        port=int(os.environ["PULSE_PORT"]),
        loop="uvloop",
        http="zttp",
        access_log=False,
        log_level="error",
    )


if __name__ == "__main__":
    main()
