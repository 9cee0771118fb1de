"""A real Prometheus that scrapes on the loopback, and its promtool (Debian: prometheus)."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.processes import DEADLINE_SECONDS, PLAIN_HTTP, ROOT, free_port, until

RULES: Final = ROOT / "deploy" / "prometheus"

_CONFIGURATION: Final = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: pulse
    static_configs: [{{targets: [{target}]}}]
"""


def require(program: str) -> str:
    """The path of the program; the test is skipped without it, but not in CI."""
    found = shutil.which(program)
    if found is None:
        message = f"{program} is not installed (Debian: prometheus)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


class Prometheus:
    """The HTTP API of a running Prometheus."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False, verify=PLAIN_HTTP)

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer."""
        answer = self._http.get(path, params=parameters)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and value of each series of an instant query."""
        found = self.get("/api/v1/query", query=expression)
        assert found["resultType"] == "vector"
        return [(series["metric"], float(series["value"][1])) for series in found["result"]]

    @property
    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._http.get("/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()


@contextlib.contextmanager
def prometheus(home: Path, target: str) -> Iterator[Prometheus]:
    """Scrape `host:port` every second, with the rules of deploy/prometheus."""
    program = require("prometheus")
    configuration = home / "prometheus.yml"
    configuration.write_text(_CONFIGURATION.format(rules=RULES / "rules.yml", target=target))
    port = free_port()
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={home / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        until(lambda: running.is_ready or process.poll() is not None, "Prometheus is ready")
        assert process.poll() is None, (home / "prometheus.log").read_text()
        yield running
    finally:
        running.close()
        process.terminate()
        process.wait(DEADLINE_SECONDS)
