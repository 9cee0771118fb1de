"""A caller of the gateway, on the client that openapi-python-client generates.

`python gateway.py URL TOKEN`: the gateway at this URL, with a JWT. It prints what it found as JSON.
"""

import json
import sys
import time
from uuid import UUID

from gapi_client import AuthenticatedClient, Client
from gapi_client.api.health import read_health, say_hello
from gapi_client.api.orders import (
    cancel_order,
    list_own_orders,
    place_order,
    read_order,
    read_own_history,
)
from gapi_client.models import (
    CancelRequest,
    ErrorResponse,
    Health,
    Hello,
    History,
    Order,
    OrderCreated,
    OrderPage,
    OrderQueueStatus,
    OrderRequest,
    PlacedOrder,
    Side,
    SplitConfigRequest,
)

DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.05
NO_ORDER = UUID("0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77")


def wait_until_split(client: AuthenticatedClient, order_id: UUID) -> Order:
    """The order once it has slices."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        order = read_order.sync(order_id, client=client)
        assert isinstance(order, Order), order
        if order.order_queue_status == OrderQueueStatus.COMPLETED:
            return order
        assert time.monotonic() < deadline, order
        time.sleep(POLL_SECONDS)


def code_of(answer: object) -> str:
    """The code of a call that was refused."""
    assert isinstance(answer, ErrorResponse), answer
    return answer.error.code


def main(url: str, token: str) -> None:
    """Place an order, follow it and cancel it; the calls about health need no token."""
    anonymous = Client(base_url=url)
    health, hello = read_health.sync(client=anonymous), say_hello.sync(client=anonymous)
    assert isinstance(health, Health)
    assert isinstance(hello, Hello)

    client = AuthenticatedClient(base_url=url, token=token)
    request = OrderRequest(
        order_unique_key="ouk_first",
        instrument="NSE:RELIANCE",
        side=Side.BUY,
        total_quantity=100,
        split_config=SplitConfigRequest(num_splits=5, duration_minutes=60),
    )
    placed = place_order.sync(client=client, body=request)
    assert isinstance(placed, PlacedOrder), placed
    order = wait_until_split(client, placed.order_id)

    cancel = CancelRequest(reason="no longer wanted")
    cancelled = cancel_order.sync(order.order_id, client=client, body=cancel)
    assert isinstance(cancelled, Order), cancelled

    page = list_own_orders.sync(client=client, order_unique_key="ouk_first", limit=1)
    assert isinstance(page, OrderPage), page
    history = read_own_history.sync(order.order_id, client=client)
    assert isinstance(history, History), history
    created = history.events[0]
    assert isinstance(created, OrderCreated), created

    unauthenticated = AuthenticatedClient(base_url=url, token="no token")
    found = {
        "health": [health.status, hello.message],
        "request": request.to_dict(),
        "order_id": str(order.order_id),
        "status": order.order_queue_status,
        "slices": [one.quantity for one in order.slices],
        "listed": [str(one.order_id) for one in page.orders],
        "created": created.data.total_quantity,
        "history": [event.type_ for event in history.events],
        "remaining": cancelled.quantities.remaining,
        "errors": [
            code_of(read_order.sync(NO_ORDER, client=client)),
            code_of(place_order.sync(client=unauthenticated, body=request)),
            code_of(cancel_order.sync(NO_ORDER, client=client)),
        ],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
