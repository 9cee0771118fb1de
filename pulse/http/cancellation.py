"""The call that cancels an order, which the API and the gateway share."""

from collections.abc import Callable
from typing import Any, get_type_hints

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application.orders import Orders
from pulse.http.asgi import POSITION_KEY, caller_in, trace_in
from pulse.http.auth import require_scope
from pulse.http.bodies import read_cancel_request, receive_optional_json
from pulse.http.limits import MAX_ORDER_BYTES
from pulse.http.responses import order_id_of, whole_order
from pulse.http.rights import needs
from pulse.projections.order_view import OrderView


def cancel_route(
    path: str,
    orders: Orders,
    *,
    write_scope: str | None = None,
    view: Callable[[OrderView], Any] = whole_order,
    positions: bool = False,
) -> HTTPRouteHandler:
    """POST to `/cancel` below an order's path. If a scope is given, the token must grant it.

    `view` converts the order into its answer. With `positions` the answer has the position of the
    order's last event in the log.
    """

    async def cancel_order(request: Request[Any, Any, Any], order_id: FromPath[str]) -> Any:  # noqa: ANN401
        """Cancels the slices that are still scheduled, or the whole order if it is not split yet.

        Slices that were released stay released: `quantities` has the shares by state, and each
        slice has its `state`. After the response no further slice of the order is released. A
        cancelled order is returned unchanged, so a retry after a timeout, a lost connection or 503
        is safe. If the order failed, is parked because an event of it cannot be applied, or has
        nothing left to cancel, the call is 409 `NOTHING_TO_CANCEL`. The body is optional. An
        unknown id and a malformed one are both 404 `ORDER_NOT_FOUND`; so is another caller's order
        at the gateway.
        """
        scope: Any = request.scope
        if write_scope is not None:
            require_scope(scope, write_scope)
        body = await receive_optional_json(scope, request.receive, MAX_ORDER_BYTES)
        reason = read_cancel_request(body).reason
        known_id = order_id_of(order_id)
        order = await orders.cancel(known_id, reason, caller_in(scope), trace_in(scope))
        if positions:
            scope[POSITION_KEY] = order.position
        return view(order)

    cancel_order.__annotations__["return"] = get_type_hints(view)["return"]
    route = post(
        f"{path}/{{order_id:str}}/cancel",
        status_code=200,
        opt=needs("write"),
        summary="Cancel an order",
        tags=["orders"],
        response_description="The cancelled order: no share of it remains to be released.",
    )
    return route(cancel_order)
