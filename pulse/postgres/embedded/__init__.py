"""A Postgres server of Pulse's own, for those who have none: a unix socket and no network.

Its programs come with the extra `pulse[embedded]`; in production set PULSE_DATABASE_URL.
"""

from pulse.postgres.embedded.directories import EmbeddedServerError, refuse_writable_by_others
from pulse.postgres.embedded.server import EmbeddedServer, has_data

__all__ = ["EmbeddedServer", "EmbeddedServerError", "has_data", "refuse_writable_by_others"]
