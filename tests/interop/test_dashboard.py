"""The dashboard and the alerts, evaluated by a Prometheus that scrapes a Pulse under load."""

import json
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.orders import order
from tests.support.processes import ROOT, PulseProcess, pulse, until
from tests.support.prometheus import Prometheus, prometheus
from tests.support.tokens import Signer, bearer

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
EXPRESSIONS = [
    (panel["title"], target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*"}


@pytest.fixture(scope="module")
def loaded(
    module_database_url: str, signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    """A process that gets orders from the gateway and the API until the end of the module."""
    stopped = threading.Event()
    with pulse(
        tmp_path_factory.mktemp("loaded"),
        database_url=module_database_url,
        **signer.process_settings,
    ) as process:
        process.http.base_url = f"http://127.0.0.1:{process.port}"

        def load() -> None:
            token = bearer(signer.token())
            while not stopped.wait(0.05):
                placed = process.http.post("/pulse/internal/orders", json=order()).json()
                process.http.get(f"/pulse/internal/orders/{placed['order_id']}")
                process.http.post("/gapi/api/orders", json=order(), headers=token)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            yield process
        finally:
            stopped.set()
            thread.join()


@pytest.fixture(scope="module")
def asked(loaded: PulseProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    home = tmp_path_factory.mktemp("prometheus")
    with prometheus(home, f"127.0.0.1:{loaded.port}") as running:
        yield running


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_each_expression_of_the_dashboard_returns_data(
    asked: Prometheus, title: str, expression: str
) -> None:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)

    def answered() -> bool:
        return any(not math.isnan(value) for _, value in asked.query(expression))

    until(answered, f"{title}: {expression}")


def test_the_rules_are_evaluated_and_no_alert_fires_while_all_is_well(asked: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = asked.get("/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: all(rule["health"] == "ok" for rule in rules()), "every rule is evaluated")
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


def test_each_metric_of_the_dashboard_but_pulse_notices_exists(asked: Prometheus) -> None:
    names = set(asked.get("/api/v1/label/__name__/values"))
    for title, expression in EXPRESSIONS:
        used = {word for word in _words(expression) if word.startswith(("pulse_", "process_"))}
        assert used - names <= {"pulse_notices"}, title


def _words(expression: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()


def test_panels_do_not_overlap_and_have_unique_ids() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        own = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & own, panel["title"]
        cells |= own
