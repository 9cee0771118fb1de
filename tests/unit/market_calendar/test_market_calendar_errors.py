"""Every error in a market calendar file is named with its line and its entry."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pulse.market_calendar import MarketCalendarInvalid, load
from pulse.market_calendar.reading import MAX_BYTES, parse
from tests.support.calendars import (
    NAME,
    calendar_file,
    exchange,
    holiday,
    hours,
    mapping,
    segment,
    special,
    text_of,
    times,
)

HOLIDAYS = "exchanges.NSE.holidays"
SEGMENTS = "exchanges.NSE.segments"
SPECIAL = "exchanges.NSE.special_sessions"


def faults_of(data: bytes | str) -> tuple[str, ...]:
    with pytest.raises(MarketCalendarInvalid) as refused:
        parse(data.encode() if isinstance(data, str) else data, NAME)
    assert str(refused.value).startswith(f"{NAME} cannot be used:\n  ")
    assert all(fault in str(refused.value) for fault in refused.value.faults)
    return refused.value.faults


def faults_of_nse(**changes: Any) -> tuple[str, ...]:
    return faults_of(text_of(calendar_file(exchange(**changes))))


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"segments": [segment("A", hours("2026-01-01", ("09:00", "12:00"), ("11:59", "15:00")))]},
        (
            f"{SEGMENTS}[0].hours[0].sessions[1]: the session opens at 11:59, before "
            "the previous one closes at 12:00: sessions overlap or are not in order"
        ),
    ),
    (
        {"segments": [segment("A", hours("2026-01-01", ("15:30", "09:15")))]},
        (
            f"{SEGMENTS}[0].hours[0].sessions[0]: the session closes at 09:15, not "
            "after it opens at 15:30"
        ),
    ),
    (
        {"segments": [segment("A", hours("2026-01-01", ("09:15", "09:15:00")))]},
        (
            f"{SEGMENTS}[0].hours[0].sessions[0]: the session closes at 09:15:00, "
            "not after it opens at 09:15"
        ),
    ),
    (
        {"segments": [segment("A", hours() | {"sessions": []})]},
        f"{SEGMENTS}[0].hours[0].sessions: is empty",
    ),
    (
        {"segments": [segment("A", hours() | {"weekdays": []})]},
        f"{SEGMENTS}[0].hours[0].weekdays: is empty",
    ),
    (
        {"segments": [segment("A", hours() | {"weekdays": ["MON", "MON"]})]},
        f"{SEGMENTS}[0].hours[0].weekdays: MON is listed twice",
    ),
    (
        {"segments": [segment("A", hours("2026-01-02"))]},
        (
            f"{SEGMENTS}[0].hours[0].from: the hours of A start on 2026-01-02, after the coverage, "
            "which starts on 2026-01-01"
        ),
    ),
    (
        {"segments": [segment("A", hours(), hours("2026-01-01"))]},
        f"{SEGMENTS}[0].hours[1].from: 2026-01-01 is not later than the previous entry, 2026-01-01",
    ),
    (
        {"segments": [{"name": "A", "hours": []}]},
        f"{SEGMENTS}[0].hours: is empty: the segment A needs hours",
    ),
    (
        {"segments": [segment("A"), segment("A")]},
        f"{SEGMENTS}[1].name: the segment A is defined twice",
    ),
    ({"segments": []}, f"{SEGMENTS}: is empty: an exchange needs a segment"),
    (
        {"time_zone": "Asia/Bombai"},
        "exchanges.NSE.time_zone: no time zone has the name Asia/Bombai",
    ),
    ({"time_zone": "Asia"}, "exchanges.NSE.time_zone: no time zone has the name Asia"),
    (
        {"time_zone": "/etc/passwd"},
        "exchanges.NSE.time_zone: no time zone has the name /etc/passwd",
    ),
    (
        {"coverage": {"from": "2026-01-01", "before": "2026-01-01", "source": "a test"}},
        "exchanges.NSE.coverage.before: no date is covered: must be later than `from`",
    ),
    (
        {"coverage": {"from": "2026-01-01", "before": "2099-01-01", "source": "a test"}},
        "exchanges.NSE.coverage.before: covers 26,663 days: at most 3,660 are allowed",
    ),
    (
        {
            "coverage": {"from": "1999-12-31", "before": "2000-01-02", "source": "a test"},
            "segments": [segment("A", hours("1999-01-01"))],
        },
        "exchanges.NSE.coverage: is not within 2000-01-01 to 2100-01-01",
    ),
    (
        {"coverage": {"from": "2026-01-01", "source": "a test"}},
        "exchanges.NSE.coverage: lacks before",
    ),
    (
        {"holidays": [holiday("2026-03-03"), holiday("2026-03-03")]},
        f"{HOLIDAYS}[1].date: 2026-03-03 is listed twice",
    ),
    (
        {"holidays": [holiday("2027-01-01", "New Year")]},
        (
            f"{HOLIDAYS}[0].date: the holiday New Year: 2027-01-01 is outside the coverage, from "
            "2026-01-01 to before 2027-01-01"
        ),
    ),
    (
        {"special_sessions": [special("2025-12-31", ("09:15", "10:00"))]},
        (
            f"{SPECIAL}[0].date: the special sessions Special: 2025-12-31 is outside the coverage, "
            "from 2026-01-01 to before 2027-01-01"
        ),
    ),
    (
        {"special_sessions": [special("2026-03-03", ("09:15", "10:00"))] * 2},
        f"{SPECIAL}[1].date: 2026-03-03 is listed twice for EQUITY",
    ),
    (
        {"special_sessions": [special("2026-03-03", ("09:15", "10:00"), segments=("BONDS",))]},
        f"{SPECIAL}[0].segments[0]: no segment has the name BONDS",
    ),
    (
        {"special_sessions": [special("2026-03-03", ("09:15", "10:00"), ("09:30", "11:00"))]},
        (
            f"{SPECIAL}[0].sessions[1]: the session opens at 09:30, before the "
            "previous one closes at 10:00: sessions overlap or are not in order"
        ),
    ),
    ({"special_sessions": [special("2026-03-03")]}, f"{SPECIAL}[0].sessions: is empty"),
    (
        {"instruments": [mapping("BONDS", "TCS")]},
        "exchanges.NSE.instruments[0].segment: no segment has the name BONDS",
    ),
    (
        {"instruments": [mapping("EQUITY", "TCS"), mapping("EQUITY", "INFY", "TCS")]},
        "exchanges.NSE.instruments[1].symbols[1]: TCS is listed twice",
    ),
    (
        {"instruments": [mapping("EQUITY", "NSE:TCS")]},
        (
            "exchanges.NSE.instruments[0].symbols[0]: expected an entry of an array "
            "of symbols of A-Z, 0-9, & and -, such as RELIANCE"
        ),
    ),
    (
        {"holidays": [holiday("2026-02-30")]},
        f"{HOLIDAYS}[0].date: expected a date, such as 2026-01-26",
    ),
    (
        {"holidays": [{"date": "2026-03-03", "name": "Holi"}]},
        f"{HOLIDAYS}[0]: lacks source",
    ),
    (
        {"holidays": [holiday("2026-03-03") | {"source": ""}]},
        f"{HOLIDAYS}[0].source: expected 1 to 500 characters that say where the entry comes from",
    ),
    (
        {"holidays": [holiday("2026-03-03") | {"sorce": "x"}]},
        f"{HOLIDAYS}[0].sorce: is unknown: expected only date, name, source",
    ),
    (
        {"holidays": [7]},
        f"{HOLIDAYS}[0]: expected an entry of an array of objects with date, name and source",
    ),
    ({"holidays": {}}, f"{HOLIDAYS}: expected an array of objects with date, name and source"),
    (
        {"segments": [segment("A", hours() | {"weekdays": ["MONDAY"]})]},
        (
            f"{SEGMENTS}[0].hours[0].weekdays[0]: expected an entry of an array of "
            "MON, TUE, WED, THU, FRI, SAT, SUN"
        ),
    ),
    (
        {"segments": [segment("A", hours("2026-01-01", ("9:15", "15:30")))]},
        f"{SEGMENTS}[0].hours[0].sessions[0].opens: expected a time, such as 09:15 or 09:15:00",
    ),
    (
        {"segments": [segment("A", hours("2026-01-01", ("09:15", "24:00")))]},
        f"{SEGMENTS}[0].hours[0].sessions[0].closes: expected a time, such as 15:30 or 15:30:00",
    ),
    (
        {"open_at": "09:15"},
        (
            "exchanges.NSE.open_at: is unknown: expected only time_zone, coverage, "
            "segments, holidays, special_sessions, instruments"
        ),
    ),
]


@pytest.mark.parametrize(("changes", "expected"), WRONG, ids=lambda one: str(one)[:60])
def test_an_error_is_named_with_its_entry(changes: dict[str, Any], expected: str) -> None:
    (fault,) = faults_of_nse(**changes)
    line, _, text = fault.partition(": ")
    assert text == expected
    assert line.startswith("line ")


def test_an_error_in_line_700_is_named_with_this_line() -> None:
    days = [f"2026-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 29)]
    text = text_of(calendar_file(exchange(holidays=[holiday(on) for on in days])))
    lines = text.splitlines()
    entry = next(number for number in range(699, 0, -1) if '"date"' in lines[number])
    lines[entry] = '"date": "2026-13-01",'
    padded = [*lines[:1], *[""] * (699 - entry), *lines[1:]]
    (fault,) = faults_of("\n".join(padded))
    assert fault.startswith(f"line 700: {HOLIDAYS}[")
    assert fault.endswith("].date: expected a date, such as 2026-01-26")


def test_every_error_is_listed_in_the_order_of_the_file() -> None:
    nse = exchange(
        holidays=[holiday("2026-02-30"), holiday("2026-03-03"), {"date": "2026-03-04"}],
        segments=[segment("A", hours("2026-01-01", ("9", "15:30"), ("16:00", "x")))],
    )
    bse = exchange(time_zone=5)
    faults = faults_of(text_of(calendar_file(nse, bse)))
    assert [fault.partition(": ")[2].partition(": ")[0] for fault in faults] == [
        f"{SEGMENTS}[0].hours[0].sessions[0].opens",
        f"{SEGMENTS}[0].hours[0].sessions[1].closes",
        f"{HOLIDAYS}[0].date",
        f"{HOLIDAYS}[2]",
        "exchanges.BSE.time_zone",
    ]
    numbers = [int(fault.split()[1].rstrip(":")) for fault in faults]
    assert numbers == sorted(numbers)


def test_a_value_that_is_missing_has_the_line_of_its_object() -> None:
    text = text_of(calendar_file(exchange(holidays=[{"date": "2026-03-03", "name": "Holi"}])))
    line = 1 + next(
        number for number, one in enumerate(text.splitlines()) if '"date": "2026-03-03"' in one
    )
    assert faults_of(text)[0].startswith(f"line {line - 1}: {HOLIDAYS}[0]: ")


def test_no_more_than_100_errors_are_listed() -> None:
    faults = faults_of_nse(holidays=[holiday("2027-01-01")] * 300)
    assert len(faults) == 101
    assert faults[-1].startswith("and ")


def _without(name: str) -> Callable[[], str]:
    def text() -> str:
        file = calendar_file()
        del file["exchanges"][name]
        return text_of(file)

    return text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (lambda: "[]", "line 1: the file: expected an object with format and exchanges"),
        (lambda: "7", "line 1: the file: expected an object with format and exchanges"),
        (lambda: "{}", "line 1: the file: lacks format, exchanges"),
        (
            lambda: text_of(calendar_file() | {"format": 2}),
            "line 2: format: expected the number 1",
        ),
        (_without("BSE"), "line 3: exchanges: lacks BSE"),
        (_without("NSE"), "line 3: exchanges: lacks NSE"),
        (
            lambda: text_of(calendar_file(nse=7)),
            "line 4: exchanges.NSE: expected an object with the calendar of this exchange",
        ),
        (lambda: "", "line 1: not JSON: Input data was truncated"),
        (lambda: '{\n"format": 1,\n\n', "line 4: not JSON: Input data was truncated"),
        (lambda: '{\n"format": 1,\n?\n}', "line 3: not JSON: JSON is malformed: "),
        (lambda: "[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_file_that_is_not_a_calendar_is_named(text: Callable[[], str], expected: str) -> None:
    (fault,) = faults_of(text())
    assert fault.startswith(expected)


def test_a_file_that_is_not_utf_8_is_named_with_its_line() -> None:
    assert faults_of(b'{\n"format": "\xff"}') == ("line 2: not UTF-8",)


def test_a_name_that_appears_twice_is_named_with_the_second_line() -> None:
    text = text_of(calendar_file()).replace(
        '"holidays": [],', '"holidays": [],\n"holidays": [],', 1
    )
    line = 1 + next(n for n, one in enumerate(text.splitlines()) if one == '"holidays": [],')
    assert faults_of(text) == (f"line {line}: {HOLIDAYS}: the name appears twice in its object",)


def test_a_time_that_the_zone_skips_or_repeats_is_refused() -> None:
    every_day = hours("2026-01-01", ("01:30", "05:00")) | {"weekdays": ["SUN"]}
    nse = exchange(
        time_zone="America/New_York",
        special_sessions=[special("2026-03-08", ("00:30", "01:00"), ("02:30", "05:00"))],
        segments=[segment("A", every_day)],
    )
    skipped, repeated = sorted(
        fault.partition(": ")[2] for fault in faults_of(text_of(calendar_file(nse)))
    )[::-1]
    assert skipped == (
        f"{SPECIAL}[0].sessions[1]: 02:30 on 2026-03-08 does not exist in America/New_York, or "
        "exists twice"
    )
    assert repeated == (
        f"{SEGMENTS}[0].hours[0].sessions[0]: 01:30 on 2026-11-01 does not exist in "
        "America/New_York, or exists twice"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "no", "No such file or directory")):
        with pytest.raises(MarketCalendarInvalid) as refused:
            load(path)
        assert refused.value.faults == (f"it cannot be read: {why}",)
        assert str(path) in str(refused.value)


def test_only_the_allowed_size_of_a_large_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(MarketCalendarInvalid) as refused:
        load(path)
    assert refused.value.faults == ("it is larger than 1,024 KiB",)


def test_a_file_of_the_allowed_size_is_read(tmp_path: Path) -> None:
    text = json.dumps(calendar_file(exchange(segments=[segment("A", hours())])))
    path = tmp_path / "padded.json"
    path.write_text(text.ljust(MAX_BYTES))
    assert load(path).coverage("NSE")[0].year == 2026


def test_a_large_session_list_is_refused() -> None:
    pairs = [(f"{hour:02}:00", f"{hour:02}:30") for hour in range(6)]
    (fault,) = faults_of_nse(segments=[segment("A", hours() | {"sessions": times(*pairs)})])
    assert fault.endswith("sessions: expected an array of at most 5 objects with opens and closes")
