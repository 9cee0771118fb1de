"""Which errors park an order: those of one order do, outages do not."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event
from pulse.eventstore import EventMapper, EventStore, RecordedEvent
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.lists import OrderQuery, read_orders
from pulse.projections.parking import ParkedOrders, Parking
from pulse.projections.projector import MAX_AMBIGUOUS_ATTEMPTS, Projected, Projector
from pulse.projections.queue_writer import QueueWriter
from pulse.projections.rebuild import Rebuild
from tests.support.events import order_created, slices_scheduled, stored
from tests.support.log import read_log, write
from tests.support.read_model import position, queue

_TRIGGER = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.order_unique_key LIKE '{keys}' THEN
        RAISE EXCEPTION 'no room for \N{GRINNING FACE}' USING ERRCODE = '{state}';
    END IF;
    RETURN NEW;
END $$;
CREATE {kind} ON order_queue {when} FOR EACH ROW EXECUTE FUNCTION fail()"""


def insert_fails(conninfo: str, state: str, keys: str = "poisoned%") -> None:
    """Make Postgres refuse rows of orders whose key matches, with this SQLSTATE."""
    with psycopg.connect(conninfo) as connection:
        trigger = _TRIGGER.format(
            keys=keys, state=state, kind="TRIGGER fail BEFORE INSERT", when=""
        )
        connection.execute(trigger.encode())


async def keys(database: Database) -> set[str]:
    return {row["order_unique_key"] for row in (await queue(database)).values()}


async def parked_keys(database: Database) -> list[str]:
    known = {order_created(key).originator_id: key for key in ("poisoned", "poisoned too", "sound")}
    return [known[order.order_id] for order in await ParkedOrders(database, EventMapper()).all()]


async def project_all(projector: Projector) -> None:
    while True:
        result = await projector.run_once()
        assert isinstance(result, Projected)
        if not result.events:
            return


@pytest.mark.parametrize(
    "state",
    [
        "22P05",  # untranslatable_character: an emoji where the database's encoding has none
        "22021",  # character_not_in_repertoire
        "54000",  # program_limit_exceeded: an index row that is too long
        "23514",  # a constraint that is not Pulse's
        "38000",  # a function that is not Pulse's
    ],
)
async def test_an_error_of_postgres_for_one_order_parks_only_that_order(
    conninfo: str, database: Database, state: str
) -> None:
    insert_fails(conninfo, state)
    created = order_created("sound")
    write(conninfo, *stored([order_created("poisoned"), created, slices_scheduled(created)]))

    await project_all(Projector(database, EventMapper()))

    assert await keys(database) == {"sound"}
    assert await parked_keys(database) == ["poisoned"]


class Crashing(EventMapper):
    """A mapper with a bug: it crashes on one order."""

    def __init__(self, crash: Callable[[], object]) -> None:
        super().__init__()
        self._crash = crash

    def event_of(self, record: Any) -> Event:
        if b'"poisoned"' in record.state:
            self._crash()
        return super().event_of(record)


