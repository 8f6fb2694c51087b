"""Expressions of PromQL: the names in them, and promtool, which evaluates them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.processes import ROOT

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "alerts.yaml"
UNIT_TESTS = MONITORING / "alerts_test.yaml"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
FUNCTIONS = frozenset(
    {"absent_over_time", "and", "by", "changes", "count", "histogram_quantile", "increase"}
    | {"last_over_time", "max", "max_over_time", "on", "or", "rate", "sum", "time", "unless"}
)

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def rules() -> list[dict[str, Any]]:
    """Return all rules, of whichever group."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Return the rules that tell somebody, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    """Return the names of recorded series."""
    return {rule["record"] for rule in rules() if "record" in rule}


def panels(dashboard: Path) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, rows included."""
    found: list[dict[str, Any]] = json.loads(dashboard.read_text(encoding="utf-8"))["panels"]
    return found


def queries() -> list[tuple[str, str]]:
    """Return the title of a panel and an expression in it, for each."""
    return [
        (panel["title"], target["expr"])
        for dashboard in DASHBOARDS
        for panel in panels(dashboard)
        for target in panel.get("targets", [])
    ]


def expressions() -> list[str]:
    """Return the expressions of rules and panels."""
    return [rule["expr"] for rule in rules()] + [expression for _, expression in queries()]


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    without_texts = re.sub(r'"[^"]*"', '""', expression)  # braces may be in a pattern
    without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", "", without_texts)
    without_groups = re.sub(r"\b(by|on|without)\s*\([^)]*\)", "", without_labels)
    return set(re.findall(r"[a-z_][a-z0-9_:]*", without_groups)) - FUNCTIONS


def labels_in(expression: str) -> set[str]:
    """Return the labels that an expression selects or groups by."""
    selected = re.findall(r"[{,]\s*(\w+)\s*[=!]", expression)
    groups = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
    return {*selected, *re.findall(r"\w+", " ".join(groups))}


def without_a_job(expression: str) -> list[str]:
    """Return the metrics that an expression reads from any job."""
    return [
        name
        for name in metrics_in(expression)
        if re.search(rf"(?<![\w:]){name}(?![\w:])(?!\{{[^}}]*\bjob=)", expression)
    ]


def promtool(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def failures(tests: list[dict[str, Any]], folder: Path) -> str:
    """Run unit tests in the form of monitoring/alerts_test.yaml; return its words, or nothing."""
    shutil.copy(RULES, folder)
    file = folder / "test.yaml"
    document = {"rule_files": [RULES.name], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    result = promtool("test", "rules", file)
    return result.stdout + result.stderr if result.returncode else ""
