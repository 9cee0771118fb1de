"""`pulse verify` names every kind of tampering with the log, the queue or the seal.

A superuser changes rows with triggers disabled. In each round every kind is applied to four orders
of its own, so each must be found there, and nothing must be found about the other orders.
"""

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import psycopg
import psycopg.sql
import pytest
from psycopg.conninfo import conninfo_to_dict

from pulse.domain import Event, OrderCreated
from pulse.eventstore import EventMapper
from pulse.evidence.findings import Fault
from pulse.evidence.note import SigningKey
from pulse.postgres import Database
from pulse.projections.queue_history import HistorySummary
from tests.support.cli import projected, run_pulse, write
from tests.support.database import cloned_database
from tests.support.events import (
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    stored,
)
from tests.support.seal import KEY, OTHER_KEY, seal_all, sealer, tamper

T0: Final = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
UNCHANGED_ORDERS: Final = 5
ROUNDS: Final = 4
VICTIMS_PER_KIND: Final = 4
"""With 31 kinds, 496 changes in all."""
Connection = psycopg.Connection[tuple[Any, ...]]


class Victim(msgspec.Struct, frozen=True):
    """An order of 8 slices: 3 released, 2 expired, 3 left; or a pending one."""

    history: tuple[Event, ...]
    first_position: int

    @property
    def order_id(self) -> UUID:
        return self.history[0].originator_id

    def position(self, version: int) -> int:
        return self.first_position + version - 1


Tamper = Callable[[Connection, Victim, random.Random], None]


def edit(connection: Connection, victim: Victim, version: int, **changes: object) -> None:
    """Change fields of a stored event, encoded as Pulse encodes them."""
    key = (victim.order_id, version)
    where = "WHERE originator_id = %s AND originator_version = %s"
    row = connection.execute(f"SELECT state FROM stored_events {where}", key).fetchone()
    assert row is not None
    state = json.dumps(json.loads(row[0]) | changes, separators=(",", ":"), ensure_ascii=False)
    connection.execute(f"UPDATE stored_events SET state = %s {where}", (state.encode(), *key))


def in_queue(connection: Connection, victim: Victim, column: str, value: object) -> None:
    connection.execute(
        psycopg.sql.SQL("UPDATE order_queue SET {} = %s WHERE order_id = %s").format(
            psycopg.sql.Identifier(column)
        ),
        (value, victim.order_id),
    )


def side(connection: Connection, victim: Victim, _: random.Random) -> None:
    edit(connection, victim, 1, side="SELL")


def placed_by(connection: Connection, victim: Victim, choice: random.Random) -> None:
    edit(connection, victim, 1, placed_by=f"desk-{choice.randrange(9)}")


def creation_time(connection: Connection, victim: Victim, choice: random.Random) -> None:
    at = T0 + timedelta(seconds=choice.randrange(1, 3600))
    edit(connection, victim, 1, timestamp=msgspec.to_builtins(at))


def trace(connection: Connection, victim: Victim, _: random.Random) -> None:
    changed = {"trace_id": "t2", "trace_source": "x", "request_id": "r", "request_source": "x"}
    edit(connection, victim, 1, trace=changed)


def quantity(connection: Connection, victim: Victim, choice: random.Random) -> None:
    edit(connection, victim, 1, total_quantity=choice.randrange(100, 10_000))


def slice_quantities(connection: Connection, victim: Victim, choice: random.Random) -> None:
    """Move one share from a slice to another, in the log and in the queue."""
    row = connection.execute(
        "SELECT state FROM stored_events WHERE originator_id = %s AND originator_version = 2",
        (victim.order_id,),
    ).fetchone()
    assert row is not None
    slices = json.loads(row[0])["slices"]
    one, other = choice.sample([5, 6, 7], 2)
    slices[one]["quantity"] += 1
    slices[other]["quantity"] -= 1
    edit(connection, victim, 2, slices=slices)
    for place in (one, other):
        connection.execute(
            "UPDATE scheduled_slices SET quantity = %s"
            " WHERE created_position = %s AND sequence_number = %s",
            (slices[place]["quantity"], victim.first_position, place + 1),
        )


