"""PULSE_MONITORING_PORT: metrics and health of workers without an API."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.fleet import workers_alone
from tests.support.processes import PLAIN_HTTP, PulseProcess, free_port, run_to_end, until

TOKEN = "reader-token-" + "r" * 32


@contextmanager
def monitored(home: Path, url: str, **settings: Any) -> Iterator[tuple[PulseProcess, httpx.Client]]:
    port = free_port()
    with (
        workers_alone(home, database_url=url, monitoring_port=port, **settings) as workers,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=PLAIN_HTTP
        ) as client,
    ):

        def answers() -> bool:
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "the monitoring port answers")
        yield workers, client


def test_workers_alone_have_metrics_and_health_on_the_monitoring_port(
    tmp_path: Path, module_database_url: str
) -> None:
    with monitored(tmp_path, module_database_url) as (workers, client):
        ready = until(
            lambda: (found := client.get("/health/ready")).status_code == 200 and found,
            "the workers are ready",
        )
        assert ready.json()["checks"]["workers"] == "ok"
        assert "pulse_build_info{" in client.get("/metrics").text
        until(lambda: "pulse_workers 1.0" in client.get("/metrics").text, "the gauges are exported")
        assert client.get("/internal/hello").status_code == 404
        assert client.post("/internal/orders").status_code == 404
        assert workers.stop() == 0


def test_a_killed_worker_is_logged_once_and_no_ended_worker_is_counted(
    tmp_path: Path, module_database_url: str
) -> None:
    with monitored(tmp_path, module_database_url, log_format="json") as (observer, client):

        def lost() -> list[str]:
            lines = map(json.loads, observer.logged.splitlines())
            return [line["worker"] for line in lines if line["event"] == "workers.gone"]

        def counted(workers: int) -> bool:
            return f"pulse_workers {workers}.0" in client.get("/metrics").text

        with (
            workers_alone(tmp_path, database_url=module_database_url) as killed,
            workers_alone(tmp_path, database_url=module_database_url) as stopped,
        ):
            until(lambda: counted(3), "all three workers are counted")
            assert stopped.stop() == 0
            until(lambda: counted(2), "the stopped worker is no longer counted")
            killed.stop(signal.SIGKILL)
            until(lost, "the killed worker is logged")
            until(lambda: counted(1), "the killed worker is no longer counted")
        (name,) = lost()
        assert f":{killed.pid}:" in name


def test_with_tokens_metrics_need_one_and_health_does_not(
    tmp_path: Path, module_database_url: str
) -> None:
    tokens = {"service_tokens": f"reader:{TOKEN}"}
    with monitored(tmp_path, module_database_url, **tokens) as (_, client):
        assert client.get("/metrics").status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/metrics", headers=right).status_code == 200


def test_a_port_in_use_is_one_message_and_exit_code_3(module_database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"database_url": module_database_url, "monitoring_port": port}
        ended = run_to_end(("-m", "pulse.cli", "background"), **settings)
    assert ended.returncode == 3
    assert (
        f"pulse: cannot listen on http://127.0.0.1:{port}: address already in use; "
        "choose another PULSE_MONITORING_PORT or PULSE_HOST\n"
    ) in ended.stderr


def test_metrics_are_answered_while_the_database_is_unreachable(tmp_path: Path) -> None:
    url = f"postgresql://pulse@127.0.0.1:{free_port()}/pulse"
    with monitored(tmp_path, url) as (_, client):
        text = client.get("/metrics").text
        assert "pulse_build_info{" in text
        assert "pulse_workers" not in text
        assert client.get("/health/ready").status_code == 503
