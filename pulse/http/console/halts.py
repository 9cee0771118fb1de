"""The halts page: set and lift halts, each after a page that shows the effect."""

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
from pulse.application.halts import HaltRequest, HaltView, ReleaseHalts, halt_view
from pulse.application.in_process import InProcessOrders
from pulse.application.known_halts import HALTS_UNREADABLE, read_halts
from pulse.application.notices import target_text
from pulse.application.origin import system_clock
from pulse.domain import HaltTarget, OrderRefused
from pulse.http.asgi import caller_in, trace_in
from pulse.http.bodies import read_halt_request
from pulse.http.console.own_writes import position_cookie
from pulse.http.console.pages import AnyRequest, page, redirect
from pulse.http.console.sessions import CONSOLE_PATH
from pulse.http.errors import answer_for
from pulse.http.responses import halt_id_of
from pulse.http.rights import needs
from pulse.projections.due_slices import MAX_OVERDUE_ORDERS

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


class FormFault(msgspec.Struct, frozen=True):
    """The field of a form that breaks a rule, and the rule."""

    field: str
    text: str


_EMPTY: Final = HaltForm(scope="INSTRUMENT")


def halt_routes(
    halts: ReleaseHalts, due: DueSlices, orders: InProcessOrders
) -> list[HTTPRouteHandler]:
    """The routes of the halts page."""
    pages = _HaltPages(halts, due, orders)

    @get("/halts", opt=needs("read"))
    async def show_halts(request: AnyRequest) -> Response[str]:
        return await pages.all(request)

    @post("/halts", opt=needs("halt"), status_code=303)
    async def set_halt(
        request: AnyRequest, form: NamedDependency[HaltForm]
    ) -> Response[str] | Response[bytes]:
        """Set the halt if it is confirmed; otherwise show the page that confirms it."""
        try:
            wanted = _halt_request(form)
        except OrderRefused as error:
            return await pages.all(request, form, _fault_of(error), status=400)
        scope = request.scope
        try:
            if form.confirmed is None:
                return await pages.to_confirm(request, form, wanted.target)
            halted = await halts.halt(wanted, caller_in(scope), trace_in(scope))
        except HALTS_UNREADABLE as error:
            return await pages.unreadable(request, error, form)
        return redirect(HALTS_PATH, position_cookie(scope, halted.position))

    @get("/halts/{halt_id:str}/lift", opt=needs("halt"))
    async def confirm_lift(request: AnyRequest, halt_id: FromPath[str]) -> Response[str]:
        return await pages.to_lift(request, halt_id_of(halt_id))

    @post("/halts/{halt_id:str}/lift", opt=needs("halt"), status_code=303)
    async def lift_halt(
        request: AnyRequest, halt_id: FromPath[str], form: NamedDependency[LiftForm]
    ) -> Response[str] | Response[bytes]:
        known_id = halt_id_of(halt_id)
        scope = request.scope
        try:
            _halt_request(HaltForm(scope="ALL", reason=form.reason or "lifted"))
        except OrderRefused as error:
            return await pages.to_lift(request, known_id, form, _fault_of(error))
        try:
            lifted = await halts.resume(known_id, form.reason, caller_in(scope), trace_in(scope))
        except HALTS_UNREADABLE as error:
            return await pages.unreadable(request, error)
        return redirect(HALTS_PATH, position_cookie(scope, lifted.position))

    return [show_halts, set_halt, confirm_lift, lift_halt]


class _HaltPages:
    """The pages that these routes answer with."""

    def __init__(self, halts: ReleaseHalts, due: DueSlices, orders: InProcessOrders) -> None:
        self._halts = halts
        self._due = due
        self._orders = orders

    async def all(
        self,
        request: AnyRequest,
        form: HaltForm = _EMPTY,
        fault: FormFault | None = None,
        *,
        status: int = 200,
    ) -> Response[str]:
        """The halts, with the form that sets one."""
        # read before the halts, so that these are not older than the position that is shown
        latest = await self._orders.entries_before(None, None, 1)
        known = await read_halts(self._halts)
        found = [halt_view(halt) for halt in known.halts.halts]
        lifted = [halt for halt in found if halt.lifted_at is not None]
        lifted.sort(key=lambda halt: str(halt.lifted_at), reverse=True)
        return page(
            request,
            "halts.html",
            title="Halts",
            active="halts",
            status=status,
            position=latest.entries[0].view.position if latest.entries else 0,
            in_force=[halt for halt in found if halt.lifted_at is None][::-1],
            lifted=lifted[:_MAX_LIFTED],
            more_lifted=len(lifted) > _MAX_LIFTED,
            target_of=_target_of,
            form=form,
            fault=fault,
            halts_fault=known.fault,
        )

    async def unreadable(
        self, request: AnyRequest, error: Exception, form: HaltForm = _EMPTY
    ) -> Response[str]:
        """The page if the halts cannot be read, after an action that therefore changed nothing."""
        status, _ = answer_for(error)
        return await self.all(request, form, status=status)

    async def to_confirm(
        self, request: AnyRequest, form: HaltForm, target: HaltTarget
    ) -> Response[str]:
        """What a halt of this target will do."""
        known = (await self._halts.current()).on(target)
        now = system_clock()
        counts = await self._due.by_minute(now, now + _HOUR, [target])
        return page(
            request,
            "halt_confirm.html",
            title="Confirm the halt",
            active="halts",
            form=form,
            target=target_text(target),
            halted=sum(minute.halted for minute in counts.minutes),
            complete=counts.complete,
            known=known,
        )

    async def to_lift(
        self,
        request: AnyRequest,
        halt_id: UUID,
        form: LiftForm | None = None,
        fault: FormFault | None = None,
    ) -> Response[str]:
        """What lifting this halt will do."""
        try:
            known = await self._halts.current()
        except HALTS_UNREADABLE as error:
            return await self.unreadable(request, error)
        halt = known.of(halt_id)
        others = tuple(other for other in known.in_force if other.halt_id != halt_id)
        overdue = await self._due.overdue(_MAX_OVERDUE)
        waiting = [s for s in overdue if halt_of(s, (halt,)) and not halt_of(s, others)]
        examined = {s.order_id for s in overdue}
        return page(
            request,
            "halt_lift.html",
            title="Lift the halt",
            active="halts",
            status=200 if fault is None else 400,
            halt=halt,
            target=target_text(halt.target),
            waiting=len(waiting),
            complete=len(overdue) < _MAX_OVERDUE and len(examined) < MAX_OVERDUE_ORDERS,
            reason=form.reason if form else None,
            fault=fault,
        )


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


def _fault_of(error: OrderRefused) -> FormFault:
    return FormFault(error.field or "scope", f"{error}")


def _target_of(halt: HaltView) -> str:
    target = HaltTarget(scope=halt.scope, instrument=halt.instrument, placed_by=halt.placed_by)
    return target_text(target)
