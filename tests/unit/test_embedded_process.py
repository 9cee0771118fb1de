import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pulse.postgres.embedded.choice import candidates
from pulse.postgres.embedded.cluster import forget_old_logs
from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.place import Place
from pulse.postgres.embedded.process import (
    _serves_by_ps,
    discard_remains,
    end,
    is_ready,
    listens,
    live_server,
    wait_until,
)
from pulse.postgres.embedded.ways import as_account, directly, in_namespace

UNUSED_PID = 2**22 + 1  # above every pid_max


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "home", tmp_path / "s")
    found.cluster.mkdir(parents=True)
    found.sockets.mkdir(mode=0o700)
    return found


@pytest.mark.parametrize(
    "content",
    ["", "\n", "garbage\n", "-5\n", f"{UNUSED_PID}\n", f"{os.getpid()}\n", "1\n"],
    ids=["empty", "a blank line", "garbage", "negative", "a dead one", "ours", "init's"],
)
def test_a_pid_file_alone_proves_no_server(place: Place, content: str) -> None:
    (place.cluster / "postmaster.pid").write_text(content)
    assert live_server(place.cluster) is None


def test_no_pid_file_is_no_server(place: Place) -> None:
    assert live_server(place.cluster) is None
    assert not is_ready(place)


def test_lock_files_of_living_strangers_go_and_others_are_left_to_postgres(place: Place) -> None:
    pid_file, socket_lock = place.cluster / "postmaster.pid", Path(f"{place.socket}.lock")
    pid_file.write_text(f"{os.getpid()}\n")
    socket_lock.write_text(f"{UNUSED_PID}\n")
    discard_remains(place, 1)
    assert not pid_file.exists()
    assert socket_lock.exists()


def test_who_listens_decides_and_a_left_over_socket_file_does_not(place: Place) -> None:
    assert not listens(place)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place.socket))
        assert not listens(place)
        server.listen()
        assert listens(place)
        assert not is_ready(place)
        status = ["1", str(place.cluster), "0", "5432", str(place.sockets), "", "0 0"]
        (place.cluster / "postmaster.pid").write_text("\n".join([*status, "starting"]))
        assert not is_ready(place)
        (place.cluster / "postmaster.pid").write_text("\n".join([*status, "ready   \n"]))
        assert is_ready(place)
    assert not listens(place)


def test_a_socket_in_a_directory_open_to_others_is_not_trusted(place: Place) -> None:
    place.sockets.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="is not safe in it"):
        listens(place)


@pytest.mark.skipif(sys.platform != "linux", reason="names processes through /proc")
def test_ending_goes_from_signal_to_signal_within_the_limits(place: Place) -> None:
    script = "open('/proc/self/comm','w').write('postgres');import signal;"
    script += "signal.signal(2, signal.SIG_IGN);print(flush=True);signal.pause()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=place.cluster, stdout=subprocess.PIPE
    ) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        (place.cluster / "postmaster.pid").write_text(f"{stubborn.pid}\n")
        assert live_server(place.cluster) == stubborn.pid
        assert not end(stubborn.pid, place.cluster, [(signal.SIGINT, 0.05)])
        assert end(stubborn.pid, place.cluster, [(signal.SIGINT, 0.05), (signal.SIGKILL, 10)])
        assert live_server(place.cluster) is None  # a zombie is no server


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="no ps")
def test_without_proc_the_command_line_names_the_cluster(place: Place) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        assert not _serves_by_ps(stranger.pid, place.cluster)
        stranger.kill()
    script = "print(flush=True); input()"
    command = [sys.executable, "-c", script, "postgres", "-D", str(place.cluster)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        assert _serves_by_ps(server.pid, place.cluster)
        server.kill()


def test_waiting_ends_with_the_time() -> None:
    assert wait_until(lambda: True, 0)
    assert not wait_until(lambda: False, 0.02)


def test_logs_of_the_week_stay_and_older_ones_go(place: Place) -> None:
    log = place.cluster / "log"
    log.mkdir()
    for name, days in (("server-Mon.log", 1), ("server-Tue.log", 7), ("other.txt", 70)):
        (log / name).write_text("")
        os.utime(log / name, times=(0, time.time() - days * 86_400))
    forget_old_logs(place)
    assert {file.name for file in log.iterdir()} == {"server-Mon.log", "other.txt"}


def test_the_owner_of_what_is_there_decides_how_root_runs_it() -> None:
    [as_other] = candidates(0, (12345, 54321))
    assert (as_other.uid, as_other.gid, as_other.prefix) == (12345, 54321, ())
    assert candidates(0, (0, 0)) == [way for way in [in_namespace()] if way]


def test_root_prefers_the_account_made_for_postgres_and_nobody_comes_last() -> None:
    order = [as_account("postgres"), in_namespace(), as_account("nobody")]
    assert candidates(0, None) == [way for way in order if way]


def test_an_ordinary_user_runs_it_directly_and_never_what_belongs_to_others() -> None:
    named = as_account("nobody")
    assert named is not None
    assert candidates(named.uid, None) == candidates(named.uid, (named.uid, 1)) == [directly()]
    assert candidates(named.uid, (0, 0)) == []


def test_a_user_without_a_name_borrows_one_in_a_namespace_if_possible() -> None:
    assert candidates(UNUSED_PID, None)[-1] == directly()
    assert len(candidates(UNUSED_PID, None)) == (1 if in_namespace() is None else 2)
