"""The numbers of processes of `pulse up`: what is allowed, and the errors of wrong values."""

import pytest

from pulse.cli.app import run
from pulse.process.group.supervisor import GroupSize
from pulse.settings import Settings, SettingsError

WRONG = ["0", "-1", "x", "1.5", "65", "99999999999999999999999"]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("option", ["--processes", "--workers"])
def test_a_wrong_option_is_wrong_usage(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", option, value]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pulse: ")
    assert said.count("\n") == 1
    assert option in said


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("variable", ["PULSE_PROCESSES", "PULSE_WORKER_PROCESSES"])
def test_a_wrong_variable_is_named_with_what_is_expected(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}='{value}': expected a whole number"):
        Settings.from_environment({variable: value})


def test_the_members_of_a_group_have_names_that_a_restart_keeps() -> None:
    assert GroupSize(2, 1).members == ("api-1", "api-2", "worker-1")
