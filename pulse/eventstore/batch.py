"""The appends that go to Postgres together."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from pulse.eventstore.errors import AppendOutcomeUnknown, AppendRefused, VersionTaken

Key = tuple[UUID, int]
Positions = tuple[int, ...]

Outcome = Positions | BaseException
"""An append's positions in the log, or why it has none."""


class PendingAppend:
    """One caller's events, and the promise of their positions.

    `sent` while Postgres may be writing them, `uncertain` once a reply was lost: then they may
    stand already, and a conflict may be with themselves.
    """

    __slots__ = ("events", "followers", "future", "keys", "sent", "uncertain")

    def __init__(self, events: Sequence[StoredEvent], future: "asyncio.Future[Positions]") -> None:
        self.events = events
        self.keys: tuple[Key, ...] = tuple(
            (_uuid(event.originator_id), event.originator_version) for event in events
        )
        self.future = future
        self.sent = False
        self.uncertain = False
        self.followers: list[PendingAppend] = []

    def settle(self, positions: Positions | None) -> None:
        """Answer its caller, if it still waits; without positions its version was taken."""
        if self.future.done():
            return
        if positions is None:
            self.future.set_exception(VersionTaken(*self.keys[0]))
        else:
            self.future.set_result(positions)

    def fail(self, error: Exception) -> None:
        """Tell its caller, and those who followed it, that it was not written."""
        if not self.future.done():
            self.future.set_exception(error)
        for follower in self.followers:
            follower.fail(AppendRefused("the append it waited for failed"))

    def give_up(self, waited_seconds: float) -> None:
        """Nobody waits any longer: tell whether it may stand all the same."""
        if self.future.done():
            return
        waited = f"within {waited_seconds:g} s"
        if self.may_stand:
            self.future.set_exception(AppendOutcomeUnknown(f"no answer {waited}"))
        else:
            self.future.set_exception(AppendRefused(f"could not be written {waited}"))

    @property
    def outcome(self) -> Outcome:
        """Its end, once there is one."""
        return self.future.exception() or self.future.result()

    @property
    def may_stand(self) -> bool:
        """Whether Postgres may have written them."""
        return self.sent or self.uncertain

    @property
    def is_single(self) -> bool:
        """Whether it may share a statement in which conflicts are left out row by row."""
        return len(self.events) == 1


def take_batch(queue: deque[PendingAppend], most_events: int) -> list[PendingAppend]:
    """The next appends that may go together: in order, of one kind, no key twice, none given up.

    A second claimant of a key follows the first: it is settled when the first one's fate is known.
    """
    batch: list[PendingAppend] = []
    leaders: dict[Key, PendingAppend] = {}
    events = 0
    while queue:
        pending = queue[0]
        if pending.future.done():
            queue.popleft()
            continue
        if batch and (
            pending.is_single != batch[0].is_single or events + len(pending.events) > most_events
        ):
            break
        queue.popleft()
        leader = next((leaders[key] for key in pending.keys if key in leaders), None)
        if leader is not None:
            leader.followers.append(pending)
            continue
        leaders.update(dict.fromkeys(pending.keys, pending))
        batch.append(pending)
        events += len(pending.events)
    return batch


def columns(batch: Iterable[PendingAppend]) -> tuple[list[UUID], list[int], list[str], list[bytes]]:
    """The batch as the arrays its statement takes."""
    ids: list[UUID] = []
    versions: list[int] = []
    topics: list[str] = []
    states: list[bytes] = []
    for pending in batch:
        for (originator_id, version), event in zip(pending.keys, pending.events, strict=True):
            ids.append(originator_id)
            versions.append(version)
            topics.append(event.topic)
            states.append(event.state)
    return ids, versions, topics, states


def stands_as_sent(pending: PendingAppend, stored: dict[Key, Sequence[Any]]) -> Positions | None:
    """The positions of this append's own events if all of them stand, byte for byte."""
    positions: list[int] = []
    for key, event in zip(pending.keys, pending.events, strict=True):
        row = stored.get(key)
        if row is None or row[3] != event.topic or bytes(row[4]) != event.state:
            return None
        positions.append(row[2])
    return tuple(positions)


def _uuid(originator_id: UUID | str) -> UUID:
    return originator_id if isinstance(originator_id, UUID) else UUID(originator_id)
