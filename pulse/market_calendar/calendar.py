"""Looks up trading sessions. All covered sessions are computed once, when a calendar is loaded."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import reduce
from hashlib import sha256
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from pulse.domain.sessions import OutsideCoverage, Session
from pulse.errors import PulseError
from pulse.market_calendar.file_format import (
    WEEKDAYS,
    CalendarFile,
    Exchange,
    Holiday,
    Hours,
    Segment,
    SpecialSessions,
    Times,
)
from pulse.market_calendar.rules import covers, instant, midnight, trades_on, zone_of

_ONE_DAY: Final = timedelta(days=1)


class SegmentDay(msgspec.Struct, frozen=True):
    """The sessions of one segment on one date, empty if it is closed.

    `segment` is None for instruments that are not mapped to a segment. `source` is that of the
    special sessions, the holiday or the regular hours, whichever applies.
    """

    segment: str | None
    sessions: tuple[Session, ...]
    special: str | None
    source: str | None


class TradingDay(msgspec.Struct, frozen=True):
    """One date of one exchange. `holiday` is its name; special sessions are still possible.

    The last of `segments` is for instruments that are not mapped.
    """

    exchange: str
    date: date
    time_zone: str
    holiday: str | None
    segments: tuple[SegmentDay, ...]

    @property
    def is_open(self) -> bool:
        """Whether any segment has a session."""
        return any(segment.sessions for segment in self.segments)


class _SessionIndex(NamedTuple):
    """All sessions of a segment, oldest first, with their bounds for binary search."""

    sessions: tuple[Session, ...]
    opens: tuple[datetime, ...]
    closes: tuple[datetime, ...]

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> "_SessionIndex":
        return cls(
            tuple(sessions),
            tuple(session.opens_at for session in sessions),
            tuple(session.closes_at for session in sessions),
        )

    def overlapping(self, starts_at: datetime, until: datetime) -> tuple[Session, ...]:
        if until <= starts_at:
            return ()
        first, end = bisect_right(self.closes, starts_at), bisect_left(self.opens, until)
        return self.sessions[first:end]


class _ExchangeCalendar:
    """One exchange of the file, indexed."""

    def __init__(self, name: str, exchange: Exchange) -> None:
        self.name = name
        self.exchange = exchange
        self.zone = zone_of(exchange)
        coverage = exchange.coverage
        self.covered_from = midnight(coverage.starts_on, self.zone)
        self.covered_before = midnight(coverage.before, self.zone)
        self._holidays = {holiday.date: holiday for holiday in exchange.holidays}
        self._special = {
            (special.date, segment): special
            for special in exchange.special_sessions
            for segment in special.segments or [segment.name for segment in exchange.segments]
        }
        self._hours_from = {
            segment.name: [hours.starts_on for hours in segment.hours]
            for segment in exchange.segments
        }
        days = [self.day(on) for on in self._dates()]
        *mapped, self.not_mapped = [
            _SessionIndex.of(
                list(chain.from_iterable(day.segments[number].sessions for day in days))
            )
            for number in range(len(exchange.segments) + 1)
        ]
        by_segment = {
            segment.name: index for segment, index in zip(exchange.segments, mapped, strict=True)
        }
        self.segment_of = {
            f"{name}:{symbol}": mapping.segment
            for mapping in exchange.instruments
            for symbol in mapping.symbols
        }
        self.mapped = {
            instrument: by_segment[segment] for instrument, segment in self.segment_of.items()
        }

    def day(self, on: date) -> TradingDay:
        """The sessions of this date, which must be covered."""
        holiday = self._holidays.get(on)
        segments = [self._segment_day(segment, on, holiday) for segment in self.exchange.segments]
        common = reduce(_overlaps, (segment.sessions for segment in segments))
        return TradingDay(
            exchange=self.name,
            date=on,
            time_zone=self.zone.key,
            holiday=holiday.name if holiday else None,
            segments=(*segments, SegmentDay(None, common, None, None)),
        )

    def _segment_day(self, segment: Segment, on: date, holiday: Holiday | None) -> SegmentDay:
        special = self._special.get((on, segment.name))
        entry: SpecialSessions | Holiday | Hours | None = special or holiday
        times: tuple[Times, ...] = special.sessions if special else ()
        if entry is None:
            entry = hours = self._hours(segment, on)
            times = hours.sessions if trades_on(hours, on) else ()
        return SegmentDay(
            segment=segment.name,
            sessions=tuple(
                Session(
                    opens_at=instant(on, one.opens, self.zone),
                    closes_at=instant(on, one.closes, self.zone),
                )
                for one in times
            ),
            special=special.name if special else None,
            source=entry.source,
        )

    def _hours(self, segment: Segment, on: date) -> Hours:
        return segment.hours[bisect_right(self._hours_from[segment.name], on) - 1]

    def _dates(self) -> Iterator[date]:
        on, before = self.exchange.coverage.starts_on, self.exchange.coverage.before
        while on < before:
            yield on
            on += _ONE_DAY


class MarketCalendar:
    """Trading sessions by instrument; a `SessionCalendar` of the domain. Immutable, no clock.

    An instrument that is not mapped to a segment trades while every segment of its exchange trades.
    """

    def __init__(self, file: CalendarFile) -> None:
        """Index a file in which no rule is broken."""
        self._digest = _digest_of(file)
        exchanges = {"NSE": file.exchanges.nse, "BSE": file.exchanges.bse}
        self._exchanges = {name: _ExchangeCalendar(name, one) for name, one in exchanges.items()}
        self._mapped = {
            instrument: (exchange, index)
            for exchange in self._exchanges.values()
            for instrument, index in exchange.mapped.items()
        }

    @property
    def digest(self) -> str:
        """The SHA-256 of the content, in hex. White space and the order of entries are ignored."""
        return self._digest

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The names of the exchanges."""
        return tuple(self._exchanges)

    def sessions(
        self, instrument: str, starts_at: datetime, until: datetime
    ) -> tuple[Session, ...]:
        """The sessions that overlap [starts_at, until), oldest first.

        Raises:
            OutsideCoverage: the calendar does not cover the whole range.
        """
        found = self._mapped.get(instrument)
        if found is None:
            exchange = self._exchange(instrument.partition(":")[0])
            found = exchange, exchange.not_mapped
        exchange, index = found
        if starts_at < exchange.covered_from or until > exchange.covered_before:
            raise OutsideCoverage(exchange.covered_from, exchange.covered_before)
        return index.overlapping(starts_at, until)

    def segment_of(self, instrument: str) -> str | None:
        """The segment that the file maps this instrument to."""
        return self._exchange(instrument.partition(":")[0]).segment_of.get(instrument)

    def coverage(self, exchange: str) -> tuple[date, date]:
        """The first covered date, and the date before which the coverage ends."""
        coverage = self._exchange(exchange).exchange.coverage
        return coverage.starts_on, coverage.before

    def today(self, exchange: str, now: datetime) -> date:
        """The exchange's local date at this time."""
        return now.astimezone(self._exchange(exchange).zone).date()

    def day(self, exchange: str, on: date) -> TradingDay:
        """The sessions of one date.

        Raises:
            OutsideCoverage: the calendar does not cover this date.
        """
        found = self._exchange(exchange)
        if not covers(found.exchange.coverage, on):
            raise OutsideCoverage(found.covered_from, found.covered_before)
        return found.day(on)

    def _exchange(self, name: str) -> _ExchangeCalendar:
        try:
            return self._exchanges[name]
        except KeyError:
            known = " and ".join(self._exchanges)
            raise PulseError(
                f"no exchange has the name {name}: the market calendar has {known}"
            ) from None


