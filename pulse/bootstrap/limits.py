"""The limits that the settings ask for."""

from pulse.http.limits import Limits, RateLimiter
from pulse.http.rate_limited import ASGIApp, RateLimited
from pulse.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """How much this process takes at a time, whoever asks."""
    return Limits(
        requests_in_flight=settings.max_requests_in_flight,
        body_seconds=settings.body_timeout_seconds,
    )


def internal_rate_limit(api: ASGIApp, settings: Settings) -> ASGIApp:
    """The internal API, limited for each caller where that is asked for."""
    per_second = settings.internal_rate_limit_per_second
    if not per_second:
        return api
    return RateLimited(api, RateLimiter(per_second, settings.rate_limit_burst_seconds))
