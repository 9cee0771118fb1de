"""`pulse up`: its greeting, and a clean stop."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.orders import order
from tests.support.processes import (
    PulseProcess,
    free_port,
    greeted_commands,
    is_alive,
    postmaster_file,
    postmaster_id,
    processes_in,
    pulse,
    run_to_end,
    until,
    uvicorn_on,
)


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str
) -> Iterator[PulseProcess]:
    home = tmp_path_factory.mktemp("up")
    settings = {"database_url": module_database_url, "data_dir": home / "data"}
    with pulse(home, forked=False, **settings) as process:
        yield process


def test_the_greeting_names_the_address(up: PulseProcess) -> None:
    until(lambda: "listens" in up.output, "it greets")
    assert f"http://127.0.0.1:{up.port}" in up.output
    assert len(greeted_commands(up.output)) == 3


def test_the_order_that_the_greeting_reads_is_the_example_of_replay(up: PulseProcess) -> None:
    until(lambda: "listens" in up.output, "it greets")
    _, get, _ = greeted_commands(up.output)
    order_id = get.rpartition("/")[2]
    assert (
        f"pulse replay {order_id}\n" in run_to_end(("-m", "pulse.cli", "replay", "--help")).stdout
    )


def test_pulse_load_posts_a_file_and_follows_each_order(up: PulseProcess, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text("".join(json.dumps(order()) + "\n" for _ in range(50)))
    ended = run_to_end(("-m", "pulse.cli", "load", str(file), "--url", up.url))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    again = run_to_end(("-m", "pulse.cli", "load", str(file), "--url", up.url))
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_signal_stops_all_processes_and_the_next_start_has_the_data(
    tmp_path: Path, data_dir: Path
) -> None:
    request = order()
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number, status in zip(signals, (201, 200, 200), strict=True):
        with pulse(tmp_path, data_dir=data_dir) as process:
            response = process.post(request)
            assert response.status_code == status
            process.until_completed(response.json()["order_id"])
            postmaster = postmaster_id(data_dir)
            assert postmaster is not None
            assert is_alive(postmaster)
            assert process.stop(number) == 0, process.logged
            assert not is_alive(postmaster)
            assert not postmaster_file(data_dir).exists()
            assert processes_in(data_dir / "postgres" / "cluster") == []
            assert "Traceback" not in process.logged


def test_uvicorn_stops_its_embedded_server_when_its_terminal_is_closed(
    tmp_path: Path, data_dir: Path
) -> None:
    port = free_port()
    with pulse(tmp_path, command=uvicorn_on(port), port=port, data_dir=data_dir) as process:
        postmaster = postmaster_id(data_dir)
        assert postmaster is not None
        process.stop(signal.SIGHUP)
        assert not is_alive(postmaster)


def test_a_signal_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    cluster = data_dir / "postgres" / "cluster"
    process = PulseProcess(tmp_path, data_dir=data_dir)
    try:
        until((data_dir / "postgres").exists, "the embedded server is being made")
        assert process.stop() == 0, process.logged
        assert not postmaster_file(data_dir).exists()
        assert not cluster.exists() or processes_in(cluster) == []
    finally:
        process.close()


def test_a_port_in_use_ends_the_start_with_an_error_and_stops_the_server(
    up: PulseProcess, data_dir: Path
) -> None:
    ended = run_to_end(("-m", "pulse.cli", "up"), port=up.port, data_dir=data_dir)
    assert ended.returncode == 3
    assert "address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert not postmaster_file(data_dir).exists()


def test_an_unusable_data_directory_ends_the_start_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run_to_end(("-m", "pulse.cli", "up"), data_dir=tmp_path / "file")
    assert ended.returncode == 3
    assert "PULSE_DATA_DIR" in ended.stderr
    assert "Traceback" not in ended.stderr
