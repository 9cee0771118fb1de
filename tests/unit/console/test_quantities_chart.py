from xml.etree import ElementTree as ET

import pytest

from pulse.domain import Quantities
from pulse.http.console.charts.quantities import WIDTH, parts_of, quantities_chart


def widths(quantities: Quantities) -> dict[str, float]:
    """The width of each drawn part, by its class."""
    chart = ET.fromstring(quantities_chart(quantities))  # noqa: S314 - our own text
    groups = [one for one in chart if one.tag == "g"]
    return {one.get("class", ""): float(one[1].get("width", "")) for one in groups}


def test_parts_are_as_wide_as_their_share() -> None:
    found = widths(Quantities(remaining=500, released=300, cancelled=200))

    assert list(found) == ["part part-released", "part part-remaining", "part part-cancelled"]
    assert found["part part-remaining"] == pytest.approx(WIDTH / 2, rel=0.02)
    assert found["part part-released"] == pytest.approx(WIDTH * 0.3, rel=0.02)


@pytest.mark.parametrize("total", [2, 1_000_000_000])
def test_the_bar_is_full_and_one_share_is_visible(total: int) -> None:
    found = widths(Quantities(remaining=0, released=total - 1, expired=1))

    assert sum(found.values()) + 2 == pytest.approx(WIDTH, abs=0.1)
    assert found["part part-expired"] >= 3


def test_each_part_has_its_numbers_as_text() -> None:
    text = quantities_chart(Quantities(remaining=0, released=999_999_999, expired=1))

    assert "999,999,999 shares released, &gt; 99.9 %" in text
    assert "1 shares expired, &lt; 0.1 %" in text
    assert "1,000,000,000 shares by state" in text


def test_every_part_is_listed_even_without_shares() -> None:
    parts = parts_of(Quantities(remaining=3, released=1))

    assert [tuple(part) for part in parts] == [
        ("released", 1, "25.0 %"),
        ("remaining", 3, "75.0 %"),
        ("cancelled", 0, "0 %"),
        ("expired", 0, "0 %"),
    ]
