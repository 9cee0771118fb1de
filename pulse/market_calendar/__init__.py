"""The market calendar: trading sessions by exchange, segment and date, read from a JSON file."""

from pulse.market_calendar.calendar import MarketCalendar, SegmentDay, TradingDay
from pulse.market_calendar.reading import SHIPPED, MarketCalendarInvalid, load

__all__ = [
    "SHIPPED",
    "MarketCalendar",
    "MarketCalendarInvalid",
    "SegmentDay",
    "TradingDay",
    "load",
]
