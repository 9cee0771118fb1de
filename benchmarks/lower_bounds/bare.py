"""A minimal ASGI application that reads the body and answers 201: the cost of uvicorn alone.

PULSE_PORT=8001 python -m benchmarks.lower_bounds.bare
"""

import os
from typing import Any

import uvicorn

_BODY = b'{"order_id":"00000000-0000-0000-0000-000000000000","order_unique_key":"bare"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer 201."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ["PULSE_PORT"]),
        loop="uvloop",
        http="zttp",
        lifespan="off",
        access_log=False,
        log_level="error",
    )
