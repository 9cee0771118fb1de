"""The API and the workers as separate real processes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.processes import PulseProcess, free_port, until

BACKGROUND = ("-m", "pulse.background")


@contextlib.contextmanager
def api_alone(
    home: Path, command: tuple[str, ...] = ("-m", "uvicorn", "pulse.main:app"), **settings: Any
) -> Iterator[PulseProcess]:
    """An API without workers, which serves at `/`."""
    port = free_port()
    process = PulseProcess(home, command=(*command, "--port", str(port)), port=port, **settings)
    process.http.base_url = f"http://127.0.0.1:{port}"
    try:
        process.until_serving()
        yield process
    finally:
        process.close()


@contextlib.contextmanager
def workers_alone(home: Path, **settings: Any) -> Iterator[PulseProcess]:
    """`python -m pulse.background`, which serves no API."""
    process = PulseProcess(home, command=BACKGROUND, **settings)
    try:
        until(lambda: "workers.started" in process.logged or process.ended, "workers started")
        assert not process.ended, process.logged
        yield process
    finally:
        process.close()
