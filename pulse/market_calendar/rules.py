"""The rules of a market calendar that the types of its fields cannot express."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pulse.market_calendar.file_format import (
    EARLIEST_DATE,
    LATEST_DATE,
    MAX_COVERAGE_DAYS,
    WEEKDAYS,
    CalendarFile,
    Coverage,
    Exchange,
    Hours,
    Segment,
    Times,
)
from pulse.market_calendar.places import Path


class Fault(NamedTuple):
    """What is wrong with the value at a path."""

    path: Path
    problem: str


class TimeNotUnique(ValueError):
    """On this date the zone's clock skips this time or shows it twice."""


def faults_in(file: CalendarFile) -> Iterator[Fault]:
    """Every broken rule."""
    for name, exchange in (("NSE", file.exchanges.nse), ("BSE", file.exchanges.bse)):
        path: Path = ("exchanges", name)
        yield from _in_zone(path, exchange)
        yield from _in_coverage(path, exchange.coverage)
        yield from _in_segments(path, exchange)
        yield from _in_holidays(path, exchange)
        yield from _in_special_sessions(path, exchange)
        yield from _in_instruments(path, exchange)


def clock_faults_in(file: CalendarFile) -> Iterator[Fault]:
    """Sessions at times that a zone's clock skips or shows twice: at most one fault for each list.

    Call it only if `faults_in` finds nothing.
    """
    for name, exchange in (("NSE", file.exchanges.nse), ("BSE", file.exchanges.bse)):
        zone = zone_of(exchange)
        for path, sessions, dates in _dated_sessions(("exchanges", name), exchange):
            yield from islice(_clock_faults(path, sessions, dates, zone), 1)


def zone_of(exchange: Exchange) -> ZoneInfo:
    """The exchange's time zone.

    Raises:
        ValueError: this machine has no time zone of this name.
    """
    try:
        return ZoneInfo(exchange.time_zone)
    except (KeyError, OSError, ValueError):
        raise ValueError(f"no time zone has the name {exchange.time_zone}") from None


@lru_cache(maxsize=8192)  # segments share hours; the rules and the calendar need the same times
def instant(on: date, at: str, zone: ZoneInfo) -> datetime:
    """This local time as UTC.

    Raises:
        TimeNotUnique: the local time does not exist on that date, or exists twice.
    """
    local = datetime.combine(on, time.fromisoformat(at), zone)
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        raise TimeNotUnique(f"{at} on {on} does not exist in {zone.key}, or exists twice")
    return local.astimezone(UTC)


def midnight(on: date, zone: ZoneInfo) -> datetime:
    """The local midnight with which this date begins, as UTC."""
    return datetime.combine(on, time(), zone).astimezone(UTC)


def trades_on(hours: Hours, on: date) -> bool:
    """Whether these hours have sessions on the weekday of this date."""
    return WEEKDAYS[on.weekday()] in hours.weekdays


def covers(coverage: Coverage, on: date) -> bool:
    """Whether the file is complete for this date."""
    return coverage.starts_on <= on < coverage.before


def _dated_sessions(
    path: Path, exchange: Exchange
) -> Iterator[tuple[Path, Sequence[Times], Iterable[date]]]:
    """Every list of sessions with the dates on which it may apply."""
    for number, special in enumerate(exchange.special_sessions):
        yield (*path, "special_sessions", number, "sessions"), special.sessions, [special.date]
    for segment_number, segment in enumerate(exchange.segments):
        ends = [hours.starts_on for hours in segment.hours[1:]] + [exchange.coverage.before]
        for number, (hours, end) in enumerate(zip(segment.hours, ends, strict=True)):
            here = (*path, "segments", segment_number, "hours", number, "sessions")
            starts_on = max(hours.starts_on, exchange.coverage.starts_on)
            before = min(end, exchange.coverage.before)
            days = (starts_on + timedelta(days=day) for day in range((before - starts_on).days))
            yield here, hours.sessions, (on for on in days if trades_on(hours, on))


def _clock_faults(
    path: Path, sessions: Sequence[Times], dates: Iterable[date], zone: ZoneInfo
) -> Iterator[Fault]:
    for on in dates:
        for number, session in enumerate(sessions):
            try:
                instant(on, session.opens, zone)
                instant(on, session.closes, zone)
            except TimeNotUnique as error:
                yield Fault((*path, number), str(error))


def _in_zone(path: Path, exchange: Exchange) -> Iterator[Fault]:
    try:
        zone_of(exchange)
    except ValueError as error:
        yield Fault((*path, "time_zone"), str(error))


def _in_coverage(path: Path, coverage: Coverage) -> Iterator[Fault]:
    days = (coverage.before - coverage.starts_on).days
    if coverage.starts_on < EARLIEST_DATE or coverage.before > LATEST_DATE:
        yield Fault((*path, "coverage"), f"is not within {EARLIEST_DATE} to {LATEST_DATE}")
    if days <= 0:
        yield Fault((*path, "coverage", "before"), "no date is covered: must be later than `from`")
    elif days > MAX_COVERAGE_DAYS:
        yield Fault(
            (*path, "coverage", "before"),
            f"covers {days:,} days: at most {MAX_COVERAGE_DAYS:,} are allowed",
        )


