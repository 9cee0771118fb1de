"""Postgres access: connection pool, sessions, notifications, migrations. Independent of orders."""

from pulse.loop import WakeUp as WakeUp
from pulse.postgres.batch_loader import BatchLoader as BatchLoader
from pulse.postgres.database import UNAVAILABLE_ERRORS as UNAVAILABLE_ERRORS
from pulse.postgres.database import UNEXPECTED_ERRORS as UNEXPECTED_ERRORS
from pulse.postgres.database import Database as Database
from pulse.postgres.database import DatabaseUnavailable as DatabaseUnavailable
from pulse.postgres.database import Reads as Reads
from pulse.postgres.database import describe as describe
from pulse.postgres.limits import PostgresLimits as PostgresLimits
from pulse.postgres.session import WRONG_SESSION_ERRORS as WRONG_SESSION_ERRORS
from pulse.postgres.session import Connection as Connection
from pulse.postgres.session import Connector as Connector
from pulse.postgres.session import SessionUnfit as SessionUnfit
from pulse.postgres.session import abort_connection as abort_connection
from pulse.postgres.sql import fetch as fetch
from pulse.postgres.sql import load_sql as load_sql
from pulse.postgres.wakeups import Listener as Listener
from pulse.postgres.wakeups import Notifier as Notifier
