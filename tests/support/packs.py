"""Evidence packs without a database: a log in memory that is sealed, and packs of it."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event
from pulse.eventstore import RecordedEvent
from pulse.evidence.findings import Finding
from pulse.evidence.merkle import EMPTY_ROOT, Frontier, leaf_hash
from pulse.evidence.note import Checkpoint, SigningKey, VerifierKey
from pulse.evidence.pack.archive import header_of
from pulse.evidence.pack.check import PackCheck, PackReport
from pulse.evidence.pack.members import ClockOffset, PackKey, Selection, is_content, render_hashes
from pulse.evidence.pack.writer import (
    Anchor,
    Bounds,
    Exporter,
    PackRequest,
    PackWriter,
    SealedEvent,
)
from pulse.evidence.tiles import TileId
from pulse.rfc3339 import format_time
from tests.support.events import MAPPER, order_created, slices_released, slices_scheduled
from tests.support.seal import KEY

T0: Final = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
POSITIONS: Final = 3
"""Positions are a multiple of this: they have gaps, and the leaves have none."""

EXPORTER: Final = Exporter(
    exported_at=T0 + timedelta(days=1),
    exported_by="cli:auditor",
    database_role="pulse_runtime",
    code_version="0.1.0+g1",
    log_id=UUID(int=7),
)


def completed(number: int) -> list[Event]:
    """An order with a schedule and a release."""
    created = order_created(
        f"ouk_{number}",
        timestamp=T0 + timedelta(seconds=number),
        split_seed=f"{number:016x}",
        total_quantity=100 + number,
    )
    scheduled = slices_scheduled(created)
    return [created, scheduled, slices_released(created, scheduled)]


class SealedLog:
    """Events in the order of the log, one recorded each second from T0 on, with their leaves."""

    def __init__(self, events: Iterable[Event | StoredEvent]) -> None:
        self.events = [
            _sealed(
                index,
                RecordedEvent(
                    position=POSITIONS * (index + 1),
                    originator_id=UUID(str(stored.originator_id)),
                    originator_version=stored.originator_version,
                    topic=stored.topic,
                    state=stored.state,
                    recorded_at=T0 + timedelta(seconds=index),
                ),
            )
            for index, stored in enumerate(map(_stored, events))
        ]
        self._levels = [[leaf_hash(event.entry) for event in self.events]]
        while len(full := self._levels[-1]) >= 256:
            groups = [full[at : at + 256] for at in range(0, len(full) - 255, 256)]
            self._levels.append([_root(group) for group in groups])

    @classmethod
    def of_orders(cls, orders: int) -> "SealedLog":
        """Orders that overlap in the log: each begins a second after the one before."""
        numbered = [
            (number + 2 * at, event)
            for number in range(orders)
            for at, event in enumerate(completed(number))
        ]
        return cls(event for _, event in sorted(numbered, key=lambda pair: pair[0]))

    def checkpoint(self, size: int | None = None, key: SigningKey = KEY) -> str:
        """The signed checkpoint of this size, by default that of the whole log."""
        size = len(self.events) if size is None else size
        root = _root(self._levels[0][:size]) if size else EMPTY_ROOT
        return Checkpoint(key.verifier.name, size, root).signed_by(key)

    async def streams(self, bounds: Bounds) -> AsyncIterator[tuple[int, list[list[SealedEvent]]]]:
        """As `Source.streams`."""
        streams: dict[UUID, list[SealedEvent]] = {}
        until = [event for event in self.events if event.record.position <= bounds.until]
        for event in until:
            if event.record.position > bounds.after:
                streams[event.record.originator_id] = []
        for event in until:
            if event.record.originator_id in streams:
                streams[event.record.originator_id].append(event)
        for stream_id, stream in streams.items():
            if bounds.order_id in {None, stream_id}:
                yield stream[-1].record.position, [stream]

    async def entry(self, index: int, size: int) -> bytes | None:
        """As `Source.entry`."""
        return self.events[index].entry if 0 <= index < size else None

    async def tile(self, tile: TileId) -> bytes:
        """As `Source.tile`."""
        hashes = self._levels[tile.level or 0]
        return b"".join(hashes[256 * tile.index : 256 * tile.index + tile.width])

    def bounds(self, first: int, last: int) -> tuple[Bounds, PackRequest]:
        """The bounds of the leaves `first` to `last` (inclusive), and the request for them."""
        records = [self.events[index].record for index in (first, last)]
        request = PackRequest(
            recorded_from=records[0].recorded_at,
            recorded_before=records[1].recorded_at + timedelta(seconds=1),
        )
        return Bounds(records[0].position - 1, records[1].position, None), request

    def pack(
        self,
        path: Path,
        first: int = 0,
        last: int = -1,
        *,
        order_id: UUID | None = None,
        anchors: Sequence[int] = (),
        keys: Sequence[PackKey] = (PackKey(str(KEY.verifier), None),),
        checkpoint: str | None = None,
    ) -> Path:
        """Write the pack of some leaves, or of an order; returns the file."""
        bounds, request = self.bounds(first, last)
        if order_id is not None:
            bounds = Bounds(0, self.events[-1].record.position, order_id)
            request = PackRequest(order_id=order_id)
        note = checkpoint or self.checkpoint()

        async def write() -> Selection:
            with path.open("wb") as file, path.open("rb") as written:
                writer = PackWriter(self, MAPPER, file, written, lambda *_: None)
                selection = await writer.add_events(bounds, request)
                await writer.add_schedules(selection.events)
                export = writer.add_content(selection, EXPORTER)
                earlier = [Anchor(size, self.checkpoint(size)) for size in anchors]
                signed = writer.add_signatures(note, keys, earlier)
                await writer.add_clocks(_offsets())
                await writer.add_tree(selection, note)
                writer.finish(selection, export, signed)
                return selection

        asyncio.run(write())
        return path


def check(
    pack: Path | bytes, key: VerifierKey | None = KEY.verifier, kept: bytes | None = None
) -> PackReport:
    """Check a pack, in a file or in memory."""
    content = pack if isinstance(pack, bytes) else pack.read_bytes()
    checking = PackCheck(io.BytesIO(content), key, kept)
    for _ in checking.run():
        pass
    return checking.report


def faults(report: PackReport) -> list[Finding]:
    return report.all_findings


def members_of(pack: bytes) -> dict[str, bytes]:
    """The members of a pack, as Python's own tarfile reads them."""
    with tarfile.open(fileobj=io.BytesIO(pack)) as archive:
        return {
            member.name: extracted.read()
            for member in archive
            if (extracted := archive.extractfile(member)) is not None
        }


