"""HAProxy with the documented configuration, on other ports."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.http import is_listening
from tests.support.processes import DEADLINE_SECONDS, ROOT, free_port, until

CONFIGURATION: Final = ROOT / "docs" / "proxy" / "haproxy.cfg"
HAPROXY: Final = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


class HAProxy(NamedTuple):
    """A running proxy: the public port, the services' port, its process."""

    public_port: int
    services_port: int
    process_id: int


@contextlib.contextmanager
def haproxy(
    home: Path, pulse_port: int, health: str = "/pulse/health/ready", below: str = "/pulse/"
) -> Iterator[HAProxy]:
    """A running proxy in front of that port. Services can access the paths `below`."""
    assert HAPROXY is not None
    public_port, services_port = free_port(), free_port()
    text = CONFIGURATION.read_text()
    for documented, here in {
        "bind :80\n": f"bind 127.0.0.1:{public_port}\n",
        "bind 127.0.0.1:8080\n": f"bind 127.0.0.1:{services_port}\n",
        "server pulse1 127.0.0.1:8000 ": f"server pulse1 127.0.0.1:{pulse_port} ",
        "server streams1 127.0.0.1:8000 ": f"server streams1 127.0.0.1:{pulse_port} ",
        "uri /pulse/health/ready ": f"uri {health} ",
        "if !{ path_beg /pulse/ }": f"if !{{ path_beg {below} }}",
    }.items():
        assert text.count(documented) == 1, documented
        text = text.replace(documented, here)
    configuration, errors = home / "haproxy.cfg", home / "haproxy.err"
    configuration.write_text(text)
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [HAPROXY, "-db", "-f", str(configuration)], stdout=log, stderr=log
        )
    try:
        until(lambda: is_listening(public_port) or process.poll() is not None, "HAProxy listens")
        assert process.poll() is None, errors.read_text()
        yield HAProxy(public_port, services_port, process.pid)
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