def _in_segments(path: Path, exchange: Exchange) -> Iterator[Fault]:
    if not exchange.segments:
        yield Fault((*path, "segments"), "is empty: an exchange needs a segment")
    seen: set[str] = set()
    for number, segment in enumerate(exchange.segments):
        here = (*path, "segments", number)
        if segment.name in seen:
            yield Fault((*here, "name"), f"the segment {segment.name} is defined twice")
        seen.add(segment.name)
        yield from _in_hours((*here, "hours"), segment, exchange.coverage)


def _in_hours(path: Path, segment: Segment, coverage: Coverage) -> Iterator[Fault]:
    if not segment.hours:
        yield Fault(path, f"is empty: the segment {segment.name} needs hours")
        return
    first = segment.hours[0].starts_on
    if first > coverage.starts_on:
        yield Fault(
            (*path, 0, "from"),
            f"the hours of {segment.name} start on {first}, after the coverage, which starts on "
            f"{coverage.starts_on}",
        )
    for number, (earlier, later) in enumerate(pairwise(segment.hours), 1):
        if later.starts_on <= earlier.starts_on:
            yield Fault(
                (*path, number, "from"),
                f"{later.starts_on} is not later than the previous entry, {earlier.starts_on}",
            )
    for number, hours in enumerate(segment.hours):
        if not hours.weekdays:
            yield Fault((*path, number, "weekdays"), "is empty")
        for weekday, count in Counter(hours.weekdays).items():
            if count > 1:
                yield Fault((*path, number, "weekdays"), f"{weekday} is listed twice")
        yield from _in_sessions((*path, number, "sessions"), hours.sessions)


def _in_sessions(path: Path, sessions: Sequence[Times]) -> Iterator[Fault]:
    if not sessions:
        yield Fault(path, "is empty")
    # seconds are optional, so 09:15 and 09:15:00 are the same time and different strings
    parsed = [(time.fromisoformat(s.opens), time.fromisoformat(s.closes)) for s in sessions]
    for number, ((opens, closes), session) in enumerate(zip(parsed, sessions, strict=True)):
        if closes <= opens:
            yield Fault(
                (*path, number),
                f"the session closes at {session.closes}, not after it opens at {session.opens}",
            )
    for number, ((_, closes), (opens, _)) in enumerate(pairwise(parsed), 1):
        if opens < closes:
            yield Fault(
                (*path, number),
                f"the session opens at {sessions[number].opens}, before the previous one closes "
                f"at {sessions[number - 1].closes}: sessions overlap or are not in order",
            )


def _in_holidays(path: Path, exchange: Exchange) -> Iterator[Fault]:
    seen: set[date] = set()
    for number, holiday in enumerate(exchange.holidays):
        here = (*path, "holidays", number, "date")
        yield from _outside(here, f"the holiday {holiday.name}", holiday.date, exchange.coverage)
        if holiday.date in seen:
            yield Fault(here, f"{holiday.date} is listed twice")
        seen.add(holiday.date)


def _in_special_sessions(path: Path, exchange: Exchange) -> Iterator[Fault]:
    names = [segment.name for segment in exchange.segments]
    seen: set[tuple[date, str]] = set()
    for number, special in enumerate(exchange.special_sessions):
        here = (*path, "special_sessions", number)
        what = f"the special sessions {special.name}"
        yield from _outside((*here, "date"), what, special.date, exchange.coverage)
        for position, name in enumerate(special.segments):
            if name not in names:
                yield Fault((*here, "segments", position), f"no segment has the name {name}")
        for name in special.segments or names:
            if (special.date, name) in seen:
                yield Fault((*here, "date"), f"{special.date} is listed twice for {name}")
            seen.add((special.date, name))
        yield from _in_sessions((*here, "sessions"), special.sessions)


def _in_instruments(path: Path, exchange: Exchange) -> Iterator[Fault]:
    names = {segment.name for segment in exchange.segments}
    seen: set[str] = set()
    for number, mapping in enumerate(exchange.instruments):
        here = (*path, "instruments", number)
        if mapping.segment not in names:
            yield Fault((*here, "segment"), f"no segment has the name {mapping.segment}")
        for position, symbol in enumerate(mapping.symbols):
            if symbol in seen:
                yield Fault((*here, "symbols", position), f"{symbol} is listed twice")
            seen.add(symbol)


def _outside(path: Path, what: str, on: date, coverage: Coverage) -> Iterator[Fault]:
    if not covers(coverage, on):
        yield Fault(
            path,
            f"{what}: {on} is outside the coverage, from {coverage.starts_on} to before "
            f"{coverage.before}",
        )
