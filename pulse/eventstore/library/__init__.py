"""The `eventsourcing` library on Pulse's log: its recorders, synchronous, over Pulse's appender."""

from pulse.eventstore.library.factory import Factory
from pulse.eventstore.library.recorder import PulseAggregateRecorder, PulseApplicationRecorder
from pulse.eventstore.library.subscription import FollowLimits, PulseSubscription
from pulse.eventstore.library.tracking import PulseProcessRecorder, PulseTrackingRecorder

__all__ = [
    "Factory",
    "FollowLimits",
    "PulseAggregateRecorder",
    "PulseApplicationRecorder",
    "PulseProcessRecorder",
    "PulseSubscription",
    "PulseTrackingRecorder",
]
