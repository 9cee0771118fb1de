"""Start and stop the server; every function here is called under the start lock."""

import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from pulse.postgres.embedded.binaries import Binaries, find_binaries
from pulse.postgres.embedded.choice import choose_way
from pulse.postgres.embedded.cluster import (
    forget_old_logs,
    last_words,
    make_cluster,
    refuse_other_version,
)
from pulse.postgres.embedded.directories import own_directory
from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.options import for_pg_ctl, server_options
from pulse.postgres.embedded.place import Place
from pulse.postgres.embedded.process import (
    discard_remains,
    end,
    is_ready,
    listens,
    live_server,
    wait_until,
)
from pulse.postgres.embedded.ways import Way

START_SECONDS = 60
FAST_STOP_SECONDS = 30
IMMEDIATE_STOP_SECONDS = 10
_ORPHAN_SECONDS = 5
# Longer than the longest that its holder may take: wait for a server, initdb, start.
LOCK_SECONDS = 300


def start(place: Place, options: Mapping[str, str]) -> None:
    """Bring the server up until it is ready; nothing happens when it is.

    Raises:
        EmbeddedServerError: it cannot be started, or is not ready within the limit.
    """
    if _came_up(place):
        return
    way, binaries = choose_way(place, find_binaries())
    make_cluster(place, way, binaries)
    refuse_other_version(place, way, binaries)
    discard_remains(place, _ORPHAN_SECONDS)
    own_directory(place.sockets, way.uid, way.gid)
    forget_old_logs(place)
    _launch(place, way, binaries, options)


def stop(place: Place) -> None:
    """Stop the server if it runs: fast, and after a limit immediately.

    Raises:
        EmbeddedServerError: it still lives after both limits.
    """
    pid = live_server(place.cluster)
    steps = [(signal.SIGINT, FAST_STOP_SECONDS), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS)]
    gone = not listens(place) if pid is None else end(pid, place.cluster, steps)
    if not gone:
        name = "a process not visible here" if pid is None else f"process {pid}"
        raise EmbeddedServerError(
            f"The embedded Postgres server in {place.cluster} ({name}) does not stop: look at its "
            "log, end it by hand, and start Pulse again; it recovers by itself."
        )
    if place.sockets.parent != place.home:
        with suppress(OSError):
            place.sockets.rmdir()


def _came_up(place: Place) -> bool:
    """Wait for a server that someone else started, whoever was killed while doing so."""
    if is_ready(place):
        return True
    wait_until(lambda: is_ready(place) or not _present(place), START_SECONDS)
    ready = is_ready(place)
    if not ready and _present(place):
        raise EmbeddedServerError(
            f"The embedded Postgres server in {place.cluster} runs, but is not ready on "
            f"{place.sockets} after {START_SECONDS} s: look at its log, or end its processes."
        )
    return ready


def _present(place: Place) -> bool:
    return live_server(place.cluster) is not None or listens(place)


def _launch(place: Place, way: Way, binaries: Binaries, options: Mapping[str, str]) -> None:
    since = time.time() - 1
    settings = for_pg_ctl(place.cluster, server_options(place.sockets, options))
    command = ["start", "--wait", f"--timeout={START_SECONDS}", f"--options={settings}"]
    outcome = way.run(
        [binaries.program("pg_ctl"), *command],
        timeout_seconds=START_SECONDS + 5,
        # Not as -D: pg_ctl puts that between double quotes and into a shell.
        environment={"PGDATA": str(place.cluster)},
    )
    if not (outcome.succeeded and is_ready(place)):
        raise EmbeddedServerError(
            f"The embedded Postgres server in {place.cluster} did not start (run "
            f"{way.description}); remove the cause named in its last lines, or set "
            f"PULSE_DATABASE_URL:\n{last_words(place, outcome, since)}"
        )
