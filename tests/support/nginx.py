"""nginx with the documented configuration, on other ports and paths."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.http import is_listening
from tests.support.processes import DEADLINE_SECONDS, ROOT, free_port, until

CONFIGURATION: Final = ROOT / "docs" / "proxy" / "nginx.conf"
NGINX: Final = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

_AS_ROOT: Final = " user root;" if os.geteuid() == 0 else ""
"""When tests run as root, another account could not read their directories."""


class Nginx:
    """A running proxy: the public port, the services' port, the access log."""

    def __init__(self, public_port: int, internal_port: int, access_log: Path) -> None:
        self.public_port = public_port
        self.internal_port = internal_port
        self.access_log = access_log


@contextlib.contextmanager
def nginx(home: Path, pulse_port: int) -> Iterator[Nginx]:
    """A running proxy in front of that port."""
    assert NGINX is not None
    running = Nginx(free_port(), free_port(), home / "access.log")
    configuration = home / "nginx.conf"
    configuration.write_text(_adapted(home, pulse_port, running))
    errors = home / "errors"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [NGINX, "-c", str(configuration), "-g", f"daemon off;{_AS_ROOT}"],
            stdout=log,
            stderr=log,
        )
    try:
        until(
            lambda: is_listening(running.public_port) or process.poll() is not None, "nginx listens"
        )
        assert process.poll() is None, errors.read_text()
        yield running
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def _adapted(home: Path, pulse_port: int, running: Nginx) -> str:
    text = CONFIGURATION.read_text()
    own = f"{home}/temp"
    unused = "".join(f" {name}_temp_path {own};" for name in ("fastcgi", "uwsgi", "scgi"))
    for documented, here in {
        "listen 80 default_server;": f"listen 127.0.0.1:{running.public_port} default_server;",
        "listen 127.0.0.1:8080;": f"listen 127.0.0.1:{running.internal_port};",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{pulse_port};",
        "pid /run/nginx.pid;": f"pid {home}/nginx.pid;",
        "/var/log/nginx/error.log": "stderr",
        "/var/log/nginx/access.log": str(running.access_log),
        "/var/lib/nginx/body;": f"{home}/body;{unused}",
        "/var/lib/nginx/proxy;": f"{home}/proxy;",
    }.items():
        assert text.count(documented) == 1, documented
        text = text.replace(documented, here)
    return text
