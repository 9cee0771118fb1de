"""`pulse calendar show` and `pulse calendar check`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.calendars import (
    calendar_file,
    exchange,
    holiday,
    hours,
    mapping,
    segment,
    special,
    text_of,
)
from tests.support.cli import run_pulse

SEGMENTS = [segment("EQUITY"), segment("DERIVATIVES", hours("2026-01-01", ("09:15", "15:15")))]


@pytest.fixture
def calendar(tmp_path: Path) -> Path:
    path = tmp_path / "calendar.json"
    nse = exchange(
        segments=SEGMENTS,
        holidays=[holiday("2026-03-03", "Holi")],
        special_sessions=[special("2026-03-08", ("18:15:30", "19:15"))],
        instruments=[mapping("EQUITY", "TCS")],
    )
    path.write_text(text_of(calendar_file(nse)))
    return path


def test_a_day_is_drawn_with_its_sessions_and_sources(calendar: Path) -> None:
    ended = run_pulse("calendar", "show", "--date", "2026-03-02", market_calendar=calendar)
    assert (ended.exit_code, ended.err) == (0, "")
    first, _, *lines = ended.out.splitlines()
    assert first.startswith(f"{calendar}, sha256 ")
    assert lines[:9] == [
        "NSE  Monday 2026-03-02, Asia/Kolkata",
        "  EQUITY        09:15 to 15:30  (03:45 to 10:00 UTC)",
        "  DERIVATIVES   09:15 to 15:15  (03:45 to 09:45 UTC)",
        "  (not mapped)  09:15 to 15:15  (03:45 to 09:45 UTC)",
        "                09  10  11  12  13  14  15  16",
        "  EQUITY         =========================",
        "  DERIVATIVES    ========================",
        "  (not mapped)   ========================",
        "  source: a test",
    ]
    assert lines[10] == "BSE  Monday 2026-03-02, Asia/Kolkata"


def test_a_holiday_names_the_next_day_with_sessions(calendar: Path) -> None:
    ended = run_pulse(
        *("calendar", "show", "--date", "2026-03-03", "--exchange", "NSE"), market_calendar=calendar
    )
    assert "  holiday: Holi\n  EQUITY        closed\n" in ended.out
    assert ended.out.endswith("  next: Wednesday 2026-03-04, 09:15\n")
    assert "BSE" not in ended.out


def test_special_sessions_are_named(calendar: Path) -> None:
    ended = run_pulse(
        *("calendar", "show", "--date", "2026-03-08", "--instrument", "NSE:TCS"),
        market_calendar=calendar,
    )
    assert ended.out.splitlines()[2:] == [
        "NSE  Sunday 2026-03-08, Asia/Kolkata",
        "  special sessions: Special",
        "  EQUITY  18:15:30 to 19:15:00  (12:45:30 to 13:45:00 UTC)",
        "          18  19  20",
        "  EQUITY   ====",
        "  source: a test",
    ]


def test_an_instrument_that_is_not_mapped_is_reported_as_such(calendar: Path) -> None:
    ended = run_pulse(
        *("calendar", "show", "--date", "2026-03-02", "--instrument", "NSE:INFY"),
        market_calendar=calendar,
    )
    assert "  (not mapped)  09:15 to 15:15  (03:45 to 09:45 UTC)\n" in ended.out
    assert ended.out.endswith(
        "  source: a test\n"
        "  NSE:INFY is not mapped to a segment: it trades while every segment does\n"
    )


def test_json_has_the_same_day(calendar: Path) -> None:
    ended = run_pulse(
        *("calendar", "show", "--date", "2026-03-02", "--instrument", "NSE:TCS", "--json"),
        market_calendar=calendar,
    )
    answer = json.loads(ended.out)
    assert len(answer["digest"]) == 64
    (day,) = answer["days"]
    assert day == {
        "exchange": "NSE",
        "date": "2026-03-02",
        "time_zone": "Asia/Kolkata",
        "holiday": None,
        "segments": [
            {
                "segment": "EQUITY",
                "sessions": [
                    {"opens_at": "2026-03-02T03:45:00Z", "closes_at": "2026-03-02T10:00:00Z"}
                ],
                "special": None,
                "source": "a test",
            }
        ],
    }


def test_the_last_day_of_the_coverage_has_no_next_one(calendar: Path) -> None:
    nse = exchange(
        coverage={"from": "2026-01-01", "before": "2026-03-02", "source": "a test"},
    )
    calendar.write_text(text_of(calendar_file(nse)))
    ended = run_pulse(
        *("calendar", "show", "--date", "2026-03-01", "--exchange", "NSE"), market_calendar=calendar
    )
    assert ended.out.endswith(
        "  no later day with sessions is covered: the coverage ends before 2026-03-02\n"
    )


def test_without_a_date_it_is_today_at_the_exchange(
    calendar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 3, 1, 18, 30, tzinfo=UTC)
    monkeypatch.setattr("pulse.cli.calendar.system_clock", lambda: now)
    ended = run_pulse("calendar", "show", market_calendar=calendar)
    assert (ended.exit_code, ended.err) == (0, "")
    assert "NSE  Monday 2026-03-02, Asia/Kolkata\n" in ended.out


def test_a_day_that_is_not_covered_is_an_error(calendar: Path) -> None:
    ended = run_pulse("calendar", "show", "--date", "2027-01-01", market_calendar=calendar)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err == (
        "pulse: the market calendar covers NSE from 2026-01-01 to 2026-12-31, not 2027-01-01: "
        "docs/how-to/replace-the-market-calendar.md says how to use a newer file\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--date", "2026-02-30"), 2, "expected a date, such as 2026-12-07"),
        (("--instrument", "TCS"), 2, "expected EXCHANGE:SYMBOL, such as NSE:RELIANCE"),
        (("--instrument", "NSE:TCS", "--exchange", "BSE"), 2, "does not belong to this exchange"),
        (("--exchange", "MCX"), 1, "no exchange has the name MCX"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: tuple[str, ...], code: int, said: str) -> None:
    ended = run_pulse("calendar", "show", *arguments)
    assert (ended.exit_code, ended.out) == (code, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_valid_file_is_summarised(calendar: Path) -> None:
    ended = run_pulse("calendar", "check", str(calendar))
    assert (ended.exit_code, ended.err) == (0, "")
    first, digest, *covered = ended.out.splitlines()
    assert first == f"{calendar} is valid"
    assert len(digest.removeprefix("sha256 ")) == 64
    assert covered == [
        "NSE covers 2026-01-01 to 2026-12-31",
        "BSE covers 2026-01-01 to 2026-12-31",
    ]


def test_every_error_of_a_file_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    nse = exchange(holidays=[holiday("2026-02-30"), holiday("x\x1b[31m")])
    path.write_text(text_of(calendar_file(nse)))
    ended = run_pulse("calendar", "check", str(path))
    assert ended.exit_code == 1
    first, second = ended.out.splitlines()
    assert first.startswith(f"{path}: line ")
    assert first.endswith("exchanges.NSE.holidays[0].date: expected a date, such as 2026-01-26")
    assert "exchanges.NSE.holidays[1].date: expected a date" in second


PREVIEW = ("preview", "--instrument", "NSE:TCS", "--side", "BUY", "--total", "10", "--splits", "2")


@pytest.mark.parametrize("command", [("calendar", "show"), (*PREVIEW, "--duration", "60")])
def test_an_invalid_calendar_is_refused_in_one_line(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    ended = run_pulse(*command, market_calendar=tmp_path)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err == (
        f"pulse: the market calendar {tmp_path} cannot be used: it cannot be read: Is a directory; "
        "`pulse calendar check` lists every error\n"
    )
