"""Python implementations of Pulse's SQL statements, found by the text of their `.sql` files."""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg.errors import CheckViolation, UniqueViolation

from pulse.eventstore import RecordedEvent
from pulse.postgres import load_sql
from pulse.projections.queue_writer import (
    INSERT_ORDERS,
    ORDER_COLUMNS,
    REFRESH_DUE_ORDERS,
    SETTLE_SLICES,
)
from tests.simulation.memory import seal
from tests.simulation.memory.server import Blocked, Result, Server, Session
from tests.simulation.memory.tables import Changes, Row, Tables

Statement = Callable[[Server, Session, Any], Result]
_COPY_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LOG_ID: Final = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
_QUANTITIES: Final = ("released_quantity", "cancelled_quantity", "expired_quantity")
_SETTLES_WHOLE: Final = {"FAILED": "expired_quantity", "CANCELLED": "cancelled_quantity"}
_DUE_COLUMNS: Final = (
    *("order_id", "version", "order_unique_key", "instrument", "side", "placed_by", "trace_id"),
)


def append_events(server: Server, _: Session, parameters: Any) -> Result:
    _, guard_stream, *columns, guards, times = parameters
    guard_version = len(server.log.streams.get(guard_stream, ()))
    rows = [
        row
        for *row, guard, before in zip(*columns, guards, times, strict=True)
        if guard in {None, guard_version} and (before is None or server.now < before)
    ]
    passed: Any = tuple(zip(*rows, strict=True)) or ((),) * 4
    written = server.log.append(passed, server.now)
    return Result([(r.originator_id, r.originator_version, r.position) for r in written])


def append_events_or_fail(server: Server, _: Session, parameters: Any) -> Result:
    written = server.log.append_all(parameters[:4], server.now)
    if written is None:
        raise UniqueViolation("duplicate key value violates unique constraint")
    return Result([(r.originator_id, r.originator_version, r.position) for r in written])


def select_stored(server: Server, _: Session, parameters: Any) -> Result:
    found = [server.log.by_key.get(key) for key in zip(*parameters, strict=True)]
    return Result(
        [
            (r.originator_id, r.originator_version, r.position, r.topic, r.state)
            for r in found
            if r is not None
        ]
    )


def select_append_rights(_: Server, __: Session, ___: Any) -> Result:
    return Result([(True, "", True, "", "")])


def try_append(server: Server, _: Session, __: Any) -> Result:
    server.log.skip_ids(1)
    return Result([])


def wait_for_replicas(_: Server, __: Session, ___: Any) -> Result:
    return Result([(None,)])


def select_streams(server: Server, _: Session, parameters: Any) -> Result:
    streams = server.log.streams
    return Result([_row(r) for i in sorted(set(parameters[0])) for r in streams.get(i, ())])


def select_stream_after(server: Server, _: Session, parameters: Any) -> Result:
    stream_id, version = parameters
    records = server.log.streams.get(stream_id, ())
    return Result([_row(r) for r in records if r.originator_version > version])


def select_log_page(server: Server, _: Session, parameters: Any) -> Result:
    found = server.log.after(parameters["after"], parameters["limit"])
    return Result([(_LOG_ID, *_row(r)) for r in found] or [(_LOG_ID, *[None] * 6)])


def select_issued_log(server: Server, _: Session, parameters: Any) -> Result:
    after, limit = parameters
    return Result([_row(r) for r in server.log.after(after, limit)])


def select_end(server: Server, _: Session, __: Any) -> Result:
    return Result([(server.log.end,)])


def select_order_streams(server: Server, _: Session, parameters: Any) -> Result:
    rows: list[tuple[Any, ...]] = []
    for order_id in sorted(set(parameters[0])):
        pending = server.tables.pending.get(order_id)
        held = (None, None) if pending is None else (pending.claimed_by, pending.claimed_at)
        rows += [
            (*_row(r), *(held if r.originator_version == 1 else (None, None)))
            for r in server.log.streams.get(order_id, ())
        ]
    return Result(rows)


def select_order_creations(server: Server, _: Session, parameters: Any) -> Result:
    rows: list[tuple[Any, ...]] = []
    for order_id in parameters[0]:
        stream = server.log.streams.get(order_id, ())
        rows.append((order_id, stream[0].state if stream else parameters[1]))
    return Result(rows)


def claim_orders(server: Server, _: Session, parameters: Any) -> Result:
    versions, left_out, limit, worker = parameters
    tables, now = server.tables, server.now
    locked = _orders_with_open_outcome(server)
    free = sorted(
        (tables.orders[order_id]["created_position"], order_id)
        for order_id, pending in tables.pending.items()
        if pending.claimed_by is None
        and tables.orders[order_id]["splitter_version"] in versions
        and order_id not in left_out
        and order_id not in tables.parked
        and order_id not in locked
    )
    return Result([_claim(server, order_id, worker, now) for _, order_id in free[:limit]])


