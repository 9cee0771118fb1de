"""The alerts of deploy/prometheus: each fires on a test series, and each has a runbook."""

import re
import subprocess

import pytest

from tests.support.processes import ROOT
from tests.support.prometheus import RULES, require

RUNBOOKS = (ROOT / "docs" / "how-to" / "runbooks.md").read_text(encoding="utf-8")
ALERTS = re.findall(r"- alert: (\w+)", (RULES / "rules.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "rules.yml"), ("check", "config", "prometheus.yml")],
    ids=" ".join,
)
def test_the_files_are_valid(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


def test_each_alert_fires_on_one_test_series_and_not_on_another() -> None:
    promtool("test", "rules", "rules.test.yml")
    tested = (RULES / "rules.test.yml").read_text(encoding="utf-8")
    for alert in ALERTS:
        assert f"name: {alert} fires" in tested
        assert f"name: {alert} is quiet" in tested


def test_each_alert_links_its_runbook() -> None:
    rules = (RULES / "rules.yml").read_text(encoding="utf-8")
    links = re.findall(r"runbook: docs/how-to/runbooks.md#(\w+)", rules)
    assert links == [alert.lower() for alert in ALERTS]


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_runbook(alert: str) -> None:
    _, found, after = RUNBOOKS.partition(f"\n## {alert}\n")
    assert found
    section = after.partition("\n## ")[0]
    for part in ("**Means**", "**Look**", "**Do**"):
        assert part in section, part


def test_no_runbook_is_for_an_alert_that_does_not_exist() -> None:
    assert re.findall(r"\n## (Pulse\w+)\n", RUNBOOKS) == ALERTS


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [require("promtool"), *arguments], cwd=RULES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
