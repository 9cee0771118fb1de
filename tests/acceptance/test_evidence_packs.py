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

import pytest

from pulse.evidence.key_file import read_key_file
from tests.acceptance.test_seal_check import DEBIAN, GO, place
from tests.support.processes import ROOT, PulseProcess, environment, pulse, run_to_end, until

SOURCE = ROOT / "docs" / "reference" / "seal" / "check_pack.go"
ORDERS = 150


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


def exported(data_dir: Path, pack: Path, since: datetime) -> Path:
    """The pack of everything that was recorded since then."""
    times = ("--from", since.isoformat(), "--to", datetime.now(UTC).isoformat())
    ended = evidence(data_dir, *times, "-o", pack)
    assert (ended.returncode, ended.stderr) == (0, "")
    return pack


def test_a_pack_is_exported_beside_running_processes_and_verified_elsewhere(
    up: PulseProcess, data_dir: Path, tmp_path: Path
) -> None:
    since = datetime.now(UTC)
    place(up, ORDERS)
    pack = exported(data_dir, tmp_path / "pack.tar", since)
    key = str(read_key_file(data_dir / "seal-development.key").verifier)
    known = verify(pack, "--key", key)
    assert (known.returncode, known.stderr) == (0, "")
    assert f"{2 * ORDERS} events of {ORDERS} orders verified" in known.stdout
    unknown = verify(pack)
    assert (unknown.returncode, unknown.stderr) == (4, "")
    assert "consistent in itself, signer not checked" in unknown.stdout
    (order_id,) = {up.http.get("/internal/orders?limit=1").json()["orders"][0]["order_id"]}
    one = tmp_path / "one.tar"
    assert evidence(data_dir, "--order", order_id, "-o", one).returncode == 0
    assert verify(one, "--key", key).returncode == 0
    listed = json.loads(evidence(data_dir, "--list", "--json").stdout)["exports"]
    assert [export["order_id"] for export in listed] == [None, order_id]
    changed = bytearray(pack.read_bytes())
    changed[len(changed) // 3] ^= 1
    (tmp_path / "changed.tar").write_bytes(changed)
    assert verify(tmp_path / "changed.tar", "--key", key).returncode == 1


def test_an_export_that_is_stopped_leaves_no_file(
    up: PulseProcess, data_dir: Path, tmp_path: Path
) -> None:
    since = datetime.now(UTC)
    place(up, ORDERS)
    folder = tmp_path / "packs"
    folder.mkdir()
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
    until(lambda: list(folder.iterdir()), "the export begins")
    process.send_signal(signal.SIGTERM)
    stopped = process.wait(timeout=60)
    names = [file.name for file in folder.iterdir()]
    assert names == (["pack.tar"] if stopped == 0 else [])


@pytest.mark.skipif(
    GO is None or not (DEBIAN / "src/golang.org/x/mod/sumdb").is_dir(),
    reason="no Go with golang.org/x/mod on this machine",
)
def test_the_program_in_go_accepts_a_pack_and_refuses_a_changed_one(
    up: PulseProcess, data_dir: Path, tmp_path: Path
) -> None:
    program = tmp_path / "check_pack"
    subprocess.run(
        [str(GO), "build", "-o", program, SOURCE],
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": str(DEBIAN),
            "GOCACHE": str(tmp_path / "cache"),
            "GOFLAGS": "",
        },
        check=True,
        timeout=110,
    )
    since = datetime.now(UTC)
    place(up, ORDERS)
    pack = exported(data_dir, tmp_path / "pack.tar", since)
    key = read_key_file(data_dir / "seal-development.key").verifier

    def check(file: Path) -> subprocess.CompletedProcess[str]:
        command = (str(program), str(file), str(key))
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    right = check(pack)
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout.startswith(f"{key.name}: {2 * ORDERS} events are in the tree of ")
    with tarfile.open(pack) as archive:
        members = {member.name: member.offset_data for member in archive}
    for name in ("events/0001.ndjson", "checkpoint", "manifest.sha256", "tile/0/000"):
        changed = bytearray(pack.read_bytes())
        changed[members[name] + 20] ^= 1
        file = tmp_path / "changed.tar"
        file.write_bytes(changed)
        assert check(file).returncode == 1, name
