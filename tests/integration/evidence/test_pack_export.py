"""`pulse evidence` exports a pack and records that; `pulse verify FILE` checks the pack."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from pulse.domain import Event
from pulse.evidence.anchors import AnchorFile
from pulse.evidence.note import Checkpoint, SigningKey
from pulse.evidence.rotation import rotate_key
from pulse.postgres import Database
from tests.support.cli import Ended, run_pulse
from tests.support.database import ROLES
from tests.support.events import stored
from tests.support.packs import T0, completed, members_of
from tests.support.processes import ROOT, environment, run_to_end, url_of
from tests.support.seal import KEY, OTHER_KEY, seal_all, sealer, tamper

ORDERS: Final = 120
PERIOD: Final = (
    *("--from", (T0 + timedelta(seconds=50)).isoformat()),
    *("--to", (T0 + timedelta(seconds=90)).isoformat()),
)
ALTERED: Final = "the event at position 180 was altered"
AT_180: Final = "WHERE notification_id = 180"
ORDER: Final = str(completed(1)[0].originator_id)


def run_on(conninfo: str, work: Any) -> None:
    """Run asynchronous work with a pool on the database."""

    async def run() -> None:
        database = Database(conninfo, pool_size=2)
        await database.open()
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


class Log:
    """A sealed log with its anchors."""

    def __init__(self, conninfo: str, home: Path) -> None:
        self.conninfo = conninfo
        self.home = home
        self.anchors = home / "anchors.txt"

    def append(self, events: Iterable[tuple[datetime, Event]]) -> None:
        pairs = list(events)
        rows = zip([at for at, _ in pairs], stored([event for _, event in pairs]), strict=True)
        with psycopg.connect(self.conninfo) as connection:
            connection.cursor().executemany(
                "INSERT INTO stored_events"
                " (recorded_at, originator_id, originator_version, topic, state)"
                " VALUES (%s, %s, %s, %s, %s)",
                [(at, e.originator_id, e.originator_version, e.topic, e.state) for at, e in rows],
            )

    def seal(self, key: SigningKey = KEY) -> None:
        async def seal(database: Database) -> None:
            await seal_all(sealer(database, self.anchors, key))

        run_on(self.conninfo, seal)

    def rotate(self) -> None:
        async def rotate(database: Database) -> None:
            await rotate_key(database, KEY, OTHER_KEY, AnchorFile(self.anchors))

        run_on(self.conninfo, rotate)

    def export(self, *arguments: str, conninfo: str | None = None) -> Ended:
        return run_pulse(
            "evidence",
            *arguments,
            conninfo=conninfo or self.conninfo,
            anchor_file=str(self.anchors),
            data_dir=str(self.home / "data"),
        )

    def period(self, name: str = "pack.tar", *arguments: str) -> Path:
        """The pack of PERIOD; fails if it is not exported."""
        file = self.home / name
        ended = self.export(*PERIOD, "-o", str(file), *arguments)
        assert (ended.exit_code, ended.err) == (0, "")
        return file


def overlapping(orders: int, first: int = 0) -> list[tuple[datetime, Event]]:
    """Orders that each begin a second after the one before, with their times."""
    events = [
        (T0 + timedelta(seconds=number + 20 * at), event)
        for number in range(first, first + orders)
        for at, event in enumerate(completed(number))
    ]
    return sorted(events, key=lambda pair: pair[0])


@pytest.fixture
def log(conninfo: str, tmp_path: Path) -> Log:
    log = Log(conninfo, tmp_path)
    events = overlapping(ORDERS)
    log.append(events[:100])
    log.seal()
    log.append(events[100:])
    log.seal()
    return log


def verify(file: Path, *arguments: str, key: SigningKey | None = KEY) -> Ended:
    """`pulse verify FILE` without any setting."""
    given = () if key is None else ("--key", str(key.verifier))
    return run_pulse("verify", str(file), *given, *arguments)


def results(file: Path, *arguments: str) -> dict[str, Any]:
    ended = verify(file, "--json", *arguments)
    found: dict[str, Any] = json.loads(ended.out)
    assert ended.exit_code == (1 if found["findings"] else 0), ended.err
    return found


def test_a_period_is_exported_and_verified_without_a_database(log: Log) -> None:
    file = log.period()
    assert file.stat().st_mode & 0o777 == 0o600
    found = results(file)
    assert found["findings"] == []
    assert found["signer_checked"]
    assert found["selection"]["recorded_from"] == "2026-03-02T03:45:50Z"
    leaves = found["selection"]["last_index"] - found["selection"]["first_index"] + 1
    assert found["events"] > leaves, "with the earlier events of the same orders"
    assert (found["orders"], found["schedules"]) == (80, 60), "some orders are not split yet"
    assert found["checkpoint_size"] == 3 * ORDERS
    assert 100 in found["anchors"]
    lines = members_of(file.read_bytes())["events/0001.ndjson"].splitlines()
    recorded = [json.loads(line)["entry"]["recorded_at"] for line in lines]
    assert min(recorded) < "2026-03-02T03:45:50Z" <= max(recorded) < "2026-03-02T03:46:30Z"


def test_the_text_says_what_was_checked_and_how(log: Log) -> None:
    file = log.period()
    ended = verify(file)
    assert (ended.exit_code, ended.err) == (0, "")
    assert "recorded from 2026-03-02T03:45:50Z to 2026-03-02T03:46:30Z" in ended.out
    assert ended.out.endswith("derived again: nothing was found\n")
    unsigned = verify(file, key=None)
    assert unsigned.exit_code == 4
    assert unsigned.out.endswith("consistent in itself, signer not checked: give --key\n")
    other = verify(file, key=OTHER_KEY)
    assert other.exit_code == 1
    assert "the signature of the seal is wrong or missing" in other.out


def test_verifying_a_file_ignores_settings_even_if_they_are_invalid(log: Log) -> None:
    file = log.period()
    ended = run_pulse(
        "verify", str(file), port="no number", data_dir="/proc/none", database_url="x"
    )
    assert (ended.exit_code, ended.err) == (4, "")


def test_an_order_is_exported_alone(log: Log) -> None:
    order_id = completed(7)[0].originator_id
    file = log.home / "order.tar"
    ended = log.export("--order", str(order_id), "-o", str(file), "--json")
    assert ended.exit_code == 0
    exported = json.loads(ended.out)
    assert exported["selection"]["order_id"] == str(order_id)
    found = results(file)
    assert (found["events"], found["orders"], found["findings"]) == (3, 1, [])
    assert found["content_hash"] == exported["export"]["content_hash"]
    pack = file.read_bytes()
    assert pack.count(b"ouk_7") > 1
    for number in (6, 8, 70):
        assert str(completed(number)[0].originator_id).encode() not in pack
        assert f"ouk_{number}\\".encode() not in pack


def test_two_exports_have_the_same_content_hash_also_after_a_rotation(log: Log) -> None:
    first = results(log.period("one.tar"))
    log.append([(at + timedelta(hours=1), e) for at, e in overlapping(50, first=1000)])
    log.seal()
    log.rotate()
    second = results(log.period("two.tar"))
    assert second["findings"] == []
    assert second["content_hash"] == first["content_hash"]
    assert second["checkpoint_size"] > first["checkpoint_size"]
    assert second["signer"] == str(OTHER_KEY.verifier)
    ended = log.export("--list", "--json")
    exports = json.loads(ended.out)["exports"]
    assert [e["content_hash"] for e in exports] == [first["content_hash"]] * 2


def test_checkpoints_that_an_auditor_kept_are_compared(log: Log) -> None:
    kept = log.home / "kept.txt"
    kept.write_bytes(log.anchors.read_bytes())
    log.append([(at + timedelta(hours=1), e) for at, e in overlapping(5, first=1000)])
    log.seal()
    file = log.period("pack.tar", "--anchors", str(kept))
    ended = verify(file, "--anchors", str(kept))
    assert ended.exit_code == 0
    assert re.search(r"compared with (\d+) of \1 given checkpoints", ended.out)
    kept.write_text(kept.read_text().replace("\n360\n", "\n359\n"))
    assert verify(file, "--anchors", str(kept)).exit_code == 1
    assert verify(file, "--anchors", str(log.home / "none")).exit_code == 1


@pytest.mark.parametrize("content", ["", "hello\n"])
def test_checkpoints_that_cannot_be_compared_are_a_failure(log: Log, content: str) -> None:
    kept = log.home / "kept.txt"
    kept.write_text(content)
    ended = verify(log.period(), "--anchors", str(kept))
    assert ended.exit_code == 6
    assert "compared with 0 of 0 given checkpoints" in ended.out
    assert ended.out.endswith("nothing was found, but not fully compared with --anchors\n")


def test_a_larger_checkpoint_that_was_kept_is_named(log: Log) -> None:
    file = log.period()
    log.append([(at + timedelta(hours=1), e) for at, e in overlapping(5, first=1000)])
    log.seal()
    kept = log.home / "kept.txt"
    kept.write_bytes(log.anchors.read_bytes())
    ended = verify(file, "--anchors", str(kept))
    assert ended.exit_code == 6
    assert "larger than the tree of 360 entries, so not compared: 375" in ended.out
    assert (
        verify(log.period("new.tar", "--anchors", str(kept)), "--anchors", str(kept)).exit_code == 0
    )


def test_a_period_without_an_entry_after_it_is_not_proven_complete(log: Log) -> None:
    file = log.home / "pack.tar"
    until = ("--to", (T0 + timedelta(days=1)).isoformat())
    exported = log.export(*PERIOD[:2], *until, "-o", str(file))
    assert exported.exit_code == 0
    assert "not proven complete to its end" in exported.out
    ended = verify(file)
    assert ended.exit_code == 5
    assert ended.out.endswith(
        "not proven complete to its end: no entry after the period was sealed\n"
    )
    unknown = verify(file, key=None)
    assert unknown.exit_code == 4
    assert "not proven complete to its end" in unknown.out


def test_a_replaced_key_counts_up_to_its_rotation(log: Log) -> None:
    log.append([(at + timedelta(hours=1), e) for at, e in overlapping(100, first=1000)])
    log.seal()
    log.rotate()
    log.append([(at + timedelta(hours=2), e) for at, e in overlapping(100, first=2000)])
    log.seal(OTHER_KEY)
    ended = verify(log.period(), key=OTHER_KEY)
    assert (ended.exit_code, ended.err) == (0, "")
    anchors = json.loads(verify(log.period("two.tar"), "--json", key=OTHER_KEY).out)["anchors"]
    assert (100 in anchors, 960 in anchors) == (True, True), "before and after the rotation"


def test_exports_are_recorded_with_the_user_and_the_role(log: Log) -> None:
    assert log.export("--list").out == "nothing has been exported yet\n"
    content_hash = results(log.period())["content_hash"]
    ended = log.export("--list")
    assert ended.exit_code == 0
    (line, detail) = ended.out.splitlines()
    assert f" as {ROLES.runtime}  recorded from 2026-03-02T03:45:50Z" in line
    assert " cli:" in line
    assert content_hash in detail
    with psycopg.connect(log.conninfo) as connection:
        row = connection.execute(
            "SELECT exported_by, database_role FROM evidence_exports"
        ).fetchone()
    assert row is not None
    assert (row[0][:4], row[1]) == ("cli:", ROLES.runtime)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE evidence_exports SET events = 1",
        "DELETE FROM evidence_exports",
        "TRUNCATE evidence_exports",
    ],
)
def test_the_record_cannot_be_changed(log: Log, statement: str) -> None:
    log.period()
    with (
        psycopg.connect(log.conninfo) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(statement.encode())


def test_an_export_that_cannot_be_recorded_is_refused(log: Log) -> None:
    """The reader may read everything, and write nothing."""
    file = log.home / "pack.tar"
    conninfo = psycopg.conninfo.make_conninfo(log.conninfo, user=ROLES.reader)
    ended = run_to_end(
        (
            "-m",
            "pulse.cli",
            "evidence",
            *PERIOD,
            "-o",
            str(file),
        ),
        database_url=url_of(conninfo),
        anchor_file=log.anchors,
    )
    assert ended.returncode == 1
    assert f"the database role {ROLES.reader} may not record exports" in ended.stderr
    assert files_next_to(file) == []
    command = ("-m", "pulse.cli", "evidence", "--list")
    listed = run_to_end(command, database_url=url_of(conninfo), anchor_file=log.anchors)
    assert (listed.returncode, listed.stdout) == (0, "nothing has been exported yet\n")


def files_next_to(file: Path) -> list[str]:
    return [found.name for found in file.parent.iterdir() if file.name in found.name]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("2026-03-02T03:00:00Z", "2026-03-02T03:45:00Z"), "no event was recorded"),
        (("2026-03-02T05:00:00Z", "2026-03-02T06:00:00Z"), "no event was recorded"),
        (("0001-01-01T00:00:00Z", "0001-01-01T00:00:01Z"), "no event was recorded"),
        (("2026-03-02T03:00:00Z", "2999-01-01T00:00:00Z"), "ends in the future"),
        (("2026-03-02T04:00:00Z", "2026-03-02T03:00:00Z"), "must be earlier"),
        (("2026-03-02T04:00:00Z", "2026-03-02T04:00:00Z"), "must be earlier"),
        (("2026-03-02T04:00:00", "2026-03-02T05:00:00Z"), "not an RFC 3339 time"),
        (("yesterday", "2026-03-02T05:00:00Z"), "not an RFC 3339 time"),
    ],
)
def test_a_period_that_cannot_be_exported_is_refused(
    log: Log, times: Sequence[str], message: str
) -> None:
    file = log.home / "pack.tar"
    ended = log.export("--from", times[0], "--to", times[1], "-o", str(file))
    assert ended.exit_code in {1, 2}
    assert message in ended.err
    assert files_next_to(file) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-o", "x.tar"),
        ("-o", "x.tar", "--from", "2026-03-02T03:00:00Z"),
        ("-o", "x.tar", "--to", "2026-03-02T03:00:00Z"),
        (
            "-o",
            "x.tar",
            "--order",
            ORDER,
            "--to",
            "2026-03-02T03:00:00Z",
        ),
        ("--order", ORDER),
        ("--list", "-o", "x.tar"),
        ("--list", "--anchors", "x.txt"),
        ("--order", ORDER, "-o", "-"),
    ],
    ids=[
        *("nothing", "no selection", "no end", "no start", "both", "no file", "list and file"),
        *("list and anchors", "a pipe"),
    ],
)
def test_wrong_usage_is_refused(log: Log, arguments: tuple[str, ...]) -> None:
    assert log.export(*arguments).exit_code == 2


@pytest.mark.parametrize("order_id", ["x", "9ff54a4d-a8eb-5a4c-a146-a92918cb5546"])
def test_an_unknown_order_is_refused(log: Log, order_id: str) -> None:
    ended = log.export("--order", order_id, "-o", str(log.home / "x.tar"))
    assert ended.exit_code == 1
    assert f"no order has the id {order_id}" in ended.err


def test_a_log_without_a_seal_is_refused(conninfo: str, tmp_path: Path) -> None:
    log = Log(conninfo, tmp_path)
    log.append(overlapping(2))
    ended = log.export("--order", ORDER, "-o", str(tmp_path / "x.tar"))
    assert ended.exit_code == 1
    assert "no checkpoint has been signed yet" in ended.err


def test_events_that_are_not_sealed_in_time_are_refused(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.evidence.pack_source.SEAL_SECONDS", 0.5)
    log.append(overlapping(1, first=1000))
    ended = log.export(
        "--order", str(completed(1000)[0].originator_id), "-o", str(log.home / "x.tar")
    )
    assert ended.exit_code == 1
    assert "is not sealed yet: the seal is at position 360" in ended.err


def test_a_file_that_exists_is_not_overwritten(log: Log) -> None:
    file = log.home / "pack.tar"
    file.write_text("kept")
    ended = log.export("--order", ORDER, "-o", str(file))
    assert ended.exit_code == 1
    assert "already exists" in ended.err
    assert file.read_text() == "kept"
    missing = log.home / "missing" / "pack.tar"
    ended = log.export("--order", ORDER, "-o", str(missing))
    assert (ended.exit_code, "cannot be written" in ended.err) == (1, True)


def test_a_file_that_appears_during_the_export_is_not_overwritten(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = log.home / "pack.tar"
    link = os.link

    def link_late(draft: Path, name: Path) -> None:
        file.write_text("kept")
        link(draft, name)

    monkeypatch.setattr(os, "link", link_late)
    ended = log.export("--order", ORDER, "-o", str(file))
    assert ended.exit_code == 1
    assert "already exists" in ended.err
    assert file.read_text() == "kept"
    assert files_next_to(file) == ["pack.tar"]


_LIMITED: Final = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from pulse.cli import main
main()
"""


