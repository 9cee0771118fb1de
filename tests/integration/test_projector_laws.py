"""Laws of the projection: it is the fold of the log, however the log is cut into batches."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulse.domain import Event
from pulse.postgres import Database
from pulse.projections.projector import Projected
from tests.support.events import stored
from tests.support.histories import histories, lives
from tests.support.log import running_store
from tests.support.read_model import folded, projector, queue, reset_log, reset_read_model


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """The histories of some orders, each in its own order, mixed in any way."""
    drawn = draw(
        st.lists(
            histories() | lives(), min_size=1, max_size=6, unique_by=lambda h: h[0].originator_id
        )
    )
    turns = draw(st.permutations([n for n, history in enumerate(drawn) for _ in history]))
    rest = [iter(history) for history in drawn]
    return [next(rest[turn]) for turn in turns]


batch_sizes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=logs(), sizes=batch_sizes)
async def test_the_queue_is_the_fold_of_the_log_whatever_the_batches(
    database: Database, events: list[Event], sizes: list[int]
) -> None:
    await reset_log(database)
    async with running_store(database) as store:
        positions = await store.append_stored(stored(events))
    expected = folded(zip(positions, events, strict=True))

    await in_batches(database, sizes)
    in_many = await queue(database)
    assert in_many == expected

    await reset_read_model(database)
    await in_batches(database, [len(events)])
    assert await queue(database) == in_many


async def in_batches(database: Database, sizes: list[int]) -> None:
    """Project to the end, the batches being of these sizes in turn."""
    turn = 0
    while True:
        result = await projector(database, sizes[turn % len(sizes)]).run_once()
        assert isinstance(result, Projected)
        if not result.events:
            return
        turn += 1
        await asyncio.sleep(0)
