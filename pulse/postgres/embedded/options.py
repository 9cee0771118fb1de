"""How the server is set up: what initdb is told, and what every start says again."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from pulse.postgres.embedded.place import PORT, USER

LOG_DIRECTORY = "log"

# The builtin provider sorts by code point on every machine. Trust is right only because there
# is no TCP listener and the socket's directory is 0700; TCP is refused should someone add one.
INITDB = (
    f"--username={USER}",
    "--encoding=UTF8",
    "--no-locale",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=trust",
    "--auth-host=reject",
    "--data-checksums",
    "--no-instructions",
)

_ALWAYS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "cluster_name": "pulse",
    # One file for each day of the week, begun anew a week later: never more than seven days.
    "logging_collector": "on",
    "log_directory": LOG_DIRECTORY,
    "log_filename": "server-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # statements may carry what callers sent
}


def server_options(sockets: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """All settings of a start; `extra` wins, and is for tests only."""
    return {**_ALWAYS, "unix_socket_directories": str(sockets), **extra}


def for_pg_ctl(cluster: Path, options: Mapping[str, str]) -> str:
    """Write the server's command line as one shell text, which is what pg_ctl hands on."""
    arguments = ["-D", str(cluster)]
    for name, value in options.items():
        arguments += ["-c", f"{name}={value}"]
    return shlex.join(arguments)
