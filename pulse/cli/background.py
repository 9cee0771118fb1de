"""`pulse background`: start the workers, without the web framework that `serving` imports."""

import uvloop

from pulse.process.startup import settings_from_environment
from pulse.process.workers import run_workers


def background() -> None:
    """Start the workers alone.

    Splits orders, releases slices when they are due, times out orders that take
    too long, and releases the claims of dead workers. Any number may run on any
    number of machines. They need the Postgres of the API: PULSE_DATABASE_URL, or
    the same PULSE_DATA_DIR on the same machine. Ctrl-C and SIGTERM finish the
    batch in progress or release it.

    With PULSE_MONITORING_PORT it serves /metrics and both health checks there,
    on PULSE_HOST.

    Exit codes: 0 stopped by a signal, 2 wrong usage or settings, 3 could not
    start (the port is in use, or the schema cannot be migrated).

    Example:
      PULSE_BATCH_SIZE=50 pulse background
    """
    uvloop.run(run_workers(settings_from_environment()))