@pytest.mark.parametrize(
    "crash",
    [
        lambda: "\N{GRINNING FACE}".encode("latin-1"),
        lambda: dict[str, int]()["\N{GRINNING FACE}\0"],
        lambda: (2**64).to_bytes(4, "big"),
        lambda: None.no_such_attribute,  # type: ignore[attr-defined]
        lambda: 1 // 0,
        lambda: list[int]().pop(),
        lambda: contextlib.ExitStack().enter_context(None),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("rebuild", [False, True])
async def test_a_bug_that_affects_one_order_parks_only_that_order(
    conninfo: str,
    database: Database,
    crash: Callable[[], object],
    rebuild: bool,  # noqa: FBT001
) -> None:
    write(conninfo, *stored([order_created("poisoned"), order_created("sound")]))
    if rebuild:
        await project_all(Projector(database, EventMapper()))
        await Rebuild(database, Crashing(crash), lambda *_: None).run()
    else:
        await project_all(Projector(database, Crashing(crash)))

    assert await keys(database) == {"sound"}
    (parked,) = await ParkedOrders(database, EventMapper()).all()
    assert parked.order_id == order_created("poisoned").originator_id
    assert parked.reason.isascii()
    assert parked.reason.isprintable()


async def test_a_reason_that_the_database_cannot_encode_is_stored_escaped(
    conninfo: str,
) -> None:
    (created,) = stored([order_created("poisoned")])
    record = RecordedEvent(
        1, order_created("poisoned").originator_id, 1, created.topic, b"", datetime.now(UTC)
    )
    async with await psycopg.AsyncConnection.connect(conninfo, client_encoding="latin1") as latin:
        writer = QueueWriter(EventMapper())
        await Parking(writer, latin).park(record, KeyError("\N{GRINNING FACE}\0"))
        cursor = await latin.execute("SELECT reason FROM parked_orders")
        assert await cursor.fetchone() == ("KeyError: '\\U0001f600\\x00'",)


async def test_an_order_that_fails_only_at_the_commit_is_parked_alone(
    conninfo: str, database: Database
) -> None:
    with psycopg.connect(conninfo) as connection:
        trigger = _TRIGGER.format(
            keys="poisoned",
            state="23514",
            kind="CONSTRAINT TRIGGER fail AFTER INSERT",
            when="DEFERRABLE INITIALLY DEFERRED",
        )
        connection.execute(trigger.encode())
    write(conninfo, *stored([order_created("poisoned"), order_created("sound")]))

    await project_all(Projector(database, EventMapper()))

    assert await keys(database) == {"sound"}
    assert await parked_keys(database) == ["poisoned"]


@pytest.mark.parametrize(
    "state",
    [
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "53100",  # disk_full
        "53300",  # too_many_connections
        "25006",  # read_only_sql_transaction
        "57P01",  # admin_shutdown
        "08006",  # connection_failure
    ],
)
async def test_an_outage_parks_no_order_however_long_it_lasts(
    conninfo: str, database: Database, state: str
) -> None:
    insert_fails(conninfo, state)
    write(conninfo, *stored([order_created("poisoned"), order_created("sound")]))
    projector = Projector(database, EventMapper())

    for _ in range(3 * MAX_AMBIGUOUS_ATTEMPTS):
        with pytest.raises(DatabaseUnavailable):
            await projector.run_once()

    assert await keys(database) == set()
    assert await position(database) == 0
    assert await parked_keys(database) == []


AMBIGUOUS = [
    "57014",  # query_canceled: the statement timeout
    "53200",  # out_of_memory
    "42501",  # insufficient_privilege: missing grants, or a row-level security policy
    "42P01",  # undefined_table
    "XX000",  # internal_error
    "58030",  # io_error
    "P0001",  # raise_exception: a trigger that is not Pulse's
]


@pytest.mark.parametrize("state", AMBIGUOUS)
async def test_an_order_with_an_ambiguous_error_is_parked_after_another_order_succeeds(
    conninfo: str, database: Database, state: str
) -> None:
    insert_fails(conninfo, state)
    before, poisoned, sound = order_created("before"), order_created("poisoned"), order_created()
    write(conninfo, *stored([before, poisoned, sound, slices_scheduled(sound)]))
    projector = Projector(database, EventMapper())

    for _ in range(MAX_AMBIGUOUS_ATTEMPTS - 1):
        with pytest.raises(DatabaseUnavailable, match="position 2 of order"):
            await projector.run_once()
        assert await keys(database) == {"before"}
        assert projector.fault is not None
        assert await parked_keys(database) == []
    await project_all(projector)

    assert projector.fault is None
    assert await keys(database) == {"before", sound.order_unique_key}
    assert await parked_keys(database) == ["poisoned"]


@pytest.mark.parametrize("state", AMBIGUOUS)
async def test_an_ambiguous_error_of_every_order_parks_none(
    conninfo: str, database: Database, state: str
) -> None:
    insert_fails(conninfo, state)
    write(conninfo, *stored([order_created("poisoned"), order_created("poisoned too")]))
    projector = Projector(database, EventMapper())

    for _ in range(3 * MAX_AMBIGUOUS_ATTEMPTS):
        with pytest.raises(DatabaseUnavailable):
            await projector.run_once()

    assert await parked_keys(database) == []


@pytest.mark.parametrize("state", AMBIGUOUS)
async def test_an_order_that_blocks_no_other_is_not_parked_for_an_ambiguous_error(
    conninfo: str, database: Database, state: str
) -> None:
    insert_fails(conninfo, state)
    write(conninfo, *stored([order_created("poisoned")]))
    projector = Projector(database, EventMapper())

    for _ in range(3 * MAX_AMBIGUOUS_ATTEMPTS):
        with pytest.raises(DatabaseUnavailable):
            await projector.run_once()
    assert await parked_keys(database) == []

    with psycopg.connect(conninfo) as connection:
        connection.execute("DROP TRIGGER fail ON order_queue")
    await project_all(projector)
    assert await keys(database) == {"poisoned"}


async def test_a_row_without_topic_or_state_stops_no_reader(
    conninfo: str, database: Database
) -> None:
    foreign, poisoned = order_created("foreign"), order_created("poisoned")
    with psycopg.connect(conninfo) as connection:
        connection.cursor().executemany(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
            " VALUES (%s, 1, %s, NULL)",
            [(foreign.originator_id, None), (poisoned.originator_id, poisoned.TOPIC)],
        )
    write(conninfo, *stored([order_created("sound")]))

    await project_all(Projector(database, EventMapper()))

    assert await keys(database) == {"sound"}
    assert await parked_keys(database) == ["poisoned"]


async def test_a_retry_during_an_outage_raises_and_changes_nothing(
    conninfo: str, database: Database
) -> None:
    poisoned = order_created("poisoned")
    write(conninfo, StoredEvent(poisoned.originator_id, 1, poisoned.TOPIC, b"{}"))
    await project_all(Projector(database, EventMapper()))
    parked = ParkedOrders(database, EventMapper())

    still = await parked.retry(poisoned.originator_id)
    assert still is not None
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT FROM notification_tracking FOR UPDATE")
        with pytest.raises(DatabaseUnavailable):
            await parked.retry(poisoned.originator_id)

    assert await parked_keys(database) == ["poisoned"]


async def test_a_row_recorded_at_no_time_that_a_client_can_hold_stops_no_reader(
    conninfo: str, database: Database
) -> None:
    with psycopg.connect(conninfo) as connection:
        for number, at in enumerate(("infinity", "-infinity", "20000-01-01", "0044-03-15 BC")):
            (event,) = stored([order_created(f"at {number}")])
            connection.execute(
                "INSERT INTO stored_events VALUES (%s, 1, %s, %s, DEFAULT, %s)",
                (event.originator_id, event.topic, event.state, at),
            )

    await project_all(Projector(database, EventMapper()))

    assert await keys(database) == {"at 0", "at 1", "at 2", "at 3"}
    store = EventStore(database, on_commit=lambda: None)
    assert len(await read_log(store, after=0, limit=10)) == 4
    assert await store.read_stream(order_created("at 0").originator_id)


@pytest.mark.parametrize(
    "timestamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00"]
)
async def test_a_time_that_no_client_can_represent_parks_that_order_alone(
    conninfo: str, database: Database, timestamp: str
) -> None:
    poisoned, sound = order_created("poisoned"), order_created("sound")
    (event,) = stored([poisoned])
    fields = msgspec.json.decode(event.state) | {"timestamp": timestamp}
    state = msgspec.json.encode(fields)
    write(conninfo, StoredEvent(poisoned.originator_id, 1, event.topic, state), *stored([sound]))

    await project_all(Projector(database, EventMapper()))

    page = await read_orders(database, OrderQuery(limit=10))
    assert [order.order_unique_key for order in page.orders] == ["sound"]
    assert await parked_keys(database) == ["poisoned"]
