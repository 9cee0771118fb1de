"""The log page: the events, newest first, and whether the log can be trusted."""

import asyncio
import base64
from typing import Annotated, Final, NamedTuple, get_args

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pulse.application.event_view import EventType
from pulse.application.in_process import InProcessOrders
from pulse.application.log_reader import EventQuery
from pulse.application.notices import MAX_BEHIND_SECONDS
from pulse.application.seal_status import SealReader, SealStatus
from pulse.eventstore import PositionBeyondLog
from pulse.http.api.lists import LAST_POSITION
from pulse.http.console.log_events import EventRow, event_row
from pulse.http.console.pages import AnyRequest, link, page
from pulse.http.console.sessions import CONSOLE_PATH
from pulse.http.errors import beyond_log
from pulse.http.parameters import parameter_error
from pulse.http.rights import needs

LOG_PATH: Final = f"{CONSOLE_PATH}/log"

_EVENTS_PER_PAGE: Final = 30
_MAX_EVENTS_PER_PAGE: Final = 200
_Position = Annotated[int, Meta(ge=0, le=LAST_POSITION)]


class LogParameters(msgspec.Struct, frozen=True):
    """Which events are shown: of one type, before or after a position, or the latest."""

    type: EventType | None = None
    after: _Position | None = None
    before: _Position | None = None
    limit: Annotated[int, Meta(ge=1, le=_MAX_EVENTS_PER_PAGE)] = _EVENTS_PER_PAGE


class Events(NamedTuple):
    """Events, newest first, and the paths of the pages with older and newer ones."""

    rows: list[EventRow]
    older: str | None
    newer: str | None


class Verdict(NamedTuple):
    """The answer to "Can I trust the log?": the CSS class of the notice, and a sentence."""

    style: str
    text: str


def log_routes(orders: InProcessOrders, seal: SealReader) -> list[HTTPRouteHandler]:
    """The route of the log page."""

    @get("/log", opt=needs("read"))
    async def show_log(
        request: AnyRequest, parameters: NamedDependency[LogParameters]
    ) -> Response[str]:
        """The latest events, or those before or after a position, always newest first."""
        if parameters.after is not None and parameters.before is not None:
            raise parameter_error("before", "is given together with after", "one of them")
        events, status = await asyncio.gather(_events(orders, parameters), seal.status())
        is_latest = parameters.after is None and parameters.before is None
        last = events.rows[0].event.position if events.rows else 0
        return page(
            request,
            "log.html",
            title="Log",
            active="log",
            position=last if is_latest and parameters.type is None else None,
            parameters=parameters,
            types=get_args(EventType),
            events=events,
            is_latest=is_latest,
            latest=_link(parameters),
            seal=status,
            verdict=verdict_of(status),
            root=None
            if status is None or status.checkpoint is None
            else base64.b64encode(status.checkpoint.root).decode(),
        )

    return [show_log]


async def _events(orders: InProcessOrders, parameters: LogParameters) -> Events:
    if parameters.after is not None:
        query = EventQuery(after=parameters.after, type=parameters.type)
        try:
            ahead = await orders.entries_after(query, parameters.limit)
        except PositionBeyondLog as error:
            raise beyond_log(error) from None
        shown = ahead.entries[::-1]
        newer = ahead.next_after if ahead.next_after != parameters.after else None
        older = shown[-1].view.position if shown else parameters.after + 1
    else:
        page_before = await orders.entries_before(
            parameters.before, parameters.type, parameters.limit
        )
        shown = page_before.entries
        newer = None
        if parameters.before is not None:
            newer = shown[0].view.position if shown else max(0, parameters.before - 1)
        older = page_before.next_before or 0
    whole = parameters.limit == 1
    return Events(
        rows=[event_row(entry, whole=whole) for entry in shown],
        older=_link(parameters, before=older) if older > 1 else None,
        newer=None if newer is None else _link(parameters, after=newer),
    )


def _link(parameters: LogParameters, **position: int) -> str:
    limit = None if parameters.limit == _EVENTS_PER_PAGE else parameters.limit
    return link(LOG_PATH, type=parameters.type, limit=limit, **position)


def verdict_of(status: SealStatus | None) -> Verdict:
    """Whether the log can be trusted, as far as this process can tell."""
    if status is None:
        return Verdict("", "Not known: this process has no right to read the tables of the seal.")
    if status.health.verifier_key is None:
        return Verdict(
            "", "Not sealed: a change to the log can go unnoticed. To seal it, set PULSE_SEAL_KEY."
        )
    if status.faults:
        return Verdict("notice-bad", f"Do not trust it: {'; '.join(status.faults)}.")
    return _verdict_without_faults(status)


def _verdict_without_faults(status: SealStatus) -> Verdict:
    behind = status.health.behind_seconds
    if status.checkpoint is None:
        return Verdict("", "No checkpoint has been signed yet.")
    if behind > MAX_BEHIND_SECONDS:
        return Verdict(
            "", f"Sealed up to position {status.health.position:,}, but {behind:.0f} s behind."
        )
    if status.key_origin == "DATABASE":
        return Verdict(
            "notice-good",
            "Sealed. The signature is valid for the key in the database; check it with the "
            "verifier key that you were given.",
        )
    return Verdict("notice-good", "Sealed, and the signature is valid for the key of this process.")