def release_claims(server: Server, session: Session, parameters: Any) -> Result:
    order_ids, worker = parameters
    held = [i for i in order_ids if i in server.tables.pending]
    return _release(server, session, [i for i in held if _holds(server, i, worker)])


def release_orphans(server: Server, session: Session, parameters: Any) -> Result:
    (timeout_seconds,) = parameters
    young = server.now - timedelta(seconds=timeout_seconds)
    orphans = [
        (order_id, pending.claimed_by)
        for order_id, pending in server.tables.pending.items()
        if pending.claimed_by is not None
        and pending.first_claimed_at is not None
        and pending.first_claimed_at > young
        and pending.claimed_by not in server.present
        and not server.has_open_outcome(order_id, but=session)
    ]
    for order_id, _ in orphans:
        server.tables.pending[order_id].release()
    return Result(list(orphans))


def select_overdue_claims(server: Server, _: Session, parameters: Any) -> Result:
    timeout_seconds, *after, limit = parameters
    old = server.now - timedelta(seconds=timeout_seconds)
    overdue = sorted(
        (pending.first_claimed_at, order_id, pending.claimed_by, pending.claimed_at)
        for order_id, pending in server.tables.pending.items()
        if pending.claimed_by is not None
        and pending.first_claimed_at is not None
        and pending.first_claimed_at <= old
        and (pending.first_claimed_at, order_id) > tuple(after)
        and order_id not in server.tables.parked
    )
    return Result([(i, by, at, first) for first, i, by, at in overdue[:limit]])


def try_lock_position(server: Server, session: Session, _: Any) -> Result:
    if server.position_holder not in {None, session}:
        return Result([])
    server.begin(session)
    server.position_holder = session
    return Result([(server.tables.position, bool(server.tables.parked))])


def select_position(server: Server, _: Session, __: Any) -> Result:
    """Not in a transaction: it sees the committed position."""
    return Result([(server.tables.position,)])


def advance_position(server: Server, session: Session, parameters: Any) -> Result:
    server.begin(session).position = parameters[0]
    return Result([], 1)


def insert_orders(server: Server, session: Session, parameters: Any) -> Result:
    changes = server.begin(session)
    rows = _rows_of(parameters)
    for row in rows:
        order_id = row["order_id"]
        if changes.order(server.tables, order_id) is not None:
            raise UniqueViolation(f"Key (order_id)=({order_id}) already exists.")
        changes.orders[order_id] = _checked(dict.fromkeys(ORDER_COLUMNS) | row)
    return Result([], len(rows))


def apply_outcomes(server: Server, session: Session, parameters: Any) -> Result:
    changes, updated = server.begin(session), list[tuple[Any, ...]]()
    for outcome in _rows_of(parameters):
        order_id = outcome["order_id"]
        row = changes.order(server.tables, order_id)
        if row is None or row["state"] != "PENDING":
            continue
        if outcome["state"] in _SETTLES_WHOLE:
            outcome[_SETTLES_WHOLE[outcome["state"]]] = row["total_quantity"]
        changes.orders[order_id] = _checked(row | outcome)
        changes.outcomes.add(order_id)
        releases = row["release"] and outcome["state"] == "COMPLETED"
        updated.append((order_id, row["created_position"], releases))
    return Result(updated)


def settle_slices(server: Server, session: Session, parameters: Any) -> Result:
    changes, tables = server.begin(session), server.tables
    settled, not_due = 0, list[int]()
    for change in _rows_of([parameters["changes"]]):
        row = changes.order(tables, change["order_id"])
        follows = (
            row is not None
            and row["state"] == "COMPLETED"
            and row["version"] == change["after_version"]
            and len(row["settled"]) == change["after_slice"]
            and (row["release"] or change["released_quantity"] + change["expired_quantity"] == 0)
        )
        if row is None or not follows:
            continue
        sums = {name: row[name] + change[name] for name in ("settled", *_QUANTITIES)}
        latest = {name: change[name] for name in ("version", "position", "updated_at")}
        changes.orders[change["order_id"]] = _checked(row | sums | latest)
        settled += 1
        position = row["created_position"]
        due_at = _due_at(changes, tables, position, _rule_of(parameters))
        if changes.due_at(tables, position) is not None:
            changes.due[position] = due_at
        elif due_at is not None:
            not_due.append(position)
    return Result([(settled, not_due)])


def refresh_due_orders(server: Server, session: Session, parameters: Any) -> Result:
    changes, tables = server.begin(session), server.tables
    changed = list[tuple[Any, ...]]()
    for position in parameters["positions"]:
        due_at = _due_at(changes, tables, position, _rule_of(parameters))
        if due_at != changes.due_at(tables, position):
            changes.due[position] = due_at
            changed.append((position,))
    return Result(changed)


