"""The check of what mutation testing found: nothing passes that survived unexplained."""

import pytest

from tests.mutants.check import faults_of

KILLED = {f"m.x_f__mutmut_{n}": "killed" for n in range(40)}
SURVIVOR = "m.x_f__mutmut_99"


def test_a_survivor_that_the_page_explains_is_well() -> None:
    assert faults_of({**KILLED, SURVIVOR: "survived"}, [SURVIVOR]) == []


@pytest.mark.parametrize("status", ["survived", "no tests", "suspicious", "not checked", "skipped"])
def test_one_that_it_does_not_is_named(status: str) -> None:
    assert faults_of({**KILLED, SURVIVOR: status}, []) == [f"{SURVIVOR} {status}, unexplained"]


@pytest.mark.parametrize("statuses", [KILLED, {**KILLED, SURVIVOR: "timeout"}])
def test_an_explanation_of_nothing_is_named(statuses: dict[str, str]) -> None:
    assert faults_of(statuses, [SURVIVOR]) == [f"{SURVIVOR} is explained but did not survive"]


def test_too_many_survivors_are_too_many_however_explained() -> None:
    survivors = dict.fromkeys(["m.x_g__mutmut_1", "m.x_g__mutmut_2", "m.x_g__mutmut_3"], "survived")
    faults = faults_of({**KILLED, **survivors}, survivors)
    assert faults == ["only 93.0% killed, at least 95% required"]


def test_a_run_that_found_nothing_proves_nothing() -> None:
    assert faults_of({}, []) == ["no results: did `mutmut run` complete?"]
