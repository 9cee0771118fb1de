"""docs/reference/metrics.md has every metric as the code defines it."""

import re

from pulse import metrics
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
ALERTS = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
DASHBOARD = (ROOT / "deploy" / "grafana" / "dashboard.json").read_text(encoding="utf-8")
TYPED_ROW = re.compile(r"^\| `pulse_\w+` \| (?:counter|gauge|histogram) .*$", re.MULTILINE)
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def row(metric: metrics.MetricDescription) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |"


def test_each_metric_is_in_the_table_of_its_kind() -> None:
    process, database = PAGE.split("\n## Gauges of the whole database\n")
    for table, of_database in ((process, False), (database, True)):
        rows = [row(m) for m in metrics.EVERY_METRIC if m.of_database is of_database]
        assert TYPED_ROW.findall(table) == rows


def test_the_buckets_are_stated() -> None:
    for buckets in (
        metrics.REQUEST_BUCKETS,
        metrics.FLUSH_BUCKETS,
        metrics.BATCH_BUCKETS,
        metrics.LATENESS_BUCKETS,
    ):
        assert ", ".join(f"{bound:g}" for bound in buckets) in PAGE


def test_alerts_and_dashboard_use_only_metrics_that_exist() -> None:
    known = {metric.name for metric in metrics.EVERY_METRIC}
    for text in (ALERTS, DASHBOARD):
        used = {SUFFIX.sub("", name) for name in re.findall(r"\bpulse_\w+", text)}
        assert used
        assert used <= known


def test_labels_never_name_an_order_a_key_or_a_caller() -> None:
    labels = {label for metric in metrics.EVERY_METRIC for label in metric.labels}
    assert labels == {
        *("method", "route", "status", "type", "reason", "state", "worker", "code"),
        *("needs_person", "version", "commit", "server"),
    }
