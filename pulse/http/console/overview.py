"""The overview: what is in the queue, and what needs a person."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from pulse.application.readiness import Readiness
from pulse.http.console.pages import AnyRequest, page
from pulse.http.rights import needs


def overview_routes(readiness: Readiness) -> list[HTTPRouteHandler]:
    """The route of the overview."""

    @get("/", opt=needs("read"))
    async def show_overview(request: AnyRequest) -> Response[str]:
        report = await readiness.check()
        return page(
            request, "overview.html", title="Overview", active="overview", notices=report.notices
        )

    return [show_overview]
