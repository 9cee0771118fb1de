"""docs/how-to/move-to-your-own-postgres.md as written: psql, and the move to a Postgres 15."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pulse.postgres.embedded.account import Account, system_account
from pulse.postgres.embedded.directories import create_private_directory
from tests.support.fleet import api_alone
from tests.support.orders import order
from tests.support.processes import DEADLINE_SECONDS, ROOT, pulse, run_to_end, url_of

BINARIES = Path("/usr/lib/postgresql/15/bin")
pytestmark = pytest.mark.skipif(not BINARIES.is_dir(), reason="no Postgres 15 on this machine")

API = ("-m", "pulse.cli", "api")
PAGE = (ROOT / "docs" / "how-to" / "move-to-your-own-postgres.md").read_text()


@pytest.fixture
def postgres_15(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the oldest version, as Debian has it; its superuser is `pulse`."""
    home = Path(f"/tmp/pulse-15-{tmp_path_factory.getbasetemp().name}")  # noqa: S108 - made below
    account = server_account()
    create_private_directory(home, account.uid, account.gid)
    data = home / "data"
    options = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
    succeed(account, "initdb", "-D", str(data), "-U", "pulse", "-A", "trust", "-E", "UTF8")
    succeed(account, "pg_ctl", "-D", str(data), "-w", "-o", options, "start")
    try:
        yield make_conninfo("", host=str(home), user="pulse", dbname="pulse")
    finally:
        succeed(account, "pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        assert account.run("rm", "-rf", data).returncode == 0
        home.rmdir()


def server_account() -> Account:
    account = system_account("postgres") if os.geteuid() == 0 else None
    return account or Account(os.geteuid(), os.getegid())


def succeed(account: Account, program: str, *arguments: str) -> None:
    ended = account.run(BINARIES / program, *arguments, timeout_seconds=DEADLINE_SECONDS)
    assert ended.returncode == 0, ended.stdout


def documented(begins: str) -> str:
    """The code block of the page that begins with these characters."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
    (block,) = [text for text in blocks if text.strip().startswith(begins)]
    return str(block)


def in_shell(folder: Path, *commands: str) -> str:
    script = "\n".join(["set -euo pipefail", f"ln -sfn {sys.prefix} .venv", *commands])
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, ended.stderr
    return ended.stdout


def test_the_documented_commands_move_everything_to_the_oldest_postgres(
    tmp_path: Path, postgres_15: str
) -> None:
    look = documented("BIN=")
    where = look[: look.index("$BIN/psql")]
    with pulse(tmp_path, data_dir=tmp_path / ".pulse") as process:
        order_id = process.post(order()).json()["order_id"]
        before = process.until_first_released(order_id)
        count = look.rstrip() + " --tuples-only --command='SELECT count(*) FROM order_queue_status'"
        assert in_shell(tmp_path, count).strip() == "1"
    with api_alone(tmp_path, API, data_dir=tmp_path / ".pulse") as process:
        assert process.order(order_id) == before
        in_shell(tmp_path, where, documented("$BIN/pg_dump"))
    url, host = url_of(postgres_15), conninfo_to_dict(postgres_15)["host"]
    restore = documented("createdb").replace(
        "createdb", f"{BINARIES}/createdb --host={host} --username=pulse"
    )
    restore = re.sub(r"URL=.*", f"URL='{url}'", restore)
    in_shell(tmp_path, look.splitlines()[0], restore)
    with pulse(tmp_path, database_url=url) as process:
        assert process.order(order_id) == before
        process.until_completed(process.post(order()).json()["order_id"])
    verified = run_to_end(("-m", "pulse.cli", "verify"), database_url=url)
    assert verified.returncode == 0, verified.stderr
