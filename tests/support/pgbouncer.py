"""PgBouncer with Debian's defaults, except for addresses, users and the settings of a test."""

import contextlib
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pulse.postgres.embedded.account import user_namespace
from tests.support.database import as_runtime
from tests.support.processes import DEADLINE_SECONDS, free_port, until

_LISTEN_SECONDS: Final = 10.0

PGBOUNCER: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
PASSWORD: Final = "of the pooler"  # noqa: S105 - of a pooler that runs for one test


@contextlib.contextmanager
def pgbouncer(conninfo: str, *, port: int = 0, **settings: object) -> Iterator[str]:
    """A running pooler in front of that server; yields its connection string.

    It connects as the role that processes use.
    """
    assert PGBOUNCER is not None
    server = conninfo_to_dict(as_runtime(conninfo))
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        _configure(home, server, port, settings)
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [*_as_another(str(server["host"]), PGBOUNCER), str(home / "pgbouncer.ini")],
                stdout=log,
                stderr=log,
            )
        address = make_conninfo(
            "",
            host="127.0.0.1",
            port=port,
            user=str(server["user"]),
            password=PASSWORD,
            dbname=str(server["dbname"]),
        )
        try:
            until(
                lambda: _listens(address) or process.poll() is not None,
                "PgBouncer listens",
                _LISTEN_SECONDS,
            )
            assert process.poll() is None, (home / "log").read_text()
            yield address
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


def _configure(
    home: Path, server: Mapping[str, object], port: int, settings: Mapping[str, object]
) -> None:
    where = " ".join(
        f"{name}='{server[name]}'" for name in ("host", "port", "user") if name in server
    )
    lines = [
        "[databases]",
        f"* = {where}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = md5",
        f"auth_file = {home / 'userlist.txt'}",
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    (home / "pgbouncer.ini").write_text("\n".join([*lines, ""]))
    digest = hashlib.md5(f"{PASSWORD}{server['user']}".encode(), usedforsecurity=False).hexdigest()
    (home / "userlist.txt").write_text(f'"{server["user"]}" "md5{digest}"\n')


def _as_another(socket_directory: str, program: str) -> list[str]:
    """PgBouncer refuses to run as root, so it runs as the server's account."""
    if os.geteuid() != 0:
        return [program]
    owner = Path(socket_directory).stat().st_uid if socket_directory.startswith("/") else 0
    if owner:
        return [program, "-u", pwd.getpwuid(owner).pw_name]
    namespace = user_namespace()
    assert namespace is not None
    return [*namespace.prefix, program]


def _listens(address: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(address, connect_timeout=5).close()
        return True
    return False
