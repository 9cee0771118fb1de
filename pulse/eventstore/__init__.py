"""The log: append, read a stream, read the log, and the events' stored form."""

from pulse.eventstore.append_connection import LOG_LOCK, AppendFault, probe_append
from pulse.eventstore.appender import Appender, AppendLimits
from pulse.eventstore.batch import Outcome
from pulse.eventstore.errors import (
    AppendOutcomeUnknown,
    AppendQueueFull,
    AppendRefused,
    VersionTaken,
)
from pulse.eventstore.log_state import LogState, read_log_faults, read_log_state
from pulse.eventstore.mapper import EventMapper, EventTooNew, EventUnreadable
from pulse.eventstore.records import RecordedEvent
from pulse.eventstore.store import (
    LOG_CHANNEL,
    MOST_SCANNED,
    EventStore,
    LogPage,
    PositionBeyondLog,
    select_issued_log,
    select_streams,
    select_streams_begun,
)

__all__ = [
    "LOG_CHANNEL",
    "LOG_LOCK",
    "MOST_SCANNED",
    "AppendFault",
    "AppendLimits",
    "AppendOutcomeUnknown",
    "AppendQueueFull",
    "AppendRefused",
    "Appender",
    "EventMapper",
    "EventStore",
    "EventTooNew",
    "EventUnreadable",
    "LogPage",
    "LogState",
    "Outcome",
    "PositionBeyondLog",
    "RecordedEvent",
    "VersionTaken",
    "probe_append",
    "read_log_faults",
    "read_log_state",
    "select_issued_log",
    "select_streams",
    "select_streams_begun",
]
