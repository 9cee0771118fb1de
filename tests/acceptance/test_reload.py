"""`uvicorn main:app --reload` watches files without polling, and stops its embedded server."""

import shutil
from pathlib import Path

from tests.support.processes import (
    ROOT,
    PulseProcess,
    free_port,
    is_alive,
    postmaster_file,
    postmaster_id,
    until,
)

STARTED = "Application startup complete"


def test_a_changed_file_restarts_the_process_and_a_stop_stops_the_embedded_server(
    tmp_path: Path, data_dir: Path
) -> None:
    application, port = tmp_path / "application", free_port()
    application.mkdir()
    shutil.copy(ROOT / "main.py", application)
    where = ("--app-dir", str(application), "--reload-dir", str(application))
    command = ("-m", "uvicorn", "main:app", "--reload", "--port", str(port), *where)
    process = PulseProcess(tmp_path, command=command, port=port, data_dir=data_dir, forked=False)
    try:
        process.until_serving()
        assert "using WatchFiles" in process.logged  # the other watcher polls every file
        with (application / "main.py").open("a") as source:
            source.write("# changed\n")
        until(lambda: process.logged.count(STARTED) == 2, "it is started again")
        process.until_serving()
        postmaster = postmaster_id(data_dir)
        assert postmaster is not None
        assert process.stop() == 0
        until(lambda: not is_alive(postmaster), "the embedded server is stopped")
        assert not postmaster_file(data_dir).exists()
        assert "Traceback" not in process.logged
    finally:
        process.close()
