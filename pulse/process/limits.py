"""The limits that the settings ask for."""

from typing import Final

from pulse.http.limits import Limits, RateLimiter
from pulse.http.rate_limited import RateLimited
from pulse.http.root import ASGIApp
from pulse.settings import Settings

_CALLERS_TO_FILL_IT: Final = 8
"""How many callers it takes at least to have every place of a process."""


def limits_of(settings: Settings) -> Limits:
    """How much this process takes at a time, of all callers together."""
    return Limits(
        requests_in_flight=settings.max_requests_in_flight,
        bodies_in_progress=settings.max_requests_in_flight,
        body_seconds=settings.body_timeout_seconds,
    )


def rate_limited(app: ASGIApp, per_second: float, settings: Settings) -> ASGIApp:
    """The application, limited for each caller where that is asked for."""
    if not per_second:
        return app
    limiter = RateLimiter(per_second, settings.rate_limit_burst_seconds)
    most_at_once = max(1, settings.max_requests_in_flight // _CALLERS_TO_FILL_IT)
    return RateLimited(app, limiter, most_at_once)