def _overlaps(one: tuple[Session, ...], other: tuple[Session, ...]) -> tuple[Session, ...]:
    """The times at which both have a session."""
    bounds = (
        (max(a.opens_at, b.opens_at), min(a.closes_at, b.closes_at)) for a in one for b in other
    )
    return tuple(
        Session(opens_at=opens, closes_at=closes) for opens, closes in bounds if opens < closes
    )


def _digest_of(file: CalendarFile) -> str:
    exchanges = file.exchanges
    canonical = {
        "format": file.format,
        "exchanges": {"NSE": _canonical(exchanges.nse), "BSE": _canonical(exchanges.bse)},
    }
    return sha256(msgspec.json.encode(canonical, order="sorted")).hexdigest()


def _canonical(exchange: Exchange) -> dict[str, object]:
    """The content of one exchange in canonical form."""
    return {
        "time_zone": exchange.time_zone,
        "coverage": exchange.coverage,
        "segments": {
            segment.name: [
                {
                    "from": hours.starts_on,
                    "weekdays": sorted(hours.weekdays, key=WEEKDAYS.index),
                    "sessions": _canonical_times(hours.sessions),
                    "source": hours.source,
                }
                for hours in segment.hours
            ]
            for segment in exchange.segments
        },
        "holidays": sorted(
            (holiday.date.isoformat(), holiday.name, holiday.source)
            for holiday in exchange.holidays
        ),
        "special_sessions": sorted(
            (
                special.date.isoformat(),
                sorted(special.segments or (segment.name for segment in exchange.segments)),
                _canonical_times(special.sessions),
                special.name,
                special.source,
            )
            for special in exchange.special_sessions
        ),
        "instruments": sorted(
            (symbol, mapping.segment, mapping.source)
            for mapping in exchange.instruments
            for symbol in mapping.symbols
        ),
    }


def _canonical_times(sessions: Sequence[Times]) -> list[tuple[str, str]]:
    return [(f"{one.opens}:00"[:8], f"{one.closes}:00"[:8]) for one in sessions]