def pack_of(members: dict[str, bytes]) -> bytes:
    """An archive of these members."""
    parts = []
    for name, content in members.items():
        parts += [header_of(name, len(content)), content, bytes(-len(content) % 512)]
    return b"".join(parts) + bytes(1024)


def rehashed(members: dict[str, bytes]) -> bytes:
    """An archive of these members as a forger would make it, with every hash recomputed."""
    before = json.loads(members["export.json"])["content_hash"].encode()
    content = _hashes({name: value for name, value in members.items() if is_content(name)})
    members = members | {"content.sha256": content}
    for name in ("export.json", "summary.html"):
        after = sha256(content).hexdigest().encode()
        members[name] = members[name].replace(before, after)
    others = {
        name: value
        for name, value in members.items()
        if not is_content(name) and name != "manifest.sha256"
    }
    return pack_of(members | {"manifest.sha256": _hashes(others)})


def _hashes(members: dict[str, bytes]) -> bytes:
    return render_hashes({name: sha256(value).hexdigest() for name, value in members.items()})


async def _offsets() -> AsyncIterator[ClockOffset]:
    for minute in range(2):
        at = T0 + timedelta(minutes=minute)
        yield ClockOffset(at, "host:1:abc", "0.1.0+g1", 60, -0.001, 0.002, 0.0005)


def _stored(event: Event | StoredEvent) -> StoredEvent:
    return event if isinstance(event, StoredEvent) else MAPPER.to_stored_event(event)


def _sealed(index: int, record: RecordedEvent) -> SealedEvent:
    entry = {
        "position": record.position,
        "order_id": str(record.originator_id),
        "version": record.originator_version,
        "topic": record.topic,
        "recorded_at": format_time(record.recorded_at),
        "state_sha256": sha256(record.state).hexdigest(),
    }
    return SealedEvent(record, index, msgspec.json.encode(entry))


def _root(hashes: Sequence[bytes]) -> bytes:
    return Frontier().extended(hashes)[0].root
