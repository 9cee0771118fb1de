import io
from uuid import UUID

import pytest
from rich.console import Console

from pulse.domain import BrokenRule
from pulse.load import LoadResult, Refusal, render
from pulse.load.report import percentile
from pulse.load.result import REFUSALS_SHOWN

ORDER_ID = UUID(int=7)


def result() -> LoadResult:
    return LoadResult(source="orders.ndjson", base_url="http://here/pulse", trace_id="t1")


def printed(result: LoadResult) -> str:
    output = io.StringIO()
    Console(file=output, width=100).print(render(result))
    return output.getvalue()


@pytest.mark.parametrize(("percent", "expected"), [(50, 50.0), (99, 99.0), (100, 100.0), (0, 1.0)])
def test_a_percentile_is_one_of_the_values(percent: int, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_one_value_is_every_percentile_and_none_has_none() -> None:
    assert percentile([3.0], 50) == percentile([3.0], 99) == 3.0
    assert percentile([], 50) is None


def test_a_load_without_faults_exits_with_0() -> None:
    assert result().exit_code == 0


def test_each_kind_of_fault_exits_with_1() -> None:
    refused, failed, broken, pending = result(), result(), result(), result()
    refused.note_refusal(Refusal(1, "INVALID_REQUEST", "no"))
    failed.note_failure("TOO_LATE")
    broken.note_broken(1, ORDER_ID, [BrokenRule(rule="times_are_utc", breach="it is not")])
    pending.pending = 1
    assert [r.exit_code for r in (refused, failed, broken, pending)] == [1, 1, 1, 1]


def test_a_rule_counts_once_per_order_and_keeps_the_first() -> None:
    found = result()
    twice = [BrokenRule(rule="r", breach="first"), BrokenRule(rule="r", breach="second")]
    found.note_broken(4, ORDER_ID, twice)
    found.note_broken(9, UUID(int=9), twice)
    tally = found.broken["r"]
    assert (tally.orders, tally.first_line, tally.first_order_id) == (2, 4, ORDER_ID)
    assert tally.first_breach == "first"


def test_only_the_first_refusals_are_told_in_full() -> None:
    found = result()
    for line in range(1, 13):
        found.note_refusal(Refusal(line, "INVALID_REQUEST", "no"))
    text = printed(found)
    assert found.refused == {"INVALID_REQUEST": 12}
    assert text.count("refused: line ") == REFUSALS_SHOWN
    assert "... and 7 more" in text


def test_the_table_shows_rates_and_latencies() -> None:
    found = result()
    found.posted, found.posting_seconds = 3000, 1.5
    found.accept_seconds = [0.004, 0.0125]
    text = printed(found)
    assert "2,000" in text
    assert "4.0 ms / 12.5 ms" in text
    assert "- / -" in text


def test_what_a_file_or_server_says_reaches_the_terminal_as_plain_text() -> None:
    found = result()
    found.note_refusal(Refusal(1, "[bold]X", "\x1b[2Jgone\nsecond [/] line"))
    text = printed(found)
    assert "\x1b" not in text
    assert "[bold]X" in text
    assert "second [/] line" in text
