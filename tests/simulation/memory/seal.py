"""The in-memory tables of the seal, and the sealer's statements on them."""

import json
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from psycopg.errors import UniqueViolation

from pulse.eventstore import RecordedEvent
from pulse.evidence.tiles import encode_bundle
from tests.simulation.memory.server import Result, Server, Session
from tests.simulation.memory.tables import Seal, SealRow

_BUNDLE: Final = 256


def seal_entry(record: RecordedEvent) -> bytes:
    """The entry of an event, as the SQL function of this name computes it."""
    recorded_at: datetime = record.recorded_at
    fields = {
        "position": record.position,
        "order_id": str(record.originator_id),
        "version": record.originator_version,
        "topic": record.topic,
        "recorded_at": recorded_at.isoformat().replace("+00:00", "Z"),
        "state_sha256": sha256(record.state).hexdigest(),
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def lock_seal(server: Server, session: Session, _: Any) -> Result:
    if server.seal_holder not in {None, session}:
        return Result([])
    server.begin(session)
    server.seal_holder = session
    return Result([state_row(server, _seal_of(server, session).row)])


def state_row(server: Server, row: SealRow) -> tuple[Any, ...]:
    """The columns that lock_seal returns."""
    age = None if row.checkpoint_at is None else (server.now - row.checkpoint_at).total_seconds()
    return (
        *(row.verifier_key, row.size, row.position, row.last_entry, row.frontier),
        *(row.checkpoint, row.checkpoint_size, age),
    )


def seal_events(server: Server, session: Session, parameters: Any) -> Result:
    seal = change_seal(server, session)
    size, position = parameters["size"], parameters["position"]
    records = server.log.after(position, parameters["limit"])
    entries = [seal_entry(record) for record in records]
    indices = range(size, size + len(entries))
    for first in sorted({max(size, index // _BUNDLE * _BUNDLE) for index in indices}):
        in_row = slice(first - size, (first // _BUNDLE + 1) * _BUNDLE - size)
        row = (records[in_row][0].position, encode_bundle(entries[in_row]))
        if seal.entries.setdefault(first, row) is not row:
            raise UniqueViolation(f"Key (first_index)=({first}) already exists.")
    last = next((r for r in reversed(server.log.rows) if r.position == position), None)
    is_intact = None if last is None else seal_entry(last) == parameters["last_entry"]
    leaves = b"".join(sha256(b"\x00" + entry).digest() for entry in entries)
    if not entries:
        return Result([(0, None, None, None, is_intact)])
    return Result([(len(entries), records[-1].position, leaves, entries[-1], is_intact)])


def insert_nodes(server: Server, session: Session, parameters: Any) -> Result:
    seal = change_seal(server, session)
    for level, index, value in zip(*parameters, strict=True):
        if seal.nodes.setdefault((level, index), value) is not value:
            raise UniqueViolation(f"Key (level, node_index)=({level}, {index}) already exists.")
    return Result([], len(parameters[0]))


def insert_key(server: Server, session: Session, parameters: Any) -> Result:
    seal = change_seal(server, session)
    seal.keys.append(parameters["key"])
    seal.row.verifier_key = parameters["key"]
    return Result([], 1)


def update_seal(server: Server, session: Session, parameters: Any) -> Result:
    row = change_seal(server, session).row
    for name in ("size", "position", "last_entry", "frontier"):
        setattr(row, name, parameters[name])
    return Result([], 1)


def update_checkpoint(server: Server, session: Session, parameters: Any) -> Result:
    row = change_seal(server, session).row
    row.checkpoint, row.checkpoint_size = parameters[0], row.size
    row.checkpoint_at = server.now
    return Result([], 1)


def select_entries(server: Server, session: Session, parameters: Any) -> Result:
    entries = _seal_of(server, session).entries
    begin, end = parameters
    return Result([(entries[first][1],) for first in sorted(entries) if begin <= first < end])


def select_nodes(server: Server, session: Session, parameters: Any) -> Result:
    nodes, (level, begin, end) = _seal_of(server, session).nodes, parameters
    found = sorted(index for at, index in nodes if at == level and begin <= index < end)
    return Result([(nodes[level, index],) for index in found])


def change_seal(server: Server, session: Session) -> Seal:
    """The seal as the session's transaction changes it."""
    changes = server.begin(session)
    if changes.seal is None:
        changes.seal = server.tables.seal.copy()
    return changes.seal


def _seal_of(server: Server, session: Session) -> Seal:
    changed = None if session.changes is None else session.changes.seal
    return server.tables.seal if changed is None else changed
