"""The halts page: set and lift halts, each after a page that says what it will do."""

from datetime import timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Meta

from pulse.application.due import DueSlices, halt_of
from pulse.application.halts import HaltRequest, HaltView, ReleaseHalts
from pulse.application.in_process import InProcessOrders
from pulse.application.notices import target_text
from pulse.application.origin import system_clock
from pulse.domain import HaltTarget, OrderRefused
from pulse.http.asgi import caller_in, trace_in
from pulse.http.bodies import read_halt_request
from pulse.http.console.pages import AnyRequest, page, redirect
from pulse.http.console.sessions import CONSOLE_PATH
from pulse.http.responses import halt_id_of
from pulse.http.rights import needs

HALTS_PATH: Final = f"{CONSOLE_PATH}/halts"
_MAX_LIFTED: Final = 50
_MAX_OVERDUE: Final = 1_000
_HOUR: Final = timedelta(hours=1)
_MAX_TEXT_CHARACTERS: Final = 4_096

_Text = Annotated[str, Meta(max_length=_MAX_TEXT_CHARACTERS)]


class HaltForm(msgspec.Struct, frozen=True):
    """What to halt. It is halted only if `confirmed`; the API's rules apply to the other fields."""

    scope: _Text = ""
    instrument: _Text | None = None
    placed_by: _Text | None = None
    reason: _Text = ""
    confirmed: Literal["yes"] | None = None


class LiftForm(msgspec.Struct, frozen=True):
    """Why the halt is lifted."""

    reason: _Text | None = None


class FieldFault(msgspec.Struct, frozen=True):
    """The field of a form that breaks a rule, and the rule."""

    field: str
    text: str


_EMPTY: Final = HaltForm(scope="INSTRUMENT")


def halt_routes(
    halts: ReleaseHalts, due: DueSlices, orders: InProcessOrders
) -> list[HTTPRouteHandler]:
    """The routes of the halts page."""

    async def halts_page(
        request: AnyRequest, form: HaltForm = _EMPTY, fault: FieldFault | None = None
    ) -> Response[str]:
        found = await halts.all()
        lifted = [halt for halt in found if halt.lifted_at is not None]
        lifted.sort(key=lambda halt: str(halt.lifted_at), reverse=True)
        latest = await orders.events_before(None, None, 1)
        return page(
            request,
            "halts.html",
            title="Halts",
            active="halts",
            status=200 if fault is None else 400,
            position=latest.events[0].position if latest.events else 0,
            in_force=[halt for halt in found if halt.lifted_at is None][::-1],
            lifted=lifted[:_MAX_LIFTED],
            more_lifted=len(lifted) > _MAX_LIFTED,
            target_of=_target_of,
            form=form,
            fault=fault,
        )

    @get("/halts", opt=needs("read"))
    async def show_halts(request: AnyRequest) -> Response[str]:
        return await halts_page(request)

    @post("/halts", opt=needs("halt"), status_code=303)
    async def set_halt(
        request: AnyRequest, form: NamedDependency[HaltForm]
    ) -> Response[str] | Response[bytes]:
        """Ask for a confirmation; with it, halt."""
        try:
            wanted = _halt_request(form)
        except OrderRefused as error:
            return await halts_page(request, form, _fault_of(error))
        scope = request.scope
        if form.confirmed is not None:
            await halts.halt(wanted, caller_in(scope), trace_in(scope))
            return redirect(HALTS_PATH)
        now = system_clock()
        counts = await due.by_minute(now, now + _HOUR, [wanted.target])
        known = (await halts.current()).on(wanted.target)
        return page(
            request,
            "halt_confirm.html",
            title="Confirm the halt",
            active="halts",
            form=form,
            target=target_text(wanted.target),
            halted=sum(minute.halted for minute in counts.minutes),
            complete=counts.complete,
            known=known,
        )

    @get("/halts/{halt_id:str}/lift", opt=needs("halt"))
    async def confirm_lift(request: AnyRequest, halt_id: FromPath[str]) -> Response[str]:
        return await lift_page(request, halt_id_of(halt_id))

    @post("/halts/{halt_id:str}/lift", opt=needs("halt"), status_code=303)
    async def lift_halt(
        request: AnyRequest, halt_id: FromPath[str], form: NamedDependency[LiftForm]
    ) -> Response[str] | Response[bytes]:
        known_id = halt_id_of(halt_id)
        scope = request.scope
        try:
            _halt_request(HaltForm(scope="ALL", reason=form.reason or "lifted"))
        except OrderRefused as error:
            return await lift_page(request, known_id, form, _fault_of(error))
        await halts.resume(known_id, form.reason, caller_in(scope), trace_in(scope))
        return redirect(HALTS_PATH)

    async def lift_page(
        request: AnyRequest,
        halt_id: UUID,
        form: LiftForm | None = None,
        fault: FieldFault | None = None,
    ) -> Response[str]:
        known = await halts.current()
        halt = known.of(halt_id)
        others = tuple(other for other in known.in_force if other.halt_id != halt_id)
        overdue = await due.overdue(_MAX_OVERDUE)
        waiting = [s for s in overdue if halt_of(s, (halt,)) and not halt_of(s, others)]
        return page(
            request,
            "halt_lift.html",
            title="Lift the halt",
            active="halts",
            status=200 if fault is None else 400,
            halt=halt,
            target=target_text(halt.target),
            waiting=len(waiting),
            reason=form.reason if form else None,
            fault=fault,
        )

    return [show_halts, set_halt, confirm_lift, lift_halt]


def _halt_request(form: HaltForm) -> HaltRequest:
    """The request, under the rules of the API.

    Raises:
        OrderRefused: a field breaks a rule.
    """
    fields = {
        "scope": form.scope,
        "reason": form.reason,
        "instrument": form.instrument,
        "placed_by": form.placed_by,
    }
    return read_halt_request(msgspec.json.encode(fields))


def _fault_of(error: OrderRefused) -> FieldFault:
    return FieldFault(error.field or "scope", f"{error}")


def _target_of(halt: HaltView) -> str:
    target = HaltTarget(scope=halt.scope, instrument=halt.instrument, placed_by=halt.placed_by)
    return target_text(target)
