"""The routes for halts: set one, lift one, list them."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.application.halts import HaltView, Reason, ReleaseHalts
from pulse.http.asgi import POSITION_KEY, caller_in, trace_in
from pulse.http.bodies import read_halt_request, receive_json
from pulse.http.errors import JSON
from pulse.http.limits import MAX_ORDER_BYTES
from pulse.http.responses import halt_id_of
from pulse.http.rights import needs

Flag = Annotated[bool, msgspec.Meta(description="whether to list lifted halts too; default: false")]


class HaltParameters(msgspec.Struct, frozen=True):
    """Which halts to list."""

    include_lifted: Flag = False


class LiftParameters(msgspec.Struct, frozen=True):
    """Why the halt is lifted."""

    reason: Reason | None = None


class HaltList(msgspec.Struct, frozen=True):
    """Halts, in the order they were set."""

    halts: list[HaltView]


def halt_routes(halts: ReleaseHalts) -> list[HTTPRouteHandler]:
    """The routes over these use cases."""

    @post(
        "/internal/halts",
        status_code=201,
        opt=needs("halt"),
        summary="Halt releases",
        tags=["halts"],
        response_description="The halt that this call set.",
    )
    async def halt_releases(request: Request[Any, Any, Any]) -> Response[HaltView]:
        """Once this is answered, no process releases a slice in scope until the halt is lifted.

        The scope is ALL, one INSTRUMENT, or the orders that one CALLER placed. Orders are still
        accepted, split and cancelled, and slices still expire. If this scope is already
        halted, its halt is returned unchanged with 200, so a retry is safe.
        """
        scope: Any = request.scope
        body = read_halt_request(await receive_json(scope, request.receive, MAX_ORDER_BYTES))
        halted = await halts.halt(body, caller_in(scope), trace_in(scope))
        scope[POSITION_KEY] = halted.position
        status = 201 if halted.created else 200
        return Response(halted.halt, status_code=status, media_type=JSON)

    @get(
        "/internal/halts",
        opt=needs("read"),
        summary="List halts",
        tags=["halts"],
        response_description="The halts.",
    )
    async def list_halts(parameters: NamedDependency[HaltParameters]) -> HaltList:
        """The halts in force; with `include_lifted=true` also the lifted ones."""
        found = await halts.all()
        return HaltList([h for h in found if parameters.include_lifted or h.lifted_at is None])

    @delete(
        "/internal/halts/{halt_id:str}",
        status_code=200,
        opt=needs("halt"),
        summary="Lift a halt",
        tags=["halts"],
        response_description="The lifted halt.",
    )
    async def lift_halt(
        request: Request[Any, Any, Any],
        halt_id: FromPath[str],
        parameters: NamedDependency[LiftParameters],
    ) -> HaltView:
        """Slices that became due during the halt are released if not too late; the others expire.

        A halt that is already lifted is returned unchanged, so a retry is safe. An unknown id and a
        malformed one are both 404 `HALT_NOT_FOUND`.
        """
        scope: Any = request.scope
        known_id = halt_id_of(halt_id)
        reason = parameters.reason
        lifted = await halts.resume(known_id, reason, caller_in(scope), trace_in(scope))
        scope[POSITION_KEY] = lifted.position
        return lifted.halt

    return [halt_releases, list_halts, lift_halt]
