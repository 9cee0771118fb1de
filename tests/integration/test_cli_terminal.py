"""The output of commands on a terminal and in a pipe."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pulse.cli.schedule_text import draw
from pulse.cli.terminal import SafeConsole, errors, progress_on
from pulse.printable import printable, printable_json, printable_lines
from pulse.wording import format_duration
from tests.support.events import order_created, slices_scheduled

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
T0 = datetime(2026, 3, 2, 23, 45, tzinfo=UTC)


def console(*, terminal: bool, width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def text_of(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_each_day_of_a_schedule_is_printed_once_before_its_slices() -> None:
    created = order_created(timestamp=T0)
    lines = [line.plain for line in draw(slices_scheduled(created).slices, created.terms)]
    assert [line.strip() for line in lines if line.startswith("  2026")] == [
        "2026-03-02",
        "2026-03-03",
    ]


def test_long_work_shows_a_bar_on_a_terminal() -> None:
    shown = console(terminal=True)
    with progress_on(shown, "position") as on_progress:
        on_progress(0, 2_000)
        on_progress(2_000, 2_000)
    assert "position" in text_of(shown)
    assert "2000/2000" in text_of(shown)


def test_long_work_shows_a_plain_line_now_and_then_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([0.0, 1.9, 2.1, 2.2, 4.2])
    monkeypatch.setattr("pulse.cli.terminal.time.monotonic", lambda: next(seconds))
    shown = console(terminal=False)
    with progress_on(shown, "position") as on_progress:
        for position in (1_000, 2_000, 3_000, 4_000):
            on_progress(position, 4_000)
    assert text_of(shown) == "position 2,000 of 4,000\nposition 4,000 of 4,000\n"


def test_progress_that_cannot_be_written_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 2.1, 4.2])
    monkeypatch.setattr("pulse.cli.terminal.time.monotonic", lambda: next(seconds))
    with Path("/dev/full").open("wb", buffering=0) as full:
        stream = io.TextIOWrapper(full, write_through=True)
        monkeypatch.setattr("sys.stderr", stream)
        with progress_on(errors(), "position") as on_progress:
            on_progress(1_000, 2_000)
            on_progress(2_000, 2_000)
        stream.detach()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1 min 0 s"),
        (3_599.6, "1 h 0 min"),
        (7_260, "2 h 1 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_a_duration_is_printed_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_unprintable_characters_are_escaped() -> None:
    assert printable("a\x1b[31m\u202eb\n") == r"a\x1b[31m\u202eb\n"
    assert printable("\ud800\x9b\U000e0001 é 株") == r"\ud800\x9b\U000e0001 é 株"
    assert printable_lines("a\x1b\nb\r") == "a\\x1b\nb\\r"


def test_a_line_of_json_stays_the_same_json() -> None:
    line = json.dumps({"key": "a\x1b\x7f\x9b\n é"}, ensure_ascii=False)
    assert json.loads(printable_json(line)) == json.loads(line)
    assert not set("\x1b\x7f\x9b\n") & set(printable_json(line))


@pytest.mark.parametrize("terminal", [True, False])
def test_no_control_character_gets_through_a_console(*, terminal: bool) -> None:
    shown = SafeConsole(file=io.StringIO(), force_terminal=terminal, color_system=None)
    shown.print("a\x1b[2J\nb\x9b")
    shown.print(Text("c\x1b]0;title\x07\u202e", "bold"))
    table = Table(title=Text("\x1b[1m"))
    table.add_row(Text("d\x1b[31m"))
    shown.print(table)
    assert "a\\x1b[2J\\nb\\x9b\n" in text_of(shown)
    assert "c\\x1b]0;title" in text_of(shown)
    if not terminal:
        assert set(text_of(shown)) & set(CONTROLS) == {"\n"}
    assert "\x1b]" not in text_of(shown)
    assert "\x1b[31m" not in text_of(shown)
    assert "\u202e" not in text_of(shown)
