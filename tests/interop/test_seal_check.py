"""The seal is checked by a program in Go that uses only the HTTP API and no code of Pulse."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pulse.evidence.key_file import read_key_file
from pulse.evidence.note import SigningKey
from pulse.postgres.embedded import EmbeddedServer
from tests.support.orders import order
from tests.support.processes import ROOT, PulseProcess, pulse, run_to_end, until
from tests.support.seal import tamper

SOURCE = ROOT / "docs" / "reference" / "seal" / "check.go"
DEBIAN = Path("/usr/share/gocode")
GO = shutil.which("go")

pytestmark = pytest.mark.skipif(
    GO is None or not (DEBIAN / "src/golang.org/x/mod/sumdb").is_dir(),
    reason="no Go with golang.org/x/mod on this machine",
)


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    home = tmp_path_factory.mktemp("go")
    subprocess.run(
        [str(GO), "build", "-o", home / "check", SOURCE],
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": str(DEBIAN),
            "GOFLAGS": "",
        },
        check=True,
        timeout=110,
    )
    return home / "check"


@pytest.fixture
def up(data_dir: Path, tmp_path: Path) -> Iterator[PulseProcess]:
    """`pulse up` with an embedded server and no setting for the seal."""
    with pulse(tmp_path, data_dir=data_dir, release_slices="false") as process:
        yield process


def place(up: PulseProcess, orders: int, first: int = 0) -> None:
    """Place orders, and wait until their events are sealed."""
    batch = [order(order_unique_key=f"ouk_{first + n}") for n in range(orders)]
    assert up.http.post("/internal/orders/batch", json=batch).status_code == 200
    end = 2 * (first + orders)

    def is_sealed() -> bool:
        answer = up.http.get("/internal/log/checkpoint")
        return answer.status_code == 200 and int(answer.text.split("\n")[1]) >= end

    until(is_sealed, "the events are sealed")


def run(check: Path, up: PulseProcess, key: str, *older: Path) -> subprocess.CompletedProcess[str]:
    command = [str(check), up.url, key, *map(str, older)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_accepts_the_seal_and_finds_changes(
    check: Path, up: PulseProcess, data_dir: Path, tmp_path: Path
) -> None:
    key = read_key_file(data_dir / "seal-development.key").verifier
    anchors = data_dir / "seal-anchors.txt"
    place(up, 200)
    place(up, 3, first=200)
    right = run(check, up, str(key), anchors)
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout.startswith(f"{key.name}: 406 entries and ")
    assert "0 older checkpoints" not in right.stdout
    status = run_to_end(("-m", "pulse.cli", "status", "--json"), data_dir=data_dir)
    assert json.loads(status.stdout)["seal"]["size"] == 406
    another = SigningKey.generate(key.name).verifier
    wrong = run(check, up, str(another))
    assert wrong.returncode != 0
    older = tmp_path / "older"
    note = up.http.get("/internal/log/checkpoint").text
    older.write_text(note.replace("\n406\n", "\n407\n"))
    assert run(check, up, str(key), older).returncode != 0
    with EmbeddedServer.acquire(data_dir) as server:
        before = up.http.get("/internal/log/tile/entries/000").content
        with psycopg.connect(server.conninfo) as connection:
            kept = connection.execute("SELECT entries FROM seal_entries WHERE first_index = 0")
            (original,) = kept.fetchone() or (b"",)
        tamper(
            server.conninfo,
            "UPDATE seal_entries SET entries = set_byte(entries, 120, 48) WHERE first_index = 0",
        )
        assert up.http.get("/internal/log/tile/entries/000").content != before
        forged = run(check, up, str(key))
        assert forged.returncode != 0
        assert "the entries do not have the checkpoint's root" in forged.stderr
        tamper(
            server.conninfo,
            f"UPDATE seal_entries SET entries = '\\x{original.hex()}' WHERE first_index = 0",
            "UPDATE seal_nodes SET hash = sha256('x')",
        )
        assert run(check, up, str(key)).returncode != 0


def test_a_forked_log_is_checked_with_the_key_of_its_note(
    check: Path, data_dir: Path, tmp_path: Path
) -> None:
    """While Pulse runs, the embedded server's log is not forked."""
    settings = {"data_dir": data_dir, "release_slices": "false"}
    command = ("-m", "pulse.cli", "log", "fork", "--reason", "rehearsal", "--yes")
    with pulse(tmp_path, **settings) as process:
        place(process, 10)
        refused = run_to_end(command, data_dir=data_dir)
        assert refused.returncode == 1
        assert "Pulse is running on this database" in refused.stderr
        assert process.stop() == 0
    first = read_key_file(data_dir / "seal-development.key").verifier
    forked = run_to_end(command, data_dir=data_dir)
    assert (forked.returncode, forked.stderr) == (0, "")
    (line,) = [text for text in forked.stdout.splitlines() if text.startswith("next-key ")]
    with pulse(tmp_path, **settings) as process:
        place(process, 5, first=10)
        right = run(check, process, line.removeprefix("next-key "), data_dir / "seal-anchors.txt")
        assert (right.returncode, right.stderr) == (0, "")
        assert f"{first.name}/fork-" in right.stdout
        assert ": 30 entries and" in right.stdout
        assert "of other keys were not checked" in right.stdout
        assert run(check, process, str(first)).returncode != 0
        assert process.http.get("/health/ready").json().get("notices", []) == []
