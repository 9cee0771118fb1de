"""`pulse calendar`: shows the trading sessions of a day, and checks a market calendar file."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec
import typer
from rich.text import Text

from pulse.application.origin import system_clock
from pulse.cli.exits import FAILURE
from pulse.cli.terminal import AsJson, echo, group, output
from pulse.domain.order_request import Instrument
from pulse.domain.sessions import OutsideCoverage, Session
from pulse.errors import PulseError
from pulse.market_calendar import (
    SHIPPED,
    MarketCalendar,
    MarketCalendarInvalid,
    SegmentDay,
    TradingDay,
    load,
)
from pulse.printable import printable
from pulse.process.startup import settings_from_environment

_ONE_DAY: Final = timedelta(days=1)
_QUARTER_MINUTES: Final = 15
_QUARTERS_AN_HOUR: Final = 4
_NOT_MAPPED: Final = "(not mapped)"
_BAD: Final = "bold red"


def show(
    *,
    date_: Annotated[
        str | None,
        typer.Option("--date", metavar="YYYY-MM-DD", help="Default: today at the exchange."),
    ] = None,
    exchange: Annotated[
        str | None, typer.Option(help="NSE or BSE; by default both.", metavar="NAME")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(help="Only this instrument, such as NSE:RELIANCE.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the trading sessions of a day, and where they come from.

    Reads the market calendar that orders use: PULSE_MARKET_CALENDAR, or the one
    that is shipped. Shows the sessions of each segment in local time and in UTC,
    a bar of the day, the holiday or special sessions, and the source of each. An
    instrument that the calendar does not map to a segment trades while every
    segment of its exchange does. On a closed day, shows the next day with
    sessions. Needs no database.

    Exit codes: 0 shown. 1 the calendar cannot be used or does not cover the day,
    or the name is unknown. 2 wrong usage or settings.

    Example:
      pulse calendar show --date 2026-12-07
      pulse calendar show --date 2026-11-08 --instrument NSE:RELIANCE
    """
    path = settings_from_environment().market_calendar
    calendar = load_calendar(path)
    if instrument is not None:
        exchange = _exchange_of(instrument, exchange)
    names = calendar.exchanges if exchange is None else (exchange,)
    days = [_day(calendar, name, _date_of(calendar, name, date_)) for name in names]
    if as_json:
        echo(msgspec.json.encode(_as_json(calendar, days, instrument)))
        return
    console = output()
    console.print(f"{path or SHIPPED}, sha256 {calendar.digest[:12]}", style="dim")
    for day in days:
        for line in _lines(calendar, day, instrument):
            console.print(line)


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A market calendar file.")],
) -> None:
    """Check a market calendar file, and list every error with its line.

    A valid file is summarised: its digest, and what it covers. A process that
    starts with an invalid file in PULSE_MARKET_CALENDAR exits with the same
    errors. Needs no database, and changes nothing.

    Exit codes: 0 the file is valid, 1 it has errors or cannot be read, 2 wrong
    usage.

    Example:
      pulse calendar check /etc/pulse/calendar-2027.json
    """
    console = output()
    try:
        calendar = load(file)
    except MarketCalendarInvalid as error:
        for fault in error.faults:
            console.print(Text(printable(f"{file}: {fault}"), _BAD))
        raise typer.Exit(FAILURE) from None
    console.print(Text(printable(f"{file} is valid"), "green"))
    console.print(f"sha256 {calendar.digest}")
    for name in calendar.exchanges:
        starts_on, before = calendar.coverage(name)
        console.print(f"{name} covers {starts_on} to {before - _ONE_DAY}")


def load_calendar(path: Path | None) -> MarketCalendar:
    """The calendar. The error for an invalid file names only its first fault, in one line."""
    try:
        return load(path)
    except MarketCalendarInvalid as error:
        raise PulseError(
            f"{error.name} cannot be used: {error.faults[0]}; `pulse calendar check` lists every "
            "error"
        ) from None


def _exchange_of(instrument: str, exchange: str | None) -> str:
    try:
        msgspec.convert(instrument, Instrument)
    except msgspec.ValidationError:
        raise typer.BadParameter(
            "expected EXCHANGE:SYMBOL, such as NSE:RELIANCE", param_hint="--instrument"
        ) from None
    of_instrument = instrument.partition(":")[0]
    if exchange not in {None, of_instrument}:
        raise typer.BadParameter(
            f"{instrument} does not belong to this exchange", param_hint="--exchange"
        )
    return of_instrument


def _date_of(calendar: MarketCalendar, exchange: str, text: str | None) -> date:
    if text is None:
        return calendar.today(exchange, system_clock())
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            "expected a date, such as 2026-12-07", param_hint="--date"
        ) from None


def _day(calendar: MarketCalendar, exchange: str, on: date) -> TradingDay:
    try:
        return calendar.day(exchange, on)
    except OutsideCoverage:
        starts_on, before = calendar.coverage(exchange)
        raise PulseError(
            f"the market calendar covers {exchange} from {starts_on} to {before - _ONE_DAY}, not "
            f"{on}: docs/how-to/replace-the-market-calendar.md says how to use a newer file"
        ) from None


def _shown(
    calendar: MarketCalendar, day: TradingDay, instrument: str | None
) -> tuple[SegmentDay, ...]:
    """The segments to show: all, or the one of the instrument."""
    if instrument is None:
        return day.segments
    mapped_to = calendar.segment_of(instrument)
    return tuple(one for one in day.segments if one.segment == mapped_to)