def test_a_disk_that_fills_leaves_no_file(log: Log) -> None:
    file = log.home / "full" / "pack.tar"
    file.parent.mkdir()
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            _LIMITED,
            "evidence",
            *PERIOD,
            "-o",
            file,
        ],
        cwd=ROOT,
        env=environment({"database_url": url_of(log.conninfo), "anchor_file": log.anchors}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "pack.tar cannot be written: File too large" in ended.stderr
    assert list(file.parent.iterdir()) == []
    assert log.export("--list").out == "nothing has been exported yet\n"


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (f"UPDATE stored_events SET state = '{{}}' {AT_180}", ALTERED),
        (f"UPDATE stored_events SET recorded_at = recorded_at - interval '1 us' {AT_180}", ALTERED),
        (f"DELETE FROM stored_events {AT_180}", "1 events of the period were sealed"),
        ("UPDATE seal_entries SET entries = '' WHERE first_index > 0", "differs from its seal"),
        ("UPDATE seal_entries SET entries = set_byte(entries, 120, 48)", "differs from its seal"),
        ("UPDATE seal_state SET checkpoint = replace(checkpoint, 'A', 'B')", "not signed by a key"),
    ],
    ids=["state", "time", "deleted", "no entries", "entry", "signature"],
)
def test_a_log_that_differs_from_its_seal_is_refused(log: Log, statement: str, reason: str) -> None:
    tamper(log.conninfo, statement)
    file = log.home / "pack.tar"
    ended = log.export(*PERIOD, "-o", str(file))
    assert ended.exit_code == 1
    assert reason in ended.err
    assert files_next_to(file) == []