def white_space(connection: Connection, victim: Victim, choice: random.Random) -> None:
    version = choice.randrange(1, 6)
    connection.execute(
        "UPDATE stored_events SET state = convert_to(replace("
        "convert_from(state, 'UTF8'), ',', ', '), 'UTF8')"
        " WHERE originator_id = %s AND originator_version = %s",
        (victim.order_id, version),
    )


def delete(connection: Connection, victim: Victim, version: int) -> None:
    connection.execute(
        "DELETE FROM stored_events WHERE originator_id = %s AND originator_version = %s",
        (victim.order_id, version),
    )


def delete_first(connection: Connection, victim: Victim, _: random.Random) -> None:
    delete(connection, victim, 1)


def delete_middle(connection: Connection, victim: Victim, choice: random.Random) -> None:
    delete(connection, victim, choice.randrange(2, 5))


def delete_newest(connection: Connection, victim: Victim, _: random.Random) -> None:
    delete(connection, victim, 5)


def delete_order(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute("DELETE FROM stored_events WHERE originator_id = %s", (victim.order_id,))


def insert_copy(connection: Connection, victim: Victim, _: random.Random) -> None:
    """Append the order's last event once more, as the next version."""
    connection.execute(
        "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
        " SELECT originator_id, 6, topic, state FROM stored_events"
        " WHERE originator_id = %s AND originator_version = 5",
        (victim.order_id,),
    )


def swap_positions(connection: Connection, victim: Victim, choice: random.Random) -> None:
    version = choice.randrange(2, 5)
    one, other = victim.position(version), victim.position(version + 1)
    for old, new in ((one, -one), (other, one), (-one, other)):
        connection.execute(
            "UPDATE stored_events SET notification_id = %s WHERE notification_id = %s", (new, old)
        )


def forge_id(connection: Connection, victim: Victim, _: random.Random) -> None:
    """Give the whole stream, and the order in the queue, another id."""
    forged = uuid4()
    for table, column in (("stored_events", "originator_id"), ("order_queue", "order_id")):
        connection.execute(
            psycopg.sql.SQL("UPDATE {} SET {} = %s WHERE {} = %s").format(
                *map(psycopg.sql.Identifier, (table, column, column))
            ),
            (forged, victim.order_id),
        )


def queue_side(connection: Connection, victim: Victim, _: random.Random) -> None:
    in_queue(connection, victim, "side", "SELL")


def queue_author(connection: Connection, victim: Victim, _: random.Random) -> None:
    in_queue(connection, victim, "placed_by", "another")


def queue_released(connection: Connection, victim: Victim, _: random.Random) -> None:
    """One more slice seems to be released."""
    connection.execute(
        "UPDATE order_queue SET settled = settled || 'R', released_quantity = released_quantity + 1"
        " WHERE order_id = %s",
        (victim.order_id,),
    )


def queue_row(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute("DELETE FROM order_queue WHERE order_id = %s", (victim.order_id,))


def queue_slice_time(connection: Connection, victim: Victim, choice: random.Random) -> None:
    connection.execute(
        "UPDATE scheduled_slices SET scheduled_at = scheduled_at + interval '1 s'"
        " WHERE created_position = %s AND sequence_number = %s",
        (victim.first_position, choice.randrange(1, 9)),
    )


def queue_slice_gone(connection: Connection, victim: Victim, choice: random.Random) -> None:
    connection.execute(
        "DELETE FROM scheduled_slices WHERE created_position = %s AND sequence_number = %s",
        (victim.first_position, choice.randrange(1, 9)),
    )


def due_time(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute(
        "UPDATE due_orders SET due_at = due_at + interval '1 day' WHERE created_position = %s",
        (victim.first_position,),
    )


def due_gone(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute(
        "DELETE FROM due_orders WHERE created_position = %s", (victim.first_position,)
    )


def claim_of_settled(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute(
        "INSERT INTO pending_orders (created_position, order_id, created_at, splitter_version,"
        " instrument, claimed_at, first_claimed_at, claimed_by)"
        " VALUES (%s, %s, now(), 1, 'NSE:X', now(), now(), 'w')",
        (victim.first_position, victim.order_id),
    )


def claim_in_future(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute(
        "UPDATE pending_orders SET claimed_by = 'w', claimed_at = now() + interval '1 h',"
        " first_claimed_at = now() WHERE order_id = %s",
        (victim.order_id,),
    )


def claim_before_order(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute(
        "UPDATE pending_orders SET claimed_by = 'w', claimed_at = now(),"
        " first_claimed_at = now() - interval '1 h' WHERE order_id = %s",
        (victim.order_id,),
    )


def pending_gone(connection: Connection, victim: Victim, _: random.Random) -> None:
    connection.execute("DELETE FROM pending_orders WHERE order_id = %s", (victim.order_id,))


def author_everywhere(connection: Connection, victim: Victim, choice: random.Random) -> None:
    placed_by(connection, victim, choice)
    edited = connection.execute(
        "SELECT convert_from(state, 'UTF8')::json ->> 'placed_by' FROM stored_events"
        " WHERE originator_id = %s AND originator_version = 1",
        (victim.order_id,),
    ).fetchone()
    assert edited is not None
    in_queue(connection, victim, "placed_by", edited[0])


def recorded_time(connection: Connection, victim: Victim, choice: random.Random) -> None:
    connection.execute(
        "UPDATE stored_events SET recorded_at = recorded_at - interval '1 s'"
        " WHERE originator_id = %s AND originator_version = %s",
        (victim.order_id, choice.randrange(1, 6)),
    )


def worker(connection: Connection, victim: Victim, choice: random.Random) -> None:
    edit(connection, victim, 2, worker=f"worker-{choice.randrange(2, 9)}")


def delete_everywhere(connection: Connection, victim: Victim, _: random.Random) -> None:
    """Delete an order from the log and from the queue."""
    delete_order(connection, victim, _)
    queue_row(connection, victim, _)
    for table in ("scheduled_slices", "due_orders"):
        connection.execute(
            psycopg.sql.SQL("DELETE FROM {} WHERE created_position = %s").format(
                psycopg.sql.Identifier(table)
            ),
            (victim.first_position,),
        )


def replace_history(connection: Connection, victim: Victim, choice: random.Random) -> None:
    """Replace the order by another valid one of the same key, in the log and in the queue."""
    created = victim.history[0]
    assert isinstance(created, OrderCreated)
    seed = f"{choice.randrange(2**64):016x}"
    history = released(msgspec.structs.replace(created, split_seed=seed))
    for event in stored(history):
        connection.execute(
            "UPDATE stored_events SET state = %s"
            " WHERE originator_id = %s AND originator_version = %s",
            (event.state, event.originator_id, event.originator_version),
        )


CONTRADICTED: Final[dict[Tamper, set[Fault]]] = {
    side: {"CANNOT_FOLLOW"},
    placed_by: {"QUEUE"},
    creation_time: {"NEVER_ACCEPTED"},
    trace: {"QUEUE"},
    quantity: {"SCHEDULE"},
    slice_quantities: {"SCHEDULE"},
    white_space: {"ENCODING"},
    delete_first: {"VERSIONS"},
    delete_middle: {"VERSIONS"},
    delete_newest: {"QUEUE"},
    delete_order: {"QUEUE"},
    insert_copy: {"CANNOT_FOLLOW"},
    swap_positions: {"VERSIONS"},
    forge_id: {"WRONG_ID"},
    queue_side: {"QUEUE"},
    queue_author: {"QUEUE"},
    queue_released: {"QUEUE"},
    queue_row: {"QUEUE"},
    queue_slice_time: {"SLICES"},
    queue_slice_gone: {"SLICES"},
    due_time: {"DUE"},
    due_gone: {"DUE"},
    claim_of_settled: {"PENDING"},
}
PENDING: Final[dict[Tamper, set[Fault]]] = {
    claim_in_future: {"CLAIM"},
    claim_before_order: {"CLAIM"},
    pending_gone: {"PENDING"},
}


ONLY_BY_THE_SEAL: Final[dict[Tamper, set[Fault]]] = {
    author_everywhere: {"ALTERED"},
    recorded_time: {"ALTERED"},
    worker: {"ALTERED"},
    delete_everywhere: {"DELETED"},
    replace_history: {"ALTERED"},
}
"""The faults that only the seal finds."""

ALTERING: Final = (side, placed_by, creation_time, trace, quantity, slice_quantities, white_space)
DELETING: Final = (delete_first, delete_middle, delete_newest, delete_order)
ALSO_BY_THE_SEAL: Final[dict[Tamper, set[Fault]]] = {
    **{kind: {"ALTERED"} for kind in (*ALTERING, swap_positions, forge_id)},
    **{kind: {"DELETED"} for kind in DELETING},
}
"""The faults that the seal finds in addition."""


def split_order(number: int) -> tuple[Event, ...]:
    return released(
        order_created(f"split_{number}", timestamp=T0 + timedelta(seconds=number), num_splits=8)
    )


def released(created: OrderCreated) -> tuple[Event, ...]:
    history: tuple[Event, ...] = (created, slices_scheduled(created))
    history += (slices_released(*history, count=2),)
    history += (slices_expired(*history, count=2),)
    return (*history, slices_released(*history))


class Seal:
    """The key and the anchors of a sealed log, outside of the database."""

    def __init__(self, home: Path) -> None:
        self.anchors = home / "anchors.txt"
        self.key_file = home / "seal.key"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(KEY.text)

    def seal(self, conninfo: str, key: SigningKey = KEY) -> None:
        """Seal the whole log."""

        async def seal() -> None:
            database = Database(conninfo, pool_size=2)
            await database.open()
            try:
                await seal_all(sealer(database, self.anchors, key))
            finally:
                await database.close()

        asyncio.run(seal())

    def verify(self, conninfo: str, *arguments: str) -> list[dict[str, Any]]:
        """What `pulse verify` finds."""
        ended = run_pulse(
            *("verify", "--json", *arguments),
            conninfo=conninfo,
            seal_key=self.key_file,
            anchor_file=self.anchors,
        )
        findings: list[dict[str, Any]] = json.loads(ended.out)["findings"]
        assert ended.exit_code == (1 if findings else 0), ended.err
        return findings


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    return Seal(tmp_path)


def project_again(conninfo: str, order_ids: Iterable[UUID]) -> None:
    for order_id in order_ids:
        assert run_pulse("projections", "retry", str(order_id), conninfo=conninfo).exit_code == 0


EXPECTED: Final = CONTRADICTED | PENDING | ONLY_BY_THE_SEAL


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_every_kind_of_tampering_is_found_and_named(conninfo: str, seal: Seal, seed: int) -> None:
    choice = random.Random(seed)
    kinds = list(EXPECTED) * VICTIMS_PER_KIND
    choice.shuffle(kinds)
    victims: list[tuple[Tamper, Victim]] = []
    events: list[Event] = []
    for number, kind in enumerate(kinds):
        history = (order_created(f"pending_{number}"),) if kind in PENDING else split_order(number)
        victims.append((kind, Victim(history, len(events) + 1)))
        events += history
    unchanged = [split_order(number) for number in range(1000, 1000 + UNCHANGED_ORDERS)]
    cancelled = order_created("cancelled")
    events += [event for history in unchanged for event in history]
    events += [cancelled, order_cancelled(cancelled)]
    write(conninfo, *stored(events))
    projected(conninfo)
    seal.seal(conninfo)
    assert seal.verify(conninfo) == []

    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        for kind, victim in victims:
            kind(connection, victim, choice)
    project_again(conninfo, [v.order_id for kind, v in victims if kind is replace_history])
    findings = seal.verify(conninfo)

    for kind, victim in victims:
        positions = range(victim.first_position, victim.first_position + len(victim.history))
        named = {
            finding["fault"]
            for finding in findings
            if finding["order_id"] == str(victim.order_id) or finding["position"] in positions
        }
        expected = EXPECTED[kind] | ALSO_BY_THE_SEAL.get(kind, set())
        assert expected <= named, f"{kind.__name__}: {named}"
        assert kind not in ONLY_BY_THE_SEAL or named == expected, f"{kind.__name__}: {named}"
    unchanged_ids = {str(history[0].originator_id) for history in unchanged}
    assert not [finding for finding in findings if finding["order_id"] in unchanged_ids]
    assert not {finding["fault"] for finding in findings} & {"TREE", "SIGNATURE", "ANCHOR"}


def faults(findings: list[dict[str, Any]]) -> set[str]:
    return {finding["fault"] for finding in findings}


@pytest.fixture(scope="module")
def sealed_template(
    postgres: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The name of a database, for clones, with a projected and sealed log; and its anchors."""
    seal = Seal(tmp_path_factory.mktemp("seal"))
    with cloned_database(postgres, template_database) as conninfo:
        write(conninfo, *stored([event for number in range(240) for event in split_order(number)]))
        projected(conninfo)
        seal.seal(conninfo)
        yield str(conninfo_to_dict(conninfo)["dbname"]), seal.anchors


@pytest.fixture
def sealed(postgres: str, sealed_template: tuple[str, Path], seal: Seal) -> Iterator[str]:
    """A projected and sealed log of 1,200 events."""
    template, anchors = sealed_template
    shutil.copy(anchors, seal.anchors)
    with cloned_database(postgres, template) as conninfo:
        yield conninfo


FORGET: Final = (
    "TRUNCATE seal_entries, seal_nodes, seal_keys",
    (
        "UPDATE seal_state SET verifier_key = NULL, size = 0, position = 0, last_entry = NULL,"
        " frontier = '', checkpoint = NULL, checkpoint_size = 0, checkpoint_at = NULL"
    ),
)
"""Removes every trace of the seal from the database."""


def test_the_newest_thousand_deleted_everywhere_are_found(sealed: str, seal: Seal) -> None:
    tamper(
        sealed,
        "DELETE FROM stored_events WHERE notification_id > 200",
        "DELETE FROM order_queue WHERE created_position > 200",
        "DELETE FROM scheduled_slices WHERE created_position > 200",
        "DELETE FROM due_orders WHERE created_position > 200",
        "UPDATE notification_tracking SET notification_id = 200",
    )
    findings = seal.verify(sealed)
    assert faults(findings) == {"DELETED"}
    assert findings[0]["position"] == 201
    assert "900 further sealed events, up to position 1200" in findings[-1]["detail"]


def test_events_and_seal_cut_together_are_found_by_the_anchors(sealed: str, seal: Seal) -> None:
    kept = seal.anchors.rename(seal.anchors.with_name("kept.txt"))
    tamper(sealed, *FORGET, "DELETE FROM stored_events WHERE notification_id > 1190")
    seal.seal(sealed)  # with the key: the seal agrees with the log again
    findings = seal.verify(sealed, "--anchors", str(kept))
    assert "ANCHOR" in faults(findings)
    assert "an anchor has 1200 entries, the tree has 1190" in str(findings)


def test_a_log_rewritten_and_sealed_again_with_the_key_is_found_by_anchors_outside(
    sealed: str, seal: Seal
) -> None:
    kept = seal.anchors.rename(seal.anchors.with_name("kept.txt"))
    tamper(sealed, *FORGET, "UPDATE stored_events SET recorded_at = recorded_at - interval '1 s'")
    seal.seal(sealed)
    assert seal.verify(sealed) == []  # nothing in the database contradicts it
    findings = seal.verify(sealed, "--anchors", str(kept))
    assert faults(findings) == {"ANCHOR"}
    assert "an anchor of 1200 entries has another root" in str(findings)


def test_a_log_rewritten_and_sealed_with_another_key_is_found(sealed: str, seal: Seal) -> None:
    tamper(sealed, *FORGET, "UPDATE stored_events SET recorded_at = recorded_at - interval '1 s'")
    real, seal.anchors = seal.anchors, seal.anchors.with_name("forged.txt")
    seal.seal(sealed, OTHER_KEY)
    assert "SIGNATURE" in faults(seal.verify(sealed))
    ended = run_pulse("verify", "--json", "--anchors", str(real), conninfo=sealed)
    assert {each["fault"] for each in json.loads(ended.out)["findings"]} == {"ANCHOR"}


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        ("TRUNCATE seal_entries", "seal_entries has no row for leaf 0, of 1200"),
        (
            "DELETE FROM seal_entries WHERE first_index = 256",
            "seal_entries has no row for leaf 256",
        ),
        ("UPDATE seal_nodes SET hash = sha256(hash)", "4 rows of seal_nodes are wrong or missing"),
        ("TRUNCATE seal_nodes", "4 rows of seal_nodes are wrong or missing"),
        (
            "UPDATE seal_state SET frontier = repeat('x', length(frontier))::bytea",
            "the hashes in seal_state are not those",
        ),
        (
            "UPDATE seal_state SET size = 1, frontier = sha256('')",
            "has 1200 entries, the tree has 1",
        ),
        ("DELETE FROM seal_state", "the row of the seal is missing"),
        ("UPDATE seal_state SET checkpoint = NULL", "seal_state has entries but no checkpoint"),
        (
            "UPDATE seal_state SET checkpoint = replace(checkpoint, '1200', '1199')",
            "the checkpoint in seal_state is not signed by a trusted key",
        ),
        ("UPDATE seal_keys SET verifier_key = 'x+1+AA'", "seal_keys: "),
        ("TRUNCATE seal_keys", "seal_keys does not end with the key in seal_state"),
    ],
    ids=str,
)
def test_tampering_with_the_seal_itself_is_found(
    sealed: str, seal: Seal, statement: str, detail: str
) -> None:
    tamper(sealed, statement)
    findings = seal.verify(sealed)
    assert faults(findings) <= {"TREE", "SIGNATURE", "ANCHOR"}
    assert detail in str(findings)


def test_an_anchor_file_that_is_cut_short_is_no_finding(sealed: str, seal: Seal) -> None:
    content = seal.anchors.read_bytes()
    seal.anchors.write_bytes(content + content[: len(content) // 2])
    assert seal.verify(sealed) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--anchors", "missing.txt"), "missing.txt cannot be read: No such file or directory"),
        (("--key", "no key"), "not a verifier key"),
    ],
)
def test_an_unreadable_key_or_anchor_file_is_an_error(
    conninfo: str, arguments: tuple[str, ...], message: str
) -> None:
    ended = run_pulse("verify", *arguments, conninfo=conninfo)
    assert ended.exit_code == 1
    assert message in ended.err


def test_an_event_inserted_far_ahead_is_found(conninfo: str) -> None:
    write(conninfo, *stored(split_order(1)))
    forged = stored([order_created("forged")])[0]
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO stored_events"
            " (originator_id, originator_version, topic, state, notification_id)"
            " VALUES (%s, 1, %s, %s, 1000000)",
            (forged.originator_id, forged.topic, forged.state),
        )
    ended = run_pulse("verify", conninfo=conninfo)
    assert (
        "position 1,000,000: a version or position is wrong: stored_events has an event with id"
        in (ended.out)
    )


def test_the_newest_events_deleted_are_found_by_the_position(conninfo: str) -> None:
    write(conninfo, *stored([event for number in range(5) for event in split_order(number)]))
    projected(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("DELETE FROM stored_events WHERE notification_id > 15")
    ended = run_pulse("verify", conninfo=conninfo)
    assert "the projection is at position 25, the log ends at 15" in ended.out
    assert ended.out.count("of an order whose creation is not in the log") == 2


def test_a_position_set_back_is_found(conninfo: str) -> None:
    write(conninfo, *stored(split_order(1)))
    projected(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE notification_tracking SET notification_id = 0")
    ended = run_pulse("verify", conninfo=conninfo)
    assert "but order_queue has an order created at 1" in ended.out


def test_rows_of_no_order_are_found_by_table_and_position(conninfo: str) -> None:
    write(conninfo, *stored(split_order(1)))
    projected(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO scheduled_slices (created_position, scheduled_at, quantity,"
            " sequence_number) VALUES (3, now(), 5, 1)"
        )
        connection.execute("INSERT INTO due_orders VALUES (4, now())")
    ended = run_pulse("verify", conninfo=conninfo)
    assert (
        "scheduled_slices has rows with created_position 3, where no order was created" in ended.out
    )
    assert "due_orders has rows with created_position 4, where no order was created" in ended.out


SUMMED_EVENTS: Final = 3_200
"""Three windows of 1,024 positions are summed up, and some events follow."""


@pytest.fixture(scope="module")
def summed_template(postgres: str, template_database: str) -> Iterator[str]:
    """The name of a database, for clones, with a projected log and the sums of its history."""
    with cloned_database(postgres, template_database) as conninfo:
        orders = range(SUMMED_EVENTS // 5)
        write(conninfo, *stored([event for number in orders for event in split_order(number)]))
        projected(conninfo)

        async def sum_up() -> None:
            database = Database(conninfo, pool_size=2)
            await database.open()
            try:
                await HistorySummary(database, EventMapper()).run_until_done()
            finally:
                await database.close()

        asyncio.run(sum_up())
        assert json.loads(run_pulse("verify", "--json", conninfo=conninfo).out)["findings"] == []
        yield str(conninfo_to_dict(conninfo)["dbname"])


@pytest.fixture
def summed(postgres: str, summed_template: str) -> Iterator[str]:
    """A log of the test's own in which `pulse verify` finds nothing."""
    with cloned_database(postgres, summed_template) as conninfo:
        yield conninfo


A_ROW: Final = "the row of queue_history with until_position"
INSERT_ROW: Final = "INSERT INTO queue_history VALUES ({}, now(), 1, 0, 0, 0, 7, 0, 0, 0)"


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        (
            "UPDATE queue_history SET completed = completed + 1 WHERE until_position = 2048",
            f"{A_ROW} 2048 has completed ",
        ),
        (
            (
                "UPDATE queue_history SET released_quantity = released_quantity + 1,"
                " remaining_quantity = remaining_quantity - 1 WHERE until_position = 1024"
            ),
            f"{A_ROW} 1024 has remaining_quantity",
        ),
        (
            (
                "UPDATE queue_history SET max_recorded_at = '2026-01-01T00:00:00Z'"
                " WHERE until_position = 3072"
            ),
            f"{A_ROW} 3072 has max_recorded_at 2026-01-01T00:00:00Z, the log gives",
        ),
        (
            "DELETE FROM queue_history WHERE until_position = 1024",
            "queue_history has no row with until_position 1024, the log gives one",
        ),
        (
            "DELETE FROM queue_history WHERE until_position <= 2048",
            "queue_history has no row with until_position 2048, the log gives one",
        ),
        (
            "UPDATE queue_history SET until_position = 1000 WHERE until_position = 1024",
            f"{A_ROW} 1000 is wrong: no window ends there",
        ),
        (INSERT_ROW.format(4096), f"{A_ROW} 4096 is of a window that is not projected"),
        (INSERT_ROW.format(2**40), f"{A_ROW} {2**40} is of a window that is not projected"),
        (INSERT_ROW.format(0), f"{A_ROW} 0 is wrong: no window ends there"),
        (INSERT_ROW.format(-1024), f"{A_ROW} -1024 is wrong: no window ends there"),
    ],
    ids=str,
)
def test_tampering_with_the_history_of_the_queue_is_found(
    summed: str, statement: str, detail: str
) -> None:
    tamper(summed, statement)
    findings = json.loads(run_pulse("verify", "--json", conninfo=summed).out)["findings"]
    assert faults(findings) == {"HISTORY"}
    assert detail in str(findings)


def test_the_history_of_a_log_that_was_changed_is_found(summed: str) -> None:
    tamper(
        summed,
        "UPDATE queue_history SET pending = 9 WHERE until_position = 1024",
        "UPDATE stored_events SET notification_id = 9999 WHERE notification_id = 2000",
        "DELETE FROM stored_events WHERE notification_id BETWEEN 2049 AND 3072",
        "SELECT setval('stored_events_notification_id_seq', 9999)",
    )
    ended = run_pulse("verify", "--json", "--since", "1000", conninfo=summed)
    details = [
        finding["detail"]
        for finding in json.loads(ended.out)["findings"]
        if finding["fault"] == "HISTORY"
    ]
    assert not any("until_position 1024" in detail for detail in details)
    assert any(detail.startswith(f"{A_ROW} 2048 has") for detail in details)
    assert f"{A_ROW} 3072 is of a window without events" in details


def test_only_what_came_after_a_position_is_verified(conninfo: str) -> None:
    first, second = split_order(1), split_order(2)
    write(conninfo, *stored([*first, *second]))
    projected(conninfo)
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        for history in (first, second):
            in_queue(connection, Victim(history, 0), "side", "SELL")

    later = json.loads(run_pulse("verify", "--json", "--since", "5", conninfo=conninfo).out)
    assert [one["order_id"] for one in later["findings"]] == [str(second[0].originator_id)]
    assert later["orders"] == 1
    # An order with an event after the position is verified as a whole.
    last = json.loads(run_pulse("verify", "--json", "--since", "4", conninfo=conninfo).out)
    assert (last["orders"], last["faults"]) == (2, {"QUEUE": 2})
    refused = run_pulse("verify", str(uuid4()), "--since", "4", conninfo=conninfo)
    assert (refused.exit_code, refused.err.split(";")[0]) == (
        2,
        "pulse: Invalid value for --since: give either ORDER_ID or --since",
    )