def _lines(calendar: MarketCalendar, day: TradingDay, instrument: str | None) -> Iterator[Text]:
    segments = _shown(calendar, day, instrument)
    # an instrument that is not mapped depends on every segment
    relevant = day.segments if None in [one.segment for one in segments] else segments
    zone = ZoneInfo(day.time_zone)
    yield Text("")
    yield Text(f"{day.exchange}  {day.date:%A} {day.date}, {day.time_zone}", "bold")
    if day.holiday:
        yield Text(f"  holiday: {printable(day.holiday)}", "yellow")
    for name in dict.fromkeys(one.special for one in relevant if one.special):
        yield Text(f"  special sessions: {printable(name)}", "yellow")
    width = max(len(one.segment or _NOT_MAPPED) for one in segments)
    for one in segments:
        yield _segment_line(one, width, zone)
    yield from _bars(segments, width, zone)
    yield from _sources(relevant)
    if instrument is not None and calendar.segment_of(instrument) is None:
        yield Text(f"  {instrument} is not mapped to a segment: it trades while every segment does")
    if not any(one.sessions for one in segments):
        yield from _next_day(calendar, day, instrument)


def _sources(segments: Sequence[SegmentDay]) -> Iterator[Text]:
    """Each source once, with its segments if there are several sources."""
    names: dict[str, list[str]] = {}
    for one in segments:
        if one.segment is not None and one.source is not None:
            names.setdefault(one.source, []).append(one.segment)
    for source, found in names.items():
        whose = f" of {', '.join(found)}" if len(names) > 1 else ""
        yield Text(f"  source{whose}: {printable(source)}", "dim")


def _segment_line(one: SegmentDay, width: int, zone: ZoneInfo) -> Text:
    line = Text(f"  {one.segment or _NOT_MAPPED:<{width}}  ")
    if not one.sessions:
        return line.append("closed", "red")
    local = ", ".join(_clock_times(session, zone) for session in one.sessions)
    utc = ", ".join(_clock_times(session, ZoneInfo("UTC")) for session in one.sessions)
    return line.append(local, "green").append(f"  ({utc} UTC)", "dim")


def _clock_times(session: Session, zone: ZoneInfo) -> str:
    opens, closes = (at.astimezone(zone) for at in (session.opens_at, session.closes_at))
    with_seconds = opens.second or closes.second
    form = "%H:%M:%S" if with_seconds else "%H:%M"
    return f"{opens:{form}} to {closes:{form}}"


def _bars(segments: Sequence[SegmentDay], width: int, zone: ZoneInfo) -> Iterator[Text]:
    """A scale of hours, and below it a bar for each segment: `=` is a quarter of an hour."""
    quarters = {
        one.segment: [_quarters(session, zone) for session in one.sessions] for one in segments
    }
    bounds = [bound for one in quarters.values() for bounds in one for bound in bounds]
    if not bounds:
        return
    first = min(bounds) // _QUARTERS_AN_HOUR
    last = -(-max(bounds) // _QUARTERS_AN_HOUR)
    scale = "".join(f"{hour:02}  " for hour in range(first, last + 1))
    yield Text(f"  {'':<{width}}  {scale.rstrip()}", "dim")
    for name, spans in quarters.items():
        cells = [" "] * (_QUARTERS_AN_HOUR * (last - first))
        for opens, closes in spans:
            for quarter in range(opens, closes):
                cells[quarter - first * _QUARTERS_AN_HOUR] = "="
        bar = "".join(cells).rstrip()
        yield Text(f"  {name or _NOT_MAPPED:<{width}}  ").append(bar, "green")


def _quarters(session: Session, zone: ZoneInfo) -> tuple[int, int]:
    """The first quarter of the local day in which it trades, and the one after the last."""
    opens, closes = (at.astimezone(zone) for at in (session.opens_at, session.closes_at))
    minutes = opens.hour * 60 + opens.minute, closes.hour * 60 + closes.minute
    return minutes[0] // _QUARTER_MINUTES, -(-minutes[1] // _QUARTER_MINUTES)


def _next_day(calendar: MarketCalendar, day: TradingDay, instrument: str | None) -> Iterator[Text]:
    on, before = day.date + _ONE_DAY, calendar.coverage(day.exchange)[1]
    while on < before:
        found = calendar.day(day.exchange, on)
        for one in _shown(calendar, found, instrument):
            if one.sessions:
                opens = one.sessions[0].opens_at.astimezone(ZoneInfo(day.time_zone))
                yield Text(f"  next: {on:%A} {on}, {opens:%H:%M}")
                return
        on += _ONE_DAY
    yield Text(f"  no later day with sessions is covered: the coverage ends before {before}")


def _as_json(
    calendar: MarketCalendar, days: Sequence[TradingDay], instrument: str | None
) -> dict[str, object]:
    return {
        "digest": calendar.digest,
        "days": [
            msgspec.structs.replace(day, segments=_shown(calendar, day, instrument)) for day in days
        ],
    }


calendar = group(
    "calendar",
    "The market calendar: when the exchanges trade.",
    "Exit codes: 0 success, 1 the calendar cannot be used or does not cover the day, 2 wrong usage "
    "or settings.",
    (show, check),
)
