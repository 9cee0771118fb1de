"""Three etcd, three Postgres under Patroni, and HAProxy: the servers below Pulse in a cluster.

The configuration is that of deploy/patroni and deploy/haproxy. This code neither elects nor fences.
"""

import asyncio
import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, LiteralString

import httpx
import msgspec
import psycopg
from psycopg import sql

from tests.cluster import network
from tests.cluster.host import Host, become_user
from tests.faults.server import fetch_from
from tests.support.processes import PLAIN_HTTP, ROOT, environment

PATRONI_ENVIRONMENT: Final = ROOT / ".venv" / "cluster"
PATRONI_CONFIGURATION: Final = ROOT / "deploy" / "patroni" / "patroni.yml"
HAPROXY_CONFIGURATION: Final = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
POSTGRES_PROGRAMS: Final = Path("/usr/lib/postgresql/15/bin")

_LOCK: Final = Path("/run/lock/pulse-cluster")
_USER: Final = "postgres"
_START_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1
_SCOPE: Final = "pulse"


class Unavailable(Exception):
    """This machine cannot run a cluster; the message says what is missing."""


def missing() -> str | None:
    """What this machine lacks to run a cluster; None if nothing."""
    if os.geteuid() != 0:
        return "root, for network namespaces"
    for program in ("ip", "setpriv", "etcd", "haproxy"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            return f"the program {program}"
    if not (POSTGRES_PROGRAMS / "postgres").exists():
        return f"Postgres 15 in {POSTGRES_PROGRAMS}"
    patroni = PATRONI_ENVIRONMENT / "bin" / "patroni"
    if not patroni.exists():
        return f"Patroni in {PATRONI_ENVIRONMENT}: make .venv/cluster/.installed"
    readable = subprocess.run(
        [*become_user(_USER), patroni, "--version"], capture_output=True, cwd="/", check=False
    )
    return None if readable.returncode == 0 else f"the right of {_USER} to execute {patroni}"


class MemberState(msgspec.Struct, frozen=True):
    """A Postgres as Patroni shows it."""

    name: str
    role: str
    state: str
    timeline: int | None = None
    lag: int | str | None = None


class Cluster:
    """The servers. `passwords` are of this run only."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.passwords = {
            name: secrets.token_hex(16)
            for name in ("postgres", "replicator", "rewinder", "pulse_app")
        }
        self.etcds = [Host(f"etcd{n}", 30 + n, home) for n in (1, 2, 3)]
        self.postgres = [Host(f"pg{n}", 20 + n, home) for n in (1, 2, 3)]
        self.haproxy = Host("haproxy1", 10, home)
        self.apis = [Host(f"api{n}", 10 + n, home) for n in (1, 2)]
        self.gateway = Host("gateway1", 13, home)
        self.workers = [Host(f"worker{n}", 13 + n, home) for n in (1, 2)]

    @property
    def hosts(self) -> list[Host]:
        """Every host."""
        servers = [*self.etcds, *self.postgres, self.haproxy]
        return [*servers, *self.apis, self.gateway, *self.workers]

    @property
    def conninfo(self) -> str:
        """The superuser's, through HAProxy to the primary."""
        return self._conninfo(self.haproxy.address, "postgres")

    @property
    def url(self) -> str:
        """PULSE_DATABASE_URL of Pulse's processes."""
        return (
            f"postgresql://pulse_app:{self.passwords['pulse_app']}@{self.haproxy.address}:5432"
            "/pulse?target_session_attrs=read-write"
        )

    @property
    def services_url(self) -> str:
        """The internal API, for services."""
        return f"http://{self.haproxy.address}:8080"

    @property
    def public_url(self) -> str:
        """The gateway, for callers."""
        return f"http://{self.haproxy.address}"

    def conninfo_of(self, host: Host, database: str = "postgres") -> str:
        """The superuser's, to that server itself."""
        return self._conninfo(host.address, "postgres", database)

    def _conninfo(self, address: str, user: str, database: str = "pulse") -> str:
        return psycopg.conninfo.make_conninfo(
            host=address,
            port=5432,
            user=user,
            password=self.passwords[user],
            dbname=database,
            connect_timeout=3,
        )

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute a statement on the primary, once there is one; returns its rows."""
        await self._until_connected(self.conninfo)
        return await fetch_from(self.conninfo, statement, *parameters)

    async def _until_connected(self, conninfo: str) -> None:
        """Wait until HAProxy has a primary."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                await fetch_from(conninfo, "SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    # Starting and stopping programs

    def start_etcd(self, host: Host) -> None:
        """Start etcd on that host."""
        peers = ",".join(f"{etcd.name}=http://{etcd.address}:2380" for etcd in self.etcds)
        variables = {
            **read_environment(ROOT / "deploy" / "patroni" / "etcd.env"),
            "ETCD_NAME": host.name,
            "ETCD_DATA_DIR": str(self._owned(host, "data")),
            "ETCD_ADVERTISE_CLIENT_URLS": f"http://{host.address}:2379",
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"http://{host.address}:2380",
            "ETCD_INITIAL_CLUSTER": peers,
        }
        host.start("etcd", ["etcd"], variables, _USER)

    def start_patroni(self, host: Host) -> None:
        """Start Patroni on that host, which starts Postgres."""
        variables = {
            **self.patroni_variables,
            "PATRONI_NAME": host.name,
            "PATRONI_RESTAPI_CONNECT_ADDRESS": f"{host.address}:8008",
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"{host.address}:5432",
            # Patroni removes and renames the data directory, so the one above is postgres's, too.
            "PATRONI_POSTGRESQL_DATA_DIR": str(self._owned(host, "postgres") / "data"),
            "PATRONI_POSTGRESQL_PGPASS": str(self._owned(host, "pgpass.d") / "pgpass"),
        }
        program = str(PATRONI_ENVIRONMENT / "bin" / "patroni")
        host.start("patroni", [program, str(PATRONI_CONFIGURATION)], variables, _USER)

    @property
    def patroni_variables(self) -> dict[str, str]:
        """What is the same for Patroni on every host."""
        return {
            "PATRONI_ETCD3_HOSTS": ",".join(f"{etcd.address}:2379" for etcd in self.etcds),
            "PATRONI_SUPERUSER_PASSWORD": self.passwords["postgres"],
            "PATRONI_REPLICATION_PASSWORD": self.passwords["replicator"],
            "PATRONI_REWIND_PASSWORD": self.passwords["rewinder"],
        }

    def start_haproxy(self) -> None:
        """Start HAProxy."""
        variables = {host.name.upper(): host.address for host in self.postgres + self.apis}
        variables |= {"GATEWAY1": self.gateway.address, "SERVICES_ADDRESS": self.haproxy.address}
        variables["PATH"] = f"{os.environ['PATH']}:/usr/sbin"
        self.haproxy.start(
            "haproxy", ["haproxy", "-db", "-f", str(HAPROXY_CONFIGURATION)], variables
        )

    def _owned(self, host: Host, name: str) -> Path:
        """A directory on the host's disk that belongs to the servers' account."""
        path = host.disk / name
        if not path.exists():
            path.mkdir(mode=0o700)
            account = pwd.getpwnam(_USER)
            os.chown(path, account.pw_uid, account.pw_gid)
        return path

    # What Patroni says

    async def states(self) -> dict[str, MemberState]:
        """The members by name, as any Patroni that answers shows them; empty if none does."""
        async with httpx.AsyncClient(timeout=2, trust_env=False, verify=PLAIN_HTTP) as http:
            for host in self.postgres:
                with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                    answer = await http.get(f"http://{host.address}:8008/cluster")
                    members = msgspec.convert(answer.json()["members"], list[MemberState])
                    return {member.name: member for member in members}
        return {}

    async def primary(self) -> Host | None:
        """The host that Patroni calls primary."""
        async with httpx.AsyncClient(timeout=1, trust_env=False, verify=PLAIN_HTTP) as http:
            for host in self.postgres:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await http.get(f"http://{host.address}:8008/primary")
                    if answer.status_code == 200:
                        return host
        return None

    async def until_whole(self, seconds: float = _START_SECONDS) -> Host:
        """Wait until there is a primary, two replicas stream, and a commit waits for a quorum."""
        states: dict[str, MemberState] = {}
        deadline = time.monotonic() + seconds
        while True:
            states = await self.states()
            streaming = [m for m in states.values() if m.state == "streaming" and m.lag in {0, "0"}]
            primary = await self.primary()
            if primary is not None and len(streaming) == len(self.postgres) - 1:
                with contextlib.suppress(psycopg.OperationalError):
                    rows = await fetch_from(
                        self.conninfo_of(primary),
                        "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'",
                    )
                    if rows == [(len(self.postgres) - 1,)]:
                        return primary
            if time.monotonic() > deadline:
                logs = "\n".join(host.log_tail(1500) for host in self.postgres)
                raise TimeoutError(f"not whole after {seconds:g} s: {states}\n{logs}")
            await asyncio.sleep(_POLL_SECONDS)

    def patronictl(self, *arguments: str) -> str:
        """Run patronictl; returns its output."""
        ended = subprocess.run(
            [PATRONI_ENVIRONMENT / "bin" / "patronictl", "-c", PATRONI_CONFIGURATION, *arguments],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.patroni_variables},
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    # The whole

    async def start(self) -> None:
        """Start all servers and create the database with its roles."""
        network.remove_all()
        network.make_network()
        for host in self.hosts:
            host.power_on()
        for host in self.etcds:
            self.start_etcd(host)
        for host in self.postgres:
            self.start_patroni(host)
        self.start_haproxy()
        await self.until_whole()
        await self._create_database()

    async def _create_database(self) -> None:
        postgres = self._conninfo(self.haproxy.address, "postgres", "postgres")
        await self._until_connected(postgres)
        await fetch_from(postgres, "CREATE DATABASE pulse")
        migrating = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pulse.cli", "migrate", "--roles",
            cwd=ROOT,
            env=environment(
                {
                    "database_url": f"postgresql://postgres:{self.passwords['postgres']}"
                    f"@{self.haproxy.address}:5432/pulse"
                }
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await migrating.communicate()
        assert migrating.returncode == 0, output.decode()
        async with await psycopg.AsyncConnection.connect(postgres, autocommit=True) as connection:
            await connection.execute(
                sql.SQL("CREATE ROLE pulse_app LOGIN PASSWORD {} IN ROLE pulse_runtime").format(
                    self.passwords["pulse_app"]
                )
            )

    def stop(self) -> None:
        """Kill everything and remove the network."""
        for host in self.hosts:
            host.power_off()
        network.remove_all()


def read_environment(path: Path) -> dict[str, str]:
    """The variables of a file of `NAME=value` lines."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@contextmanager
def only_cluster() -> Iterator[None]:
    """Hold the lock of this machine's cluster.

    Raises:
        Unavailable: another cluster runs, or this machine cannot run one.
    """
    if (lacks := missing()) is not None:
        raise Unavailable(f"this machine lacks {lacks}")
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unavailable("another cluster runs on this machine") from None
        yield


@asynccontextmanager
async def running_cluster(home: Path) -> AsyncIterator[Cluster]:
    """A running cluster without Pulse; on exit nothing of it is left but its files."""
    with only_cluster():
        cluster = Cluster(home)
        try:
            await cluster.start()
            yield cluster
        finally:
            await asyncio.to_thread(cluster.stop)
