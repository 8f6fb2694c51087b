"""Examples for a cluster that hold files of monitoring/: kustomize reads no other folder."""  # noqa: INP001 - beside the documents

from __future__ import annotations

import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "k8s" / "examples"
RULES = ROOT / "monitoring" / "alerts.yaml"
DASHBOARD = ROOT / "monitoring" / "dashboards" / "user-service.json"

PROMETHEUS_RULE = """\
# The rules for the Prometheus operator. Written by make docs from monitoring/alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: cloudnative-app
  namespace: cloudnative-app
  labels:
    app.kubernetes.io/name: cloudnative-app
spec:
{groups}"""

CONFIG_MAP = """\
# The dashboard for Grafana's sidecar, which looks for the label `grafana_dashboard`; it sees other
# namespaces with `searchNamespace: ALL`. Written by make docs from monitoring/dashboards/.
# yamllint disable rule:line-length
apiVersion: v1
kind: ConfigMap
metadata:
  name: cloudnative-app-dashboard
  namespace: cloudnative-app
  labels:
    app.kubernetes.io/name: cloudnative-app
    grafana_dashboard: "1"
data:
  {name}: |
{dashboard}"""


def texts() -> dict[Path, str]:
    """Return file -> its text."""
    return {
        EXAMPLES / "prometheusrule.yaml": prometheus_rule(),
        EXAMPLES / "dashboard.yaml": config_map(),
    }


def prometheus_rule() -> str:
    """Return the rules as the operator takes them: without the words above the groups."""
    _, _, groups = RULES.read_text(encoding="utf-8").partition("\ngroups:\n")
    return PROMETHEUS_RULE.format(groups=textwrap.indent(f"groups:\n{groups}", "  "))


def config_map() -> str:
    """Return the dashboard as the value of a key that is named after its file."""
    text = DASHBOARD.read_text(encoding="utf-8")
    return CONFIG_MAP.format(name=DASHBOARD.name, dashboard=textwrap.indent(text, "    "))