def select_due_orders(server: Server, _: Session, parameters: Any) -> Result:
    """Not in a transaction: it sees the committed rows."""
    return due_orders_at(server.now, server.tables, server.tables.due, parameters)


def due_orders_at(
    now: datetime, tables: Tables, due_rows: Mapping[int, datetime], parameters: Any
) -> Result:
    """As select_due_orders, at this time and with these rows of due orders."""
    later = [due_at for due_at in due_rows.values() if due_at > now]
    moment = (now, (min(later) - now).total_seconds() if later else None)
    due = sorted(
        (due_at, position)
        for position, due_at in due_rows.items()
        if due_at <= now
        and position not in parameters["left_out"]
        and not _waits_for_resume(tables, position, now, parameters)
    )[: parameters["limit"]]
    rows = [(*moment, *_due_order(tables, position, now), position) for _, position in due]
    return Result(rows or [(*moment, *[None] * 11)])


def _waits_for_resume(
    tables: Tables, created_position: int, now: datetime, parameters: Any
) -> bool:
    """Whether a halt covers this order and its next slice has not expired."""
    row = tables.orders[tables.ids[created_position]]
    covered = (
        parameters["all_halted"]
        or row["instrument"] in parameters["halted_instruments"]
        or row["placed_by"] in parameters["halted_callers"]
    )
    number = len(row["settled"]) + 1
    _, scheduled_at = tables.slices[created_position, number]
    expires_at = scheduled_at + timedelta(seconds=parameters["max_delay_seconds"])
    if (created_position, number + 1) in tables.slices:
        least = scheduled_at + timedelta(seconds=parameters["min_release_seconds"])
        _, successor_at = tables.slices[created_position, number + 1]
        expires_at = min(expires_at, max(least, successor_at))
    return covered and now < expires_at


def copy_slices(server: Server, session: Session, data: Any) -> Result:
    changes = server.begin(session)
    taken = {(position, at) for (position, _), (_, at) in server.tables.slices.items()}
    taken |= {(position, at) for (position, _), (_, at) in changes.slices.items()}
    rows = list(_copied(data))
    for position, scheduled_at, quantity, number in rows:
        key = (position, number)
        if key in server.tables.slices or key in changes.slices:
            raise UniqueViolation(f"Key (created_position, sequence_number)={key} already exists.")
        if (position, scheduled_at) in taken:
            raise UniqueViolation(f"Order {position} has two slices at {scheduled_at}.")
        taken.add((position, scheduled_at))
        changes.slices[key] = (quantity, scheduled_at)
    return Result([], len(rows))


def select_parked_among(server: Server, session: Session, parameters: Any) -> Result:
    parked = server.tables.parked | (session.changes.parked if session.changes is not None else {})
    return Result([(i, parked[i][0]) for i in parameters[0] if i in parked])


def check_constraints(server: Server, session: Session, _: Any) -> Result:
    """No constraint is deferred here."""
    server.begin(session)
    return Result([])


def park_order(server: Server, session: Session, parameters: Any) -> Result:
    changes, tables = server.begin(session), server.tables
    order_id = parameters["order_id"]
    row = changes.order(tables, order_id)
    if row is not None and changes.due_at(tables, row["created_position"]) is not None:
        changes.due[row["created_position"]] = None
    if order_id not in tables.parked:
        changes.parked.setdefault(order_id, (parameters["position"], parameters["reason"]))
    return Result([], 1)


_TIMES: Final = (
    *("created_at", "updated_at", "split_completed_at"),
    *("start_at", "window_starts_at", "window_ends_at"),
)


def _rows_of(parameters: Any) -> list[Row]:
    """The rows of a JSON array, with the types of their columns."""
    rows: list[Row] = msgspec.json.decode(parameters[0])
    for row in rows:
        row["order_id"] = UUID(row["order_id"])
        for column in _TIMES:
            if row.get(column) is not None:
                row[column] = datetime.fromisoformat(row[column])
    return rows


def _checked(row: Row) -> Row:
    """The row, if it satisfies the constraints on `settled` and the quantities."""
    total, settled = row["total_quantity"], sum(row[name] for name in _QUANTITIES)
    slices, is_split = len(row["settled"]), row["state"] == "COMPLETED"
    if slices and not (is_split and slices <= row["num_splits"]):
        raise CheckViolation("order_queue_settled_check")
    all_settled = row["state"] in _SETTLES_WHOLE or slices == row["num_splits"]
    if settled > total or (settled == total) != all_settled:
        raise CheckViolation("order_queue_quantities_check")
    return row


