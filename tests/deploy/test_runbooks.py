"""Runbooks speak of alerts, panels, log lines and metrics that are there."""

from __future__ import annotations

import re

import pytest

from tests.support.processes import ROOT
from tests.support.promql import (
    DASHBOARDS,
    alerts,
    metrics_in,
    needs_promtool,
    panels,
    promtool,
)

PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PRODUCT = [ROOT / "bootstrap.py", ROOT / "workers.py", ROOT / "gunicorn.conf.py"]
PRODUCT += [*(ROOT / "chassis").rglob("*.py"), *(ROOT / "userservice").rglob("*.py")]
OF_OTHERS = {
    "Fatal Python error: Aborted": "the interpreter's own",
    "A leaked `JWT_SECRET`": "a row of docs/operations.md",
    # The mailer says which step was refused.
    "refused the log-in": "the mail server refused the {step}",
    "refused the sender": "the mail server refused the {step}",
}
METRIC = re.compile(r"^(?:sum |[a-z_]+(?:_total|_seconds|_bytes|_messages)\b)")


def words(page):
    return re.sub(r"\s*\n\s*", " ", page.read_text(encoding="utf-8"))


def quotations(page):
    """Return the words that a page sets in italics."""
    without_code = re.sub(r"`[^`]*\*[^`]*`", "", words(page))
    return re.findall(r"(?<![*\w])\*([^*]+)\*(?!\*)", without_code)


def known():
    titles = {panel["title"] for file in DASHBOARDS for panel in panels(file)}
    pages = {page.stem for page in PAGES}
    return titles | set(alerts()) | pages | OF_OTHERS.keys() | {"User service"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_quotes_alerts_panels_and_log_lines_that_are_there(page):
    code = "\n".join(file.read_text(encoding="utf-8") for file in PRODUCT)

    assert [each for each in quotations(page) if each not in known() and each not in code] == []


def expressions():
    found = {text for page in PAGES for text in re.findall(r"`([^`]+)`", words(page))}
    return sorted(text for text in found if METRIC.match(text))


def test_metrics_of_runbooks_are_documented():
    telemetry = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")

    named = set().union(*map(metrics_in, expressions()))

    assert len(named) > 2
    assert {name for name in named if f"`{name}`" not in telemetry} == set()


@needs_promtool
def test_promtool_reads_the_expressions_of_runbooks(tmp_path):
    rules = [{"record": f"a:b{number}", "expr": text} for number, text in enumerate(expressions())]
    file = tmp_path / "rules.yaml"
    file.write_text(str({"groups": [{"name": "a", "rules": rules}]}), encoding="utf-8")

    result = promtool("check", "rules", file)

    assert result.returncode == 0, result.stdout + result.stderr
