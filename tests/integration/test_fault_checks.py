"""The fault suite's reckoning finds what it is there for: each kind of loss, planted, is told."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest

from pulse.domain import OrderCreated
from tests.faults.checks import Verdict, check_all
from tests.faults.ledger import Known
from tests.faults.reader import LogReader
from tests.support.cli import projected, write
from tests.support.events import orders_created, slices_scheduled, stored

Ledger = dict[tuple[str, str], Known]


@pytest.fixture
def created(conninfo: str) -> list[OrderCreated]:
    """Three orders in log and view, the first of them COMPLETED."""
    orders = orders_created(3)
    write(conninfo, *stored([*orders, slices_scheduled(orders[0])]))
    projected(conninfo)
    return orders


@pytest.fixture
def ledger(created: list[OrderCreated]) -> Ledger:
    return {(order.key_scope, order.order_unique_key): known(order) for order in created}


def reckon(
    conninfo: str, ledger: Ledger, readers: Sequence[LogReader] = (), *, rebuild: bool = True
) -> Verdict:
    return asyncio.run(check_all(conninfo, ledger, readers, rebuild=rebuild))


def known(order: OrderCreated, **changes: Any) -> Known:
    request = {
        "instrument": order.instrument,
        "side": order.side,
        "total_quantity": order.total_quantity,
        "split_config": {
            "num_splits": order.num_splits,
            "duration_minutes": order.duration_minutes,
            "randomize": order.randomize,
        },
        **changes,
    }
    key, scope = order.order_unique_key, order.key_scope
    return Known(key, scope, msgspec.json.encode(request), order.originator_id)


def reader(conninfo: str) -> LogReader:
    """One that has seen everything."""
    following = LogReader(["http://127.0.0.1"], {})
    with psycopg.connect(conninfo) as connection:
        for position, order_id, version in connection.execute(
            "SELECT notification_id, originator_id, originator_version"
            "  FROM stored_events ORDER BY notification_id"
        ):
            following.seen.add(position, str(order_id), version)
    return following


def test_where_all_is_well_nothing_is_told(conninfo: str, ledger: Ledger) -> None:
    verdict = reckon(conninfo, ledger, [reader(conninfo)])
    assert (verdict.broken, verdict.orders, verdict.accepted) == ([], 3, 3)


def test_an_accepted_order_that_is_not_stored_is_lost(conninfo: str, ledger: Ledger) -> None:
    (order,) = orders_created(1, order_unique_key="nowhere")
    verdict = reckon(conninfo, {**ledger, ("internal", "nowhere"): known(order)})
    assert verdict.lost == 1
    assert verdict.broken == ["1 orders accepted but not stored: nowhere"]


def test_an_order_stored_otherwise_than_it_was_sent_is_told(
    conninfo: str, ledger: Ledger, created: list[OrderCreated]
) -> None:
    order = created[1]
    name = order.key_scope, order.order_unique_key
    ledger[name] = known(order, total_quantity=order.total_quantity + 1)
    verdict = reckon(conninfo, ledger)
    assert verdict.broken == [
        f"1 orders answered or stored wrongly: {order.order_unique_key} is stored with other data"
    ]


def test_a_second_order_of_one_key_is_doubled(
    conninfo: str, ledger: Ledger, created: list[OrderCreated]
) -> None:
    write(conninfo, *stored([msgspec.structs.replace(created[2], originator_id=uuid4())]))
    projected(conninfo)
    verdict = reckon(conninfo, ledger)
    assert verdict.doubled == 1
    assert any("1 orders stored twice" in broken for broken in verdict.broken)


def test_a_gap_in_a_stream_is_told(
    conninfo: str, ledger: Ledger, created: list[OrderCreated]
) -> None:
    late = msgspec.structs.replace(slices_scheduled(created[1]), originator_version=3)
    write(conninfo, *stored([late]))
    verdict = reckon(conninfo, ledger, rebuild=False)
    assert verdict.broken == [f"1 streams with gaps: {created[1].originator_id} [1, 3]"]


def test_a_share_too_many_in_a_schedule_is_told(
    conninfo: str, ledger: Ledger, created: list[OrderCreated]
) -> None:
    good = slices_scheduled(created[1])
    first = msgspec.structs.replace(good.slices[0], quantity=good.slices[0].quantity + 1)
    bad = msgspec.structs.replace(good, slices=(first, *good.slices[1:]))
    write(conninfo, *stored([bad]))
    verdict = reckon(conninfo, ledger, rebuild=False)
    (broken,) = verdict.broken
    assert "schedules that break a rule" in broken


def test_what_a_reader_did_not_see_or_only_it_saw_is_told(conninfo: str, ledger: Ledger) -> None:
    whole = list(reader(conninfo).seen)
    partial, inventive = (LogReader(["http://127.0.0.1"], {}) for _ in range(2))
    for position, order_id, version in [whole[0], *whole[2:]]:
        partial.seen.add(position, str(order_id), version)
    for position, _, version in [*whole[:1], (whole[1][0], uuid4(), 1), *whole[2:]]:
        inventive.seen.add(position, str(whole[0][1] if position == 1 else uuid4()), version)
    verdict = reckon(conninfo, ledger, [partial], rebuild=False)
    assert verdict.skipped == 1
    assert verdict.broken == [f"1 positions missed by reader 1: {whole[1][0]}"]
    verdict = reckon(conninfo, ledger, [inventive], rebuild=False)
    assert any("seen by reader 1 but not in the log" in broken for broken in verdict.broken)


def test_a_row_that_the_log_does_not_make_is_told(conninfo: str, ledger: Ledger) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("UPDATE order_queue SET total_quantity = total_quantity + 1")
    verdict = reckon(conninfo, ledger)
    (broken,) = verdict.broken
    assert broken.startswith("6 read model rows that differ after a rebuild")
