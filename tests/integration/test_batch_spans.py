"""Spans of batches: a commit and a claim are linked with the orders that they contain."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pulse.application.halts import ReleaseHalts
from pulse.application.origin import Origin, system_clock
from pulse.domain import OrderCreated, SlicesReleased, TraceContext
from pulse.eventstore import EventStore, VersionTaken
from pulse.postgres import Database
from pulse.workers.releases import Releaser
from tests.support.events import MAPPER, orders_created, slices_scheduled, stored
from tests.support.log import running_store
from tests.support.read_model import project
from tests.support.spans import KeptSpans, ids_of, links_of, own_ids
from tests.support.splitting import splitting_worker

ORDERS = 20


def traced(kept: KeptSpans, count: int = ORDERS, **changes: object) -> list[OrderCreated]:
    """Orders, each placed in a trace of its own."""
    return [
        msgspec.structs.replace(
            order, trace=order.trace.within(kept.spans.start("place", "SERVER", None).context)
        )
        for order in orders_created(count, **changes)
    ]


def context_of(order: OrderCreated) -> TraceContext:
    context = order.trace.context
    assert context is not None
    return context


async def test_commits_are_linked_with_the_appends_of_their_batch(database: Database) -> None:
    kept = KeptSpans()
    orders = traced(kept)
    async with running_store(database, spans=kept.spans) as store:
        await asyncio.gather(*map(store.append, orders))
    appends = kept.named("append OrderCreated")
    assert {own_ids(span)[0] for span in appends} == {ids_of(context_of(o))[0] for o in orders}
    commits = kept.named("commit events")
    assert len(commits) < ORDERS
    linked = [link for commit in commits for link in links_of(commit)]
    assert sorted(linked) == sorted(map(own_ids, appends))
    assert all(commit.parent is None for commit in commits)


async def test_the_orders_of_one_request_share_the_span_of_their_append(
    database: Database,
) -> None:
    kept = KeptSpans()
    (first, *others) = traced(kept)
    orders = [first, *(msgspec.structs.replace(one, trace=first.trace) for one in others)]
    async with running_store(database, spans=kept.spans) as store:
        await store.append_each(orders)
    (append,) = kept.named("append OrderCreated")
    assert append.attributes is not None
    assert append.attributes["messaging.batch.message_count"] == ORDERS


async def test_a_failed_append_is_a_failed_span(database: Database) -> None:
    kept = KeptSpans()
    (order,) = traced(kept, 1)
    async with running_store(database, spans=kept.spans) as store:
        await store.append(order)
        with pytest.raises(VersionTaken):
            await store.append(order)
    attributes = [dict(span.attributes or {}) for span in kept.named("append OrderCreated")]
    assert [each.get("error.type") for each in attributes] == [None, "VersionTaken"]


async def test_a_claim_is_linked_with_its_orders_and_each_split_with_the_claim(
    database: Database, store: EventStore
) -> None:
    kept = KeptSpans()
    orders = traced(kept)
    await store.append_stored(stored(orders))
    await project(database)
    worker = splitting_worker(store, database, batch_size=ORDERS, spans=kept.spans)
    await worker.run_once()
    (claim,) = kept.named("claim orders")
    assert sorted(links_of(claim)) == sorted(ids_of(context_of(order)) for order in orders)
    splits = kept.named("split order")
    assert all(links_of(split) == [own_ids(claim)] for split in splits)
    parents = {(split.parent.trace_id, split.parent.span_id) for split in splits if split.parent}
    assert parents == {ids_of(context_of(order)) for order in orders}


async def test_a_worker_that_claims_nothing_exports_nothing(
    database: Database, store: EventStore
) -> None:
    kept = KeptSpans()
    await splitting_worker(store, database, spans=kept.spans).run_once()
    assert kept.ended == ()


async def test_an_order_without_a_trace_context_is_split_in_a_trace_of_its_own(
    database: Database, store: EventStore
) -> None:
    kept = KeptSpans()
    (order,) = orders_created(1)
    await store.append_stored(stored([order]))
    await project(database)
    await splitting_worker(store, database, spans=kept.spans).run_once()
    (split,) = kept.named("split order")
    assert split.parent is None
    *_, scheduled = MAPPER.events_of(await store.read_stream(order.originator_id))
    assert scheduled.trace.context is not None
    assert ids_of(scheduled.trace.context) == own_ids(split)


async def test_each_release_is_a_span_of_its_order_also_of_an_order_without_a_context(
    database: Database, store: EventStore
) -> None:
    kept = KeptSpans()
    timestamp = datetime.now(UTC) - timedelta(seconds=0.1)
    with_context = traced(kept, 2, num_splits=2, timestamp=timestamp)
    (plain,) = orders_created(1, num_splits=2, timestamp=timestamp)
    orders = [*with_context, plain]
    await store.append_stored(stored(orders))
    await store.append_stored(stored([slices_scheduled(order) for order in orders]))
    await project(database)
    origin = Origin.of_this_process()
    halts = ReleaseHalts(store, system_clock, origin)
    releaser = Releaser(
        database, store, origin, halts=halts.current, max_delay_seconds=60, spans=kept.spans
    )
    await releaser.run_once()
    releases = kept.named("release slices")
    assert len(releases) == len(orders)
    for order in orders:
        *_, released = MAPPER.events_of(await store.read_stream(order.originator_id))
        assert isinstance(released, SlicesReleased)
        assert released.trace.context is not None
        (span,) = [s for s in releases if own_ids(s) == ids_of(released.trace.context)]
        if order is plain:
            assert span.parent is None
        else:
            assert span.parent is not None
            assert (span.parent.trace_id, span.parent.span_id) == ids_of(context_of(order))
