"""What `deploy/` asks Prometheus for is what the server answers with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.flows.page.pages import Site, mirror, serving, write_profile
from tests.support_misbehaving import Misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy/prometheus/mirrorflow.rules.yaml"
RULE_TESTS = ROOT / "deploy/prometheus/mirrorflow.tests.yaml"
DASHBOARD = ROOT / "deploy/grafana/mirrorflow.json"
# Series that a server has once gc or a scrub has run.
AFTER_MAINTENANCE = {"mirrorflow_scrub_last_corrupt"}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    with Misbehaving() as upstream:
        upstream.add_image("app", "1")
        entry = f"name: up, urls: ['http://{upstream.host}'], content: [{{prefix: app}}]"
        profile = write_profile(tmp_path_factory.mktemp("mirror"), entry)
        mirror(profile)
    with serving(profile) as site:
        yield _series(site)


def _series(site: Site) -> set[str]:
    site.client.get("/v2/app/manifests/1")
    return set(re.findall(r"^(mirrorflow_\w+)", site.client.get("/metrics").text, re.MULTILINE))


def _alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def _named(expression: str) -> set[str]:
    return set(re.findall(r"mirrorflow_\w+", expression))


@pytest.mark.parametrize("alert", _alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_is_about_series_that_there_are(alert: dict[str, Any], series: set[str]) -> None:
    assert _named(alert["expr"]) - AFTER_MAINTENANCE <= series
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]


def test_the_dashboard_shows_series_that_there_are(series: set[str]) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) >= 10
    for expression in expressions:
        assert _named(expression) <= series, expression


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["check", "rules", str(RULES)], id="the alerts"),
        pytest.param(["test", "rules", str(RULE_TESTS)], id="when each is raised, and when not"),
    ],
)
def test_promtool_takes(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    told = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{told.stdout}{told.stderr}"


def test_each_alert_is_raised_in_a_unit_test() -> None:
    cases = [
        case for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for case in test["alert_rule_test"]
    ]
    raised = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert raised == silent == {alert["alert"] for alert in _alerts()}
