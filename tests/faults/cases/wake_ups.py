"""Lost notifications: polling still finds every order, at most one poll interval later."""

import asyncio
import time
from typing import Any, Final

from tests.faults.case import Case, CaseRun
from tests.faults.checks import until_quiet
from tests.faults.deployment import Deployment
from tests.faults.report import quantile
from tests.support.processes import url_of
from tests.support.proxy import proxied

_POLL_SECONDS: Final = 0.5
_MARGIN_SECONDS: Final = 0.5
_INTERVAL_SECONDS: Final = 0.06
_ORDERS_PER_RECONNECT: Final = 20
"""One order in this many arrives before the listener has executed LISTEN."""

_DELAYS: Final = """
SELECT EXTRACT(EPOCH FROM o.recorded_at - c.recorded_at)::float8
  FROM stored_events c JOIN stored_events o USING (originator_id)
 WHERE c.originator_version = 1 AND o.originator_version = 2"""


async def run(case_run: CaseRun) -> None:
    """Drop every notification to the only worker.

    For one order in twenty the worker's listening connection is terminated first, so that the
    notification is sent before LISTEN takes effect again.
    """
    settings = {"poll_interval_seconds": _POLL_SECONDS}
    kinds: dict[str, Any] = {"apis": 1, "workers": 0, "caller": {"abandon_share": 0.0}}
    async with (
        case_run.deployment(settings=settings, **kinds) as deployment,
        proxied(deployment.server.conninfo) as proxy,
    ):
        worker = deployment.add("worker", database_url=_over_tcp(proxy.conninfo), **settings)
        await deployment.start(worker)
        proxy.drop_notifications = True
        before_listen = await _place_apart(case_run, deployment)
        case_run.injected(case_run.times)
        await until_quiet(deployment.server.conninfo)
        delays = [delay for (delay,) in await deployment.server.fetch(_DELAYS)]
        worst, p99 = max(delays), quantile(delays, 0.99)
        await deployment.settle()
    case_run.fact(
        f"{proxy.dropped_notifications:,} notifications dropped; "
        f"{before_listen} orders arrived before LISTEN"
    )
    case_run.fact(
        f"from creation to outcome: p99 {p99:.2f} s, max {worst:.2f} s; "
        f"poll interval {_POLL_SECONDS:g} s"
    )
    case_run.require_in_time(
        worst <= _POLL_SECONDS + _MARGIN_SECONDS,
        f"{worst:.2f} s, more than the poll interval and {_MARGIN_SECONDS:g} s for processing",
    )


def _over_tcp(conninfo: str) -> str:
    """The PULSE_DATABASE_URL of the proxy."""
    return f"{url_of(conninfo)}&sslmode=disable&gssencmode=disable"


async def _place_apart(case_run: CaseRun, deployment: Deployment) -> int:
    """Place orders at intervals, so that each has its own commit and notification."""
    before_listen = 0
    begun = time.monotonic()
    for number in range(case_run.times):
        await asyncio.sleep(max(0.0, begun + number * _INTERVAL_SECONDS - time.monotonic()))
        if number % _ORDERS_PER_RECONNECT == 0:
            ended = await deployment.server.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'pulse:listener@%%' AND client_addr IS NULL"
                " AND application_name LIKE %s",
                f"%:{deployment.members[-1].pid}",
            )
            before_listen += len(ended)
        await deployment.caller.place()
    return before_listen


CASE: Final = Case(
    name="wake_ups",
    promise="Notifications are lost, or sent before LISTEN takes effect: an order waits at most "
    "one poll interval, plus its processing time",
    at_least=1_000,
    short=60,
    run=run,
)
