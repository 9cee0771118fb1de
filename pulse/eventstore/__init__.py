"""The event store: append to the log, read a stream, read the log, map events to stored form."""

from pulse.eventstore.append_connection import LOG_LOCK as LOG_LOCK
from pulse.eventstore.append_connection import AppendFault as AppendFault
from pulse.eventstore.append_connection import probe_append as probe_append
from pulse.eventstore.appender import Appender as Appender
from pulse.eventstore.appender import AppendLimits as AppendLimits
from pulse.eventstore.batch import AppendResult as AppendResult
from pulse.eventstore.errors import AppendOutcomeUnknown as AppendOutcomeUnknown
from pulse.eventstore.errors import AppendQueueFull as AppendQueueFull
from pulse.eventstore.errors import AppendRefused as AppendRefused
from pulse.eventstore.errors import VersionTaken as VersionTaken
from pulse.eventstore.log_state import LogState as LogState
from pulse.eventstore.log_state import read_log_faults as read_log_faults
from pulse.eventstore.log_state import read_log_state as read_log_state
from pulse.eventstore.mapper import EventMapper as EventMapper
from pulse.eventstore.mapper import EventTooNew as EventTooNew
from pulse.eventstore.mapper import EventUnreadable as EventUnreadable
from pulse.eventstore.records import RecordedEvent as RecordedEvent
from pulse.eventstore.store import LOG_CHANNEL as LOG_CHANNEL
from pulse.eventstore.store import MOST_SCANNED as MOST_SCANNED
from pulse.eventstore.store import EventStore as EventStore
from pulse.eventstore.store import LogPage as LogPage
from pulse.eventstore.store import PositionBeyondLog as PositionBeyondLog
from pulse.eventstore.store import select_issued_log as select_issued_log
from pulse.eventstore.store import select_log_between as select_log_between
from pulse.eventstore.store import select_streams as select_streams
from pulse.eventstore.store import select_streams_begun as select_streams_begun
