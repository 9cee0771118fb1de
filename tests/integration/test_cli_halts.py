"""`pulse halt`, `pulse resume` and `pulse halts`."""

import json
import os
import pwd
from typing import Final

import pytest

from tests.support.cli import run_pulse

AUTHOR: Final = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
NO_HALT: Final = "3f2a8c1e-0000-4000-8000-000000000001"


def test_a_halt_is_set_listed_and_lifted(conninfo: str) -> None:
    none = run_pulse("halts", conninfo=conninfo)
    assert (none.exit_code, none.out, none.err) == (0, "no halt is in force\n", "")
    instrument = ("--instrument", "NSE:TCS", "--reason", "wrong price")
    set_halt = run_pulse("halt", *instrument, conninfo=conninfo)
    assert (set_halt.exit_code, set_halt.err) == (0, "")
    first, id_line, halted, expiry, lift = set_halt.out.splitlines()
    assert "expire when they are too late" in expiry
    assert first == "halted NSE:TCS"
    halt_id = id_line.split()[1]
    assert halted.startswith("  halted  ")
    assert halted.endswith(f" by {AUTHOR}: wrong price")
    assert lift == f"lift it: pulse resume {halt_id}"
    listed = run_pulse("halts", conninfo=conninfo)
    assert listed.out.splitlines() == [first, id_line, halted]
    status = run_pulse("status", conninfo=conninfo)
    assert "halted: NSE:TCS, since" in status.out
    assert "releases are halted by 1 halt: " in status.out
    assert status.exit_code == 0
    lifted = run_pulse("resume", halt_id, "--reason", "corrected", conninfo=conninfo)
    assert (lifted.exit_code, lifted.err) == (0, "")
    assert lifted.out.splitlines()[0] == "lifted NSE:TCS"
    assert lifted.out.splitlines()[-1].endswith(f" by {AUTHOR}: corrected")
    assert run_pulse("halts", conninfo=conninfo).out == "no halt is in force\n"
    assert run_pulse("halts", "--lifted", conninfo=conninfo).out == lifted.out
    again = run_pulse("resume", halt_id, conninfo=conninfo)
    assert (again.exit_code, again.out) == (0, lifted.out)


def test_a_second_halt_of_the_same_scope_changes_nothing(conninfo: str) -> None:
    first = run_pulse("halt", "--all", "--reason", "outage", "--json", conninfo=conninfo)
    halt = json.loads(first.out)
    assert (halt["scope"], halt["reason"], halt["halted_by"]) == ("ALL", "outage", AUTHOR)
    again = run_pulse("halt", "--all", "--reason", "another", conninfo=conninfo)
    assert again.exit_code == 0
    unchanged = "halted everything, before this command; nothing was changed"
    assert again.out.splitlines()[0] == unchanged
    caller = run_pulse("halt", "--caller", "algo", "--reason", "twice", "--json", conninfo=conninfo)
    listed = json.loads(run_pulse("halts", "--json", conninfo=conninfo).out)
    assert listed == {"halts": [halt, json.loads(caller.out)]}
    status = json.loads(run_pulse("status", "--json", conninfo=conninfo).out)
    assert [one["halt_id"] for one in status["releases"]["halts"]] == [
        one["halt_id"] for one in listed["halts"]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reason", "x"], "expected exactly one of --all, --instrument and --caller"),
        (["--all", "--caller", "a", "--reason", "x"], "expected exactly one of"),
        (["--all"], "Missing option '--reason'"),
        (["--all", "--reason", ""], "--reason: is too short: expected a string of 1 to 255"),
        (["--all", "--reason", "x" * 256], "--reason: is too long: expected a string of 1 to 255"),
        (["--instrument", "TCS", "--reason", "x"], "--instrument: has the wrong format"),
        (["--caller", "a\nb", "--reason", "x"], "--caller: has the wrong format"),
        (["--all", "--reason", "\udcff"], "expected UTF-8"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    conninfo: str, arguments: list[str], message: str
) -> None:
    ended = run_pulse("halt", *arguments, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (2, "")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("halt_id", [NO_HALT, "x"])
def test_an_unknown_halt_is_named(conninfo: str, halt_id: str) -> None:
    ended = run_pulse("resume", halt_id, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, "")
    assert f"no halt has the id {halt_id}: `pulse halts --lifted` lists all halts" in ended.err


def test_text_from_other_people_cannot_control_the_terminal(conninfo: str) -> None:
    run_pulse("halt", "--all", "--reason", "a\x1b[31mb\nc", conninfo=conninfo)
    shown = run_pulse("halts", conninfo=conninfo).out
    assert r"a\x1b[31mb\nc" in shown
    assert "\x1b" not in shown
