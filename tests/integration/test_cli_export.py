"""`pulse export`: forms, filters, and exports that are interrupted and continued."""

import contextlib
import csv
import gzip
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pulse.application import log_formats
from pulse.application.log_formats import Chunk
from pulse.cli import export
from pulse.domain import Event
from pulse.postgres import DatabaseUnavailable
from tests.support.cli import run_pulse, write
from tests.support.events import orders_created, slices_scheduled, stored

T0 = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)


@pytest.fixture
def log(conninfo: str) -> str:
    """A database with 40 orders and 3 outcomes, an event a second."""
    created = orders_created(40)
    events: list[Event] = [*created, *(slices_scheduled(one) for one in created[:3])]
    for number, event in enumerate(events):
        write(conninfo, *stored([event]), recorded_at=T0 + timedelta(seconds=number))
    return conninfo


def positions(content: bytes) -> list[int]:
    return [json.loads(line)["position"] for line in content.decode().splitlines()]


def exported(log: str, file: Path, *arguments: str) -> str:
    ended = run_pulse("export", "-o", str(file), *arguments, conninfo=log)
    assert (ended.exit_code, ended.err) == (0, "")
    assert [one.name for one in file.parent.iterdir()] == [file.name], "nothing else is left"
    return ended.out


def test_the_log_is_written_in_each_form(log: str, tmp_path: Path) -> None:
    file = tmp_path / "log.ndjson"
    out = exported(log, file)
    assert out.startswith("exported 43 events up to position 43 in ")
    assert positions(file.read_bytes()) == list(range(1, 44))
    exported(log, tmp_path / "log.ndjson", "--format", "ndjson", "--type", "SlicesScheduled")
    assert positions(file.read_bytes()) == [41, 42, 43]
    file.unlink()

    before = ("--before", (T0 + timedelta(seconds=2)).isoformat())
    for name, arguments in (("log.csv.gz", ()), ("log.gz", ("--format", "csv"))):
        packed = tmp_path / name
        exported(log, packed, *before, *arguments)
        rows = list(csv.DictReader(gzip.decompress(packed.read_bytes()).decode().splitlines()))
        assert [row["position"] for row in rows] == ["1", "2"]
        packed.unlink()

    slices = tmp_path / "slices.csv"
    out = exported(log, slices, "--slices")
    assert out.startswith("exported 15 slices up to position 43 in ")
    with slices.open(newline="") as text:
        found = list(csv.DictReader(text))
    assert [row["sequence_number"] for row in found] == ["1", "2", "3", "4", "5"] * 3


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
    """Fail in the next export once it has reached this position."""

    async def failing(*arguments: Any, **options: Any) -> AsyncGenerator[Chunk]:
        async for chunk in log_formats.export(*arguments, **options):
            yield chunk
            if chunk.position >= after:
                raise error

    monkeypatch.setattr(export, "formatted", failing)


@pytest.mark.parametrize("name", ["log.ndjson", "log.ndjson.gz", "log.csv", "log.csv.gz"])
def test_an_interrupted_export_continues_where_it_stopped(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    form = ("--format", "csv" if "csv" in name else "ndjson")
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    exported(log, whole, *form)
    file = tmp_path / name
    with monkeypatch.context() as patch:
        interrupted(patch, 10, DatabaseUnavailable("the server is down"))
        ended = run_pulse("export", "-o", str(file), *form, conninfo=log)
    assert ended.exit_code == 1
    at = 16  # the first window
    assert (
        f"{file}.part has the log up to position {at}: continue it with --after {at}" in ended.err
    )
    assert "the server is down" in ended.err
    assert not file.exists()

    part = file.with_name(f"{name}.part")
    part.write_bytes(part.read_bytes() + b"half a li")  # as a killed process leaves it
    wrong = run_pulse("export", "-o", str(file), *form, "--after", "7", conninfo=log)
    assert wrong.exit_code == 1
    assert "has the log up to position 16: continue it with --after 16" in wrong.err
    other = run_pulse(
        *("export", "-o", str(file), *form, "--after", "16", "--type", "TimedOut"), conninfo=log
    )
    assert other.exit_code == 1
    assert "was started with other options" in other.err

    ended = run_pulse("export", "-o", str(file), *form, "--after", "16", conninfo=log)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.startswith("exported 43 events up to position 43")
    unpack = gzip.decompress if name.endswith(".gz") else bytes
    assert unpack(file.read_bytes()) == unpack(whole.read_bytes())
    assert not part.exists()
    again = run_pulse("export", "-o", str(file), *form, "--after", "16", conninfo=log)
    assert again.exit_code == 1
    assert "already exists and is complete" in again.err


def test_a_partial_file_of_another_log_is_not_continued(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log.ndjson"
    with monkeypatch.context() as patch:
        interrupted(patch, 10, DatabaseUnavailable("the server is down"))
        run_pulse("export", "-o", str(file), conninfo=log)
    with psycopg.connect(log) as connection:
        connection.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
    ended = run_pulse("export", "-o", str(file), "--after", "16", conninfo=log)
    assert ended.exit_code == 1
    assert "belongs to another log" in ended.err
    exported(log, file)  # without --after it begins again


def test_an_export_that_has_nothing_yet_leaves_no_file(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, 0, DatabaseUnavailable("the server is down"))
    run_pulse("export", "-o", str(tmp_path / "x"), "--type", "TimedOut", conninfo=log)
    assert list(tmp_path.iterdir()) == []


def test_an_export_without_a_partial_file_begins_after_the_given_position(
    log: str, tmp_path: Path
) -> None:
    file = tmp_path / "rest.ndjson"
    exported(log, file, "--after", "40")
    assert positions(file.read_bytes()) == [41, 42, 43]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ([], 2, "Missing option"),
        (["-o", "x", "--format", "xml"], 2, "expected ndjson or csv"),
        (["-o", "x", "--format", "ndjson", "--slices"], 2, "--slices needs the format csv"),
        (
            ["-o", "x", "--slices", "--type", "TimedOut"],
            2,
            "--type: cannot be combined with rows=slices",
        ),
        (["-o", "x", "--type", "OrderFilled"], 2, "--type: is not allowed"),
        (["-o", "x", "--order", "7"], 2, "--order: is not allowed"),
        (["-o", "x", "--from", "yesterday"], 2, "--from: is not a valid time"),
        (["-o", "x", "--after", "-1"], 2, "--after"),
        (["-o", "x", "--after", "99"], 1, "position 99 is beyond the log's end, which is 43"),
        (["-o", "/"], 1, "is a directory"),
        (["-o", "/dev/null/x"], 1, "cannot be written"),
    ],
)
def test_an_invalid_export_is_refused_and_leaves_no_file(
    log: str, tmp_path: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    with contextlib.chdir(tmp_path):
        ended = run_pulse("export", *arguments, conninfo=log)
    assert ended.exit_code == exit_code, ended.err
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []
