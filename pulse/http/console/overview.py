"""The overview: the queue, its last hour, lags, workers, halts, and what needs a person."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from markupsafe import Markup

from pulse.application.overview import Overview, OverviewUnavailable, OverviewView
from pulse.http.console.charts.rates import rate_chart, top_of
from pulse.http.console.pages import NAVIGATION, AnyRequest, NavigationEntry, page
from pulse.http.rights import needs
from pulse.projections.tally import MinuteSums

_PAGES_OF_NOTICES: Final = {
    "orders_failing": "failed",
    "orders_parked": "failed",
    "orders_missing": "failed",
    "orders_wait": "orders",
    "releases_halted": "halts",
    "halts_unreadable": "halts",
    "releases_late": "due",
    "no_releaser": "due",
    "seal_behind": "log",
    "not_sealed": "log",
    "sealed_events_missing": "log",
    "seal_diverged": "log",
}
"""The page that shows more about a notice, by the notice's code."""

_UNAVAILABLE: Final = 503


class _Chart(NamedTuple):
    """A chart of the last hour, with its total."""

    title: str
    unit: str
    total: int
    svg: Markup


class _Series(NamedTuple):
    """One of the three numbers of a minute."""

    kind: str
    title: str
    unit: str
    value_of: Callable[[MinuteSums], int]


_SERIES: Final = (
    _Series("accepted", "Accepted a minute", "orders", lambda minute: minute.accepted),
    _Series("split", "Split a minute", "orders", lambda minute: minute.split),
    _Series("released", "Released a minute", "shares", lambda minute: minute.released_quantity),
)


def overview_routes(overview: Overview) -> list[HTTPRouteHandler]:
    """The route of the overview."""

    @get("/", opt=needs("read"))
    async def show_overview(request: AnyRequest) -> Response[str]:
        view = await overview.read()
        if isinstance(view, OverviewUnavailable):
            return _show(request, status=_UNAVAILABLE, checks=view.checks, view=None)
        return _show(
            request,
            checks=view.checks,
            view=view,
            position=view.tally.position if view.tally else None,
            charts=_charts(view.tally.minutes) if view.tally else (),
            expired=sum(m.expired_quantity for m in view.tally.minutes) if view.tally else None,
            more=_pages_of_notices(view),
        )

    return [show_overview]


def _show(request: AnyRequest, *, status: int = 200, **context: Any) -> Response[str]:  # noqa: ANN401 - for the template
    return page(
        request, "overview.html", title="Overview", active="overview", status=status, **context
    )


def _charts(minutes: Sequence[MinuteSums]) -> list[_Chart]:
    """The charts. Those of orders share a scale, so that their heights can be compared."""
    top_orders = top_of([max(minute.accepted, minute.split) for minute in minutes])
    top_quantity = top_of([minute.released_quantity for minute in minutes])
    charts = []
    for kind, title, unit, value_of in _SERIES:
        bars = [(minute.minute, value_of(minute)) for minute in minutes]
        total, most = sum(n for _, n in bars), max((n for _, n in bars), default=0)
        label = f"{title}: {total:,} {unit} in the last hour, at most {most:,} in a minute."
        top = top_quantity if kind == "released" else top_orders
        svg = rate_chart(bars, kind=kind, label=label, top=top)
        charts.append(_Chart(title, unit, total, svg))
    return charts


def _pages_of_notices(view: OverviewView) -> dict[str, NavigationEntry]:
    """For each notice's code the page that shows more, where there is one."""
    pages = {entry.key: entry for entry in NAVIGATION}
    keys = {notice.code: _PAGES_OF_NOTICES.get(notice.code, "") for notice in view.notices}
    return {code: pages[key] for code, key in keys.items() if key in pages}
