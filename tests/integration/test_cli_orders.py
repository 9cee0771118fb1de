"""`pulse orders failed`: which orders failed, why, and what to do."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from pulse.cli import orders
from pulse.domain import Event, OrderCreated, order_id_for
from tests.support.cli import projected, run_pulse, write
from tests.support.events import (
    TRACE,
    order_created,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)


def fill(conninfo: str) -> list[OrderCreated]:
    """Six orders, oldest first: PENDING, COMPLETED, and failed of four reasons."""
    created = orders_created(6)
    write(conninfo, *stored(created))
    outcomes: list[Event] = [
        slices_scheduled(created[1]),
        splitting_failed(created[2], "TOO_LATE"),
        timed_out(created[3]),
        splitting_failed(created[4]),
        splitting_failed(created[5], "OF_NEWER_CODE"),
    ]
    write(conninfo, *stored(outcomes))
    projected(conninfo)
    return created


def failed_json(conninfo: str, *arguments: str) -> dict[str, Any]:
    ended = run_pulse("orders", "failed", "--json", *arguments, conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.count("\n") == 1
    found: dict[str, Any] = json.loads(ended.out)
    return found


def ids(found: dict[str, Any]) -> list[UUID]:
    return [UUID(order["order_id"]) for order in found["orders"]]


def test_without_failed_orders_the_list_is_empty(conninfo: str) -> None:
    write(conninfo, *stored(orders_created(2)))
    projected(conninfo)
    ended = run_pulse("orders", "failed", conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out == "No order has failed, as of position 2.\n"
    assert failed_json(conninfo) == {"as_of_position": 2, "orders": [], "more": False}


def test_failed_orders_and_no_others_are_listed_newest_first(conninfo: str) -> None:
    created = fill(conninfo)
    found = failed_json(conninfo)
    assert ids(found) == [order.originator_id for order in reversed(created[2:])]
    assert (found["as_of_position"], found["more"]) == (11, False)


def test_each_failure_has_its_reason_and_advice(conninfo: str) -> None:
    created = fill(conninfo)[3]
    found = failed_json(conninfo)["orders"][2]
    assert found.pop("failure_message").startswith("claimed by worker-1 and not split within 300 s")
    assert found.pop("what_to_do").startswith("A worker claimed it and did not finish")
    times = msgspec.json.decode(
        msgspec.json.encode([created.timestamp, created.timestamp + timedelta(seconds=300)])
    )
    assert found == {
        "order_id": str(created.originator_id),
        "order_unique_key": created.order_unique_key,
        "instrument": "NSE:RELIANCE",
        "placed_by": "tester",
        "created_at": times[0],
        "failed_at": times[1],
        "failure_reason": "TIMED_OUT",
    }


def test_failed_orders_are_printed_with_reason_and_advice(conninfo: str) -> None:
    created = fill(conninfo)[2]
    lines = run_pulse("orders", "failed", conninfo=conninfo).out.splitlines()
    at = lines.index(f"{created.originator_id}  TOO_LATE")
    assert lines[at + 1] == f"  key {created.order_unique_key}, NSE:RELIANCE, from tester"
    assert lines[at + 2].startswith(f"  created {created.timestamp:%Y-%m-%dT%H:%M:%S}")
    assert ", failed 20" in lines[at + 2]
    assert lines[at + 3] == "  why: a rule is broken."
    assert lines[at + 4].startswith("  what to do: No worker claimed it in time: check with")
    assert "4 orders failed, as of position 11." in lines
    assert lines[-1].startswith("FAILED is final")


def test_the_advice_is_that_of_replay(conninfo: str) -> None:
    for created in fill(conninfo)[2:]:
        replayed = run_pulse("replay", str(created.originator_id), conninfo=conninfo).out
        lines = run_pulse("orders", "failed", conninfo=conninfo).out.splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith(str(created.originator_id)))
        assert lines[at + 4].removeprefix("  what to do: ") in replayed


def test_failed_orders_are_filtered_by_reason(conninfo: str) -> None:
    created = fill(conninfo)
    assert ids(failed_json(conninfo, "--reason", "TOO_LATE")) == [created[2].originator_id]
    none = run_pulse("orders", "failed", "--reason", "NOTHING\x1b", conninfo=conninfo)
    assert none.exit_code == 0
    assert none.out == "No order has failed with NOTHING\\x1b, as of position 11.\n"


def test_the_limit_keeps_the_newest_and_reports_that_there_are_more(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "MAX_ORDERS_PER_PAGE", 1)
    created = fill(conninfo)
    found = failed_json(conninfo, "--limit", "2")
    assert ids(found) == [created[5].originator_id, created[4].originator_id]
    assert found["more"] is True
    assert failed_json(conninfo, "--limit", "4")["more"] is False
    text = run_pulse("orders", "failed", "--limit", "2", conninfo=conninfo).out
    assert "2 orders failed, as of position 11; there are more: raise --limit." in text


def test_control_characters_of_callers_are_escaped(conninfo: str) -> None:
    created = order_created("key", placed_by="somebody\x1b[2J")
    write(conninfo, *stored([created, timed_out(created)]))
    projected(conninfo)
    text = run_pulse("orders", "failed", conninfo=conninfo).out
    assert "from somebody\\x1b[2J" in text


def listed_json(conninfo: str, *arguments: str) -> list[str]:
    ended = run_pulse("orders", "list", "--json", *arguments, conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    return [order["order_unique_key"] for order in json.loads(ended.out)["orders"]]


def test_orders_are_listed_by_every_filter(conninfo: str) -> None:
    trace = msgspec.structs.replace(TRACE, trace_id="t-9")
    created = [
        order_created("a%", placed_by="oms"),
        order_created("b", instrument="NSE:B"),
        order_created("c", trace=trace),
        order_created("c", key_scope="i|s", originator_id=order_id_for("i|s", "c")),
    ]
    write(conninfo, *stored([*created, splitting_failed(created[1])]))
    projected(conninfo)
    assert listed_json(conninfo) == ["c", "c", "b", "a%"]
    assert listed_json(conninfo, "--limit", "2") == ["c", "c"]
    assert listed_json(conninfo, "--key", "a%") == ["a%"]
    assert listed_json(conninfo, "--key", "%") == []
    assert listed_json(conninfo, "--key", "c", "--key-scope", "i|s") == ["c"]
    assert listed_json(conninfo, "--key", "b", "--key-scope", "i|s") == []
    assert listed_json(conninfo, "--placed-by", "oms") == ["a%"]
    assert listed_json(conninfo, "--trace-id", "t-9") == ["c"]
    assert listed_json(conninfo, "--status", "FAILED") == ["b"]
    assert listed_json(conninfo, "--instrument", "NSE:B", "--placed-by", "tester") == ["b"]
    assert len(listed_json(conninfo, "--created-from", "2020-01-01T00:00:00+05:30")) == 4
    assert listed_json(conninfo, "--created-before", "2020-01-01T00:00:00Z") == []


def test_a_list_as_text_begins_with_the_order_and_ends_with_the_count(conninfo: str) -> None:
    (created,) = orders_created(1)
    write(conninfo, *stored([created]))
    projected(conninfo)
    ended = run_pulse("orders", "list", "--key", created.order_unique_key, conninfo=conninfo)
    first, *_, last = ended.out.splitlines()
    assert first == f"{created.originator_id}  PENDING"
    assert last == "1 order, as of position 1."
    ended = run_pulse("orders", "list", "--key", "none", conninfo=conninfo)
    assert ended.out == "No order, as of position 1.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--key-scope", "internal"],
        ["--key", ""],
        ["--placed-by", "a b"],
        ["--trace-id", "t" * 129],
        ["--status", "OPEN"],
        ["--created-from", "2026-01-05T09:15:00"],
    ],
)
def test_a_wrong_filter_is_wrong_usage(conninfo: str, arguments: list[str]) -> None:
    ended = run_pulse("orders", "list", *arguments, conninfo=conninfo)
    assert ended.exit_code == 2
    assert ended.err.startswith(f"pulse: Invalid value for {arguments[0]}: ")