def _rule_of(parameters: Any) -> tuple[timedelta, timedelta]:
    """The distance and the catch-up of the rule of due orders."""
    seconds = (parameters[name] for name in ("distance_seconds", "catch_up_seconds"))
    distance, catch_up = (timedelta(seconds=each) for each in seconds)
    return distance, catch_up


def _due_at(
    changes: Changes,
    tables: Tables,
    created_position: int,
    rule: tuple[timedelta, timedelta],
) -> datetime | None:
    """When a releaser has to look at an order; None if it has nothing to release."""
    distance, catch_up = rule
    row = changes.order_at(tables, created_position)
    if row is None or not row["release"]:
        return None
    if row["order_id"] in tables.parked or row["order_id"] in changes.parked:
        return None
    settled: str = row["settled"]
    following = changes.slice(tables, (created_position, len(settled) + 1))
    if following is None:
        return None
    scheduled_at = following[1]
    last = changes.slice(tables, (created_position, len(settled)))
    if last is None or not settled.endswith("R") or scheduled_at - last[1] < distance:
        return scheduled_at
    later: datetime = row["updated_at"] + min(distance, scheduled_at - last[1] - catch_up)
    return max(scheduled_at, later)


def _due_order(tables: Tables, created_position: int, now: datetime) -> tuple[Any, ...]:
    """The columns of a due order: its fields, then its slices that are due and the one after."""
    row = tables.orders[tables.ids[created_position]]
    slices = list[tuple[int, int, datetime]]()
    number = len(row["settled"]) + 1
    while (created_position, number) in tables.slices and (not slices or slices[-1][2] <= now):
        slices.append((number, *tables.slices[created_position, number]))
        number += 1
    return (*(row[name] for name in _DUE_COLUMNS), *map(list, zip(*slices, strict=True)))


def _copied(data: bytes) -> Iterator[tuple[int, datetime, int, int]]:
    """The rows of a binary COPY: position, time, quantity and number."""
    assert data.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    place = 19
    while (fields := int.from_bytes(data[place : place + 2], signed=True)) >= 0:
        place, values = place + 2, list[int]()
        for _ in range(fields):
            size = int.from_bytes(data[place : place + 4])
            values.append(int.from_bytes(data[place + 4 : place + 4 + size], signed=True))
            place += 4 + size
        position, microseconds, quantity, number = values
        yield position, _COPY_EPOCH + timedelta(microseconds=microseconds), quantity, number


def _row(r: RecordedEvent) -> tuple[Any, ...]:
    return (r.position, r.originator_id, r.originator_version, r.topic, r.state, r.recorded_at)


def _claim(server: Server, order_id: Any, worker: str, now: Any) -> tuple[Any, ...]:
    first_claimed_at = server.tables.pending[order_id].claim(worker, now)
    if server.observer is not None:
        server.observer.claimed(order_id)
    return order_id, worker, now, first_claimed_at


def _holds(server: Server, order_id: Any, worker: str) -> bool:
    return server.tables.pending[order_id].claimed_by == worker


def _release(server: Server, session: Session, order_ids: list[Any]) -> Result:
    if any(server.has_open_outcome(order_id, but=session) for order_id in order_ids):
        raise Blocked
    for order_id in order_ids:
        server.tables.pending[order_id].release()
    return Result([(order_id,) for order_id in order_ids])


def _orders_with_open_outcome(server: Server) -> Collection[Any]:
    holder = server.position_holder
    return frozenset() if holder is None or holder.changes is None else holder.changes.outcomes


_BY_PACKAGE: Final[dict[str, tuple[Statement, ...]]] = {
    "pulse.eventstore": (
        append_events,
        append_events_or_fail,
        select_stored,
        select_append_rights,
        try_append,
        wait_for_replicas,
        select_streams,
        select_stream_after,
        select_log_page,
        select_issued_log,
        select_end,
    ),
    "pulse.projections": (
        claim_orders,
        release_claims,
        release_orphans,
        select_overdue_claims,
        select_order_streams,
        select_order_creations,
        try_lock_position,
        select_position,
        advance_position,
        apply_outcomes,
        copy_slices,
        select_due_orders,
        select_parked_among,
        check_constraints,
        park_order,
    ),
    "pulse.evidence": (
        seal.lock_seal,
        seal.seal_events,
        seal.insert_nodes,
        seal.insert_key,
        seal.update_seal,
        seal.update_checkpoint,
        seal.select_entries,
        seal.select_nodes,
    ),
}

STATEMENTS: Final[dict[str, Statement]] = {
    load_sql(package, statement.__name__): statement
    for package, statements in _BY_PACKAGE.items()
    for statement in statements
} | {
    INSERT_ORDERS.as_string(): insert_orders,
    SETTLE_SLICES.as_string(): settle_slices,
    REFRESH_DUE_ORDERS.as_string(): refresh_due_orders,
}
"""Each implementation by the statement's text, which is read from its `.sql` file."""
