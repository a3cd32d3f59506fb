"""The files for Prometheus and Grafana: what they name, ``cellkeeper metrics`` tells, and the other
way round.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cli.watch.collector import METRICS, PREFIX

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "cellkeeper.rules.yml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "cellkeeper.json"
DOCS: Final = ROOT / "docs" / "monitoring.md"
NAMED: Final = re.compile(rf"\b{PREFIX}[a-z0-9_]+")
TOLD: Final = {PREFIX + name for name in METRICS}


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def expressions() -> list[str]:
    """All expressions of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_that_there_are(rule: dict[str, Any]) -> None:
    named = set(NAMED.findall(rule["expr"]))
    assert named
    assert named <= TOLD
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}


def test_the_dashboard_shows_each_metric_and_no_other() -> None:
    assert set(NAMED.findall("\n".join(expressions()))) == TOLD


def test_the_labels_in_expressions_are_those_of_the_metrics() -> None:
    for expression in [*expressions(), *(rule["expr"] for rule in rules())]:
        for name, selector in re.findall(rf"{PREFIX}([a-z0-9_]+)\{{([^}}]*)\}}", expression):
            assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= set(METRICS[name][1]), expression


def test_each_metric_and_each_alert_is_documented() -> None:
    text = DOCS.read_text()
    assert {name for name in TOLD if f"`{name}`" not in text} == set()
    assert {rule["alert"] for rule in rules() if rule["alert"] not in text} == set()


PLACES: Final = (
    "deploy/systemd/cellkeeper-metrics.service",
    "docker-compose.yml",
    "docs/monitoring.md",
    "docs/install.md",
)
PORT: Final = re.compile(
    r"(?:127\.0\.0\.1|0\.0\.0\.0|metrics)(?: is)?:(\d{4,5})|metrics for Prometheus are on port (\d+)"
)


def test_the_metrics_have_one_port_which_no_exporter_has() -> None:
    """Exporters stand between 9100 and 9999 and share controllers with this one; openstack-exporter
    has 9180.
    """
    ports = {
        place: {a or b for a, b in PORT.findall((ROOT / place).read_text())} - {"5555"}
        for place in PLACES
    }
    assert set(map(tuple, ports.values())) == {("18774",)}
