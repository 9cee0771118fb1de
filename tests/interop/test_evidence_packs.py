"""Evidence packs of real processes, checked with an empty environment and by a program in Go."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from pulse.evidence.key_file import read_key_file
from pulse.postgres.embedded import EmbeddedServer
from tests.interop.test_seal_check import DEBIAN, GO, place
from tests.support.packs import members_of, rehashed
from tests.support.processes import ROOT, PulseProcess, environment, pulse, run_to_end, until

SOURCE = ROOT / "docs" / "reference" / "seal" / "check_pack.go"
ORDERS = 150


pytestmark = pytest.mark.timeout(300)  # each test runs some commands, and starts servers


@pytest.fixture
def up(data_dir: Path, tmp_path: Path) -> Iterator[PulseProcess]:
    """`pulse up` with an embedded server and no setting for the seal."""
    with pulse(tmp_path, data_dir=data_dir, release_slices="false") as process:
        yield process


def evidence(data_dir: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ("-m", "pulse.cli", "evidence", *map(str, arguments))
    return run_to_end(command, data_dir=data_dir)


def verify(pack: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`pulse verify FILE` without any variable in its environment."""
    return subprocess.run(
        [sys.executable, "-m", "pulse.cli", "verify", str(pack), *arguments],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def exported(data_dir: Path, pack: Path, since: datetime, before: datetime | None = None) -> Path:
    """The pack of everything that was recorded since then, and before another time."""
    times = ("--from", since.isoformat(), "--to", (before or datetime.now(UTC)).isoformat())
    ended = evidence(data_dir, *times, "-o", pack)
    assert (ended.returncode, ended.stderr) == (0, "")
    return pack


def built(home: Path) -> Path | None:
    """The program in Go; None on a machine that cannot build it."""
    if GO is None or not (DEBIAN / "src/golang.org/x/mod/sumdb").is_dir():
        return None
    program = home / "check_pack"
    subprocess.run(
        [str(GO), "build", "-o", program, SOURCE],
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": str(DEBIAN),
            "GOFLAGS": "",
        },
        check=True,
        timeout=110,
    )
    return program


def test_a_pack_is_exported_while_processes_run_and_verified_elsewhere(
    up: PulseProcess, data_dir: Path, tmp_path: Path
) -> None:
    since = datetime.now(UTC)
    place(up, ORDERS)
    before = datetime.now(UTC)
    open_ended = exported(data_dir, tmp_path / "open.tar", since, before)
    place(up, 1, first=ORDERS)
    pack = exported(data_dir, tmp_path / "pack.tar", since, before)
    key = str(read_key_file(data_dir / "seal-development.key").verifier)
    known = verify(pack, "--key", key)
    assert (known.returncode, known.stderr) == (0, "")
    assert f"{2 * ORDERS} events of {ORDERS} orders verified" in known.stdout
    unproven = verify(open_ended, "--key", key)
    assert (unproven.returncode, unproven.stderr) == (5, "")
    unknown = verify(pack)
    assert (unknown.returncode, unknown.stderr) == (4, "")
    assert "consistent in itself, signer not checked" in unknown.stdout
    (_, export) = json.loads(evidence(data_dir, "--list", "--json").stdout)["exports"]
    assert f"content hash: {export['content_hash']}" in known.stdout
    program = built(tmp_path)
    if program is not None:
        right = check(program, pack, key)
        assert (right.returncode, right.stderr) == (0, "")
        assert f": {2 * ORDERS} events are in the tree of " in right.stdout
        assert check(program, open_ended, key).returncode == 5
        later = tmp_path / "later.tar"
        later.write_bytes(pack.read_bytes() + bytes(512))
        assert "after the end" in check(program, later, key).stderr
        forged = members_of(pack.read_bytes())
        selection = json.loads(forged["selection.json"]) | {"recorded_before": since.isoformat()}
        forged["selection.json"] = json.dumps(selection).encode()
        later.write_bytes(rehashed(forged))
        assert "was not recorded in the period" in check(program, later, key).stderr
    with tarfile.open(pack) as archive:
        members = {member.name: member.offset_data for member in archive}
    for name in ("events/0001.ndjson", "checkpoint", "manifest.sha256", "tile/0/000"):
        changed = bytearray(pack.read_bytes())
        changed[members[name] + 20] ^= 1
        file = tmp_path / "changed.tar"
        file.write_bytes(changed)
        assert program is None or check(program, file, key).returncode == 1, name
    assert verify(file, "--key", key).returncode == 1


def check(program: Path, pack: Path, key: str) -> subprocess.CompletedProcess[str]:
    command = (str(program), str(pack), key)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_export_that_is_stopped_leaves_no_partial_file(
    up: PulseProcess, data_dir: Path, tmp_path: Path
) -> None:
    since = datetime.now(UTC)
    place(up, ORDERS)
    folder = tmp_path / "packs"
    folder.mkdir()
    with (
        EmbeddedServer.acquire(data_dir) as server,
        psycopg.connect(server.conninfo) as connection,
    ):
        connection.execute("LOCK TABLE clock_offsets")  # an export reads it after the events
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pulse.cli", "evidence", "--from", since.isoformat()),
                *("--to", datetime.now(UTC).isoformat(), "-o", folder / "pack.tar"),
            ],
            cwd=ROOT,
            env=environment({"data_dir": data_dir}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: any(file.stat().st_size for file in folder.iterdir()), "events are written")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert list(folder.iterdir()) == []
