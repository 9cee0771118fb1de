"""The errors of an append."""

from uuid import UUID

from pulse.errors import PulseError


class VersionTaken(PulseError):
    """Another event has this version of the stream; nothing of this append was written."""

    def __init__(self, originator_id: UUID, originator_version: int) -> None:
        self.originator_id = originator_id
        self.originator_version = originator_version
        super().__init__(f"version {originator_version} of stream {originator_id} is taken")


class ConditionFailed(PulseError):
    """The append's condition no longer held; nothing was written. Decide again."""


class AppendRefused(PulseError):
    """Nothing was written: Postgres is down or refuses, or Pulse is stopping. Retry later."""


class AppendQueueFull(AppendRefused):
    """Nothing was written: the queue of appends is full."""


class AppendOutcomeUnknown(PulseError):
    """It is not known whether the events are, or will be, stored. A retry resolves it."""