def test_an_anchor_that_contradicts_the_seal_is_refused(log: Log) -> None:
    wrong = Checkpoint(KEY.verifier.name, 300, bytes(32)).signed_by(KEY)
    log.anchors.write_text(f"{log.anchors.read_text()}\n{wrong}")
    kept = ("--anchors", str(log.anchors))
    ended = log.export("--order", ORDER, "-o", str(log.home / "x.tar"), *kept)
    assert ended.exit_code == 1
    assert "an anchor of 300 entries has another root" in ended.err


def test_a_file_that_is_not_a_pack_is_refused_in_one_line(log: Log) -> None:
    file = log.home / "x.tar"
    assert "cannot be read" in verify(file).err
    file.write_bytes(b"x" * 5000)
    ended = verify(file)
    assert ended.exit_code == 1
    assert "not a pack" in ended.out
    assert verify(log.home).exit_code == 1
    assert verify(file, "--since", "1").exit_code == 2
    assert run_pulse("verify", str(file), str(file)).exit_code == 2
    assert run_pulse("verify", str(file), "--key", "x").exit_code == 2
    pipe = log.home / "pipe.tar"
    os.mkfifo(pipe)
    assert "not a regular file" in verify(pipe).err
    assert "not a regular file" in verify(log.period(), "--anchors", str(pipe)).err


def test_a_name_that_is_too_long_for_a_file_names_an_order(log: Log) -> None:
    ended = run_pulse("verify", "x" * 300, conninfo=log.conninfo)
    assert ended.exit_code == 1
    assert "no order has the id" in ended.err
    assert verify(Path("x" * 300 + ".tar")).exit_code == 1
