"""RFC 3339 times: parsed with any offset and any number of fraction digits, formatted in UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,6})([0-9]*))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_MICROSECOND: Final = timedelta(microseconds=1)


def parse_time(text: str) -> datetime:
    """The time in UTC. A fraction finer than a microsecond is rounded up.

    A parsed time is often a bound for stored times, which are whole microseconds. So rounding it up
    changes the result of neither `stored >= bound` nor `stored < bound`.

    Raises:
        ValueError: the text is not an RFC 3339 time, or lies outside the years 1 to 9999 in UTC.
    """
    found = _TIME.fullmatch(text.upper())
    if found is None:
        raise ValueError("not an RFC 3339 time")
    seconds, microseconds, finer, zone = found.groups()
    fraction = f".{microseconds}" if microseconds else ""
    try:
        time = datetime.fromisoformat(f"{seconds}{fraction}{zone}").astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999 in UTC") from None
    if finer and finer.strip("0") and time < datetime.max.replace(tzinfo=UTC):
        time += _MICROSECOND
    return time


def format_time(time: datetime) -> str:
    """The time as in JSON answers: in UTC with `Z`, without a fraction where it is zero."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
