"""How the console shows values: text that anyone may have written, numbers, durations, charts."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from pulse.http.console.charts.rates import rate_chart, short, top_of
from pulse.http.console.pages import duration, grouped, prose, utc, visible

NOON = datetime(2026, 3, 2, 12, 0, 7, 5, tzinfo=UTC)


def test_markup_is_escaped_and_invisible_characters_are_shown() -> None:
    assert visible('<b a="1">&\'') == "&lt;b a=&#34;1&#34;&gt;&amp;&#39;"
    assert visible("a\u202eb") == 'a<span class="unprintable">\\u202e</span>b'
    assert visible("\x00\n") == (
        '<span class="unprintable">\\x00</span><span class="unprintable">\\n</span>'
    )
    assert visible("₹ आदेश") == "₹ आदेश"


def test_a_message_becomes_a_sentence_with_its_commands_as_code() -> None:
    assert prose("run `pulse up <x>`: now") == "Run <code>pulse up &lt;x&gt;</code>: now"
    assert prose("one ` alone") == "One ` alone"
    assert prose("<script>") == "&lt;script&gt;"
    assert prose("") == ""


def test_numbers_are_exact_at_any_size() -> None:
    assert grouped(2**63 + 1) == "9,223,372,036,854,775,809"
    assert grouped(-1234) == "-1,234"


def test_a_time_is_in_utc() -> None:
    zone = NOON.astimezone(datetime.fromisoformat("2026-03-02T00:00:00+05:30").tzinfo)
    assert utc(zone) == "2026-03-02 12:00:07 UTC"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1, "1.0 s"),
        (9.96, "10.0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("values", "top"),
    [([], 4), ([0], 4), ([4], 4), ([5], 6), ([11], 20), ([61], 80), ([99, 3], 100), ([101], 200)],
)
def test_a_scale_ends_at_a_round_number_whose_half_is_whole(values: list[int], top: int) -> None:
    assert top_of(values) == top
    assert top % 2 == 0


def test_numbers_of_an_axis_are_short() -> None:
    assert [short(n) for n in (0, 999, 1000, 1500, 20_000_000, 10**13)] == [
        "0",
        "999",
        "1k",
        "1.5k",
        "20M",
        "10T",
    ]


def test_each_minute_with_a_count_has_a_bar_and_the_last_bar_is_open() -> None:
    bars = [(NOON + timedelta(minutes=n), n % 3) for n in range(60)]
    drawn = rate_chart(bars, kind="accepted", label='a "label" <b>', top=4)
    chart = ET.fromstring(str(drawn))  # noqa: S314 - it is our own
    rects = chart.findall("rect")
    assert chart.get("aria-label") == 'a "label" <b>'
    assert len(rects) == 40
    assert [rect.get("class") for rect in rects][-2:] == ["accepted", "accepted open"]
    heights = {float(rect.get("height") or 0) for rect in rects}
    assert heights == {23.5, 47.0}
    assert rects[0][0].text == "12:01 UTC: 1"
    assert "style" not in str(drawn)
