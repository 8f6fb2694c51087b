"""compose.yaml is well-formed, and speaks of what exists."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from config import AppConfig
from tests.support.manifests import OUR_IMAGE, ROOT

FILES = ROOT / "monitoring" / "compose"


@pytest.fixture(scope="module")
def compose():
    """The file as a program would read it."""
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_the_file_follows_its_schema():
    schema = "vendor.compose-spec"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, "compose.yaml"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


def ours(compose):
    return [each for each in compose["services"].values() if OUR_IMAGE in each["image"]]


def test_every_variable_is_one_that_the_code_reads(compose):
    known = {each.name.upper() for each in fields(AppConfig)}

    for service in ours(compose):
        unknown = {each for each in service["environment"] if each not in known}
        assert {each for each in unknown if not each.startswith("OTEL_")} == set()
        AppConfig.from_env(service["environment"])


def test_who_is_waited_for_and_what_is_mounted_exists(compose):
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for mount in service.get("volumes", []):
            source = mount.split(":")[0].removeprefix("./")
            exists = source in compose["volumes"] or (ROOT / source).exists()
            assert exists, source


def test_every_url_names_a_service(compose):
    text = yaml.safe_dump([each["environment"] for each in ours(compose)])
    text += "".join(file.read_text(encoding="utf-8") for file in FILES.glob("*.yaml"))

    for name in (
        *("postgresql:5432", "redis:6379", "mail:1025", "collector:4318"),
        *("traces:4317", "alertmanager:9093"),
    ):
        assert name in text
        assert name.split(":")[0] in compose["services"]
    for name in ("web:8080", "worker:9090", "prometheus:9090"):
        assert name in text


def test_one_service_builds_the_image_and_the_others_wait_for_it(compose):
    services = compose["services"]
    names = [name for name, each in services.items() if OUR_IMAGE in each["image"]]

    builders = [name for name in names if "build" in services[name]]

    assert builders == ["migrate"]
    assert all("migrate" in services[each]["depends_on"] for each in names if each != "migrate")
    assert {services[each]["pull_policy"] for each in names} == {"never"}


def test_mounted_files_can_be_read_where_selinux_is_on(compose):
    mounted = [
        each
        for service in compose["services"].values()
        for each in service.get("volumes", [])
        if each.startswith("./")
    ]

    assert len(mounted) > 5
    assert [each for each in mounted if not each.endswith(":ro,z")] == []


def test_each_address_of_the_first_comment_is_published(compose):
    comment = (ROOT / "compose.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    published = {
        port.split(":")[1]
        for each in compose["services"].values()
        for port in each.get("ports", [])
    }

    told = {each.partition("/")[0].split()[0] for each in comment.split("http://localhost:")[1:]}

    assert told == published


def test_ports_are_open_on_this_machine_alone(compose):
    ports = [port for each in compose["services"].values() for port in each.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_image_has_a_version(compose):
    images = [each["image"] for each in compose["services"].values()]

    assert [each for each in images if ":" not in each or each.endswith(":latest")] == []


def mounts(compose, service):
    """Return path in the container -> file or folder of this project."""
    pairs = (each.split(":")[:2] for each in compose["services"][service]["volumes"])
    return {target: ROOT / source for source, target in pairs}


def test_the_ports_of_the_worker_agree(compose):
    port = compose["services"]["worker"]["environment"]["WORKER_METRICS_PORT"]
    scrapes = yaml.safe_load((FILES / "prometheus.yaml").read_text(encoding="utf-8"))

    targets = [each["static_configs"][0]["targets"] for each in scrapes["scrape_configs"]]
    assert [f"worker:{port}"] in targets
    assert "healthcheck" not in compose["services"]["worker"]  # the image's own asks that port


def test_grafana_finds_dashboards_where_they_are_mounted(compose):
    found = mounts(compose, "grafana")
    (provider,) = yaml.safe_load(
        found["/etc/grafana/provisioning/dashboards/files.yaml"].read_text(encoding="utf-8")
    )["providers"]

    assert list(found[provider["options"]["path"]].glob("*.json")) != []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_what_is_mounted(compose, tmp_path):
    for target, source in mounts(compose, "prometheus").items():
        file = tmp_path / target.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, file)

    command = ["promtool", "check", "config", tmp_path / "etc" / "prometheus" / "prometheus.yml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert "rules found" in result.stdout
