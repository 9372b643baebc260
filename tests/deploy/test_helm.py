"""The chart: Helm accepts it, what it renders fits Kubernetes, CRDs and the product, and so does kustomize's base."""

from __future__ import annotations

import functools
import json
import re
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import load_settings
from tests.deploy.manifests import CHART, DEPLOY, helm_run, manifests, rendered
from tests.deploy.schemas import CUSTOM, OLDEST, check_custom, check_kubernetes
from tests.deploy.test_images import setting_names
from tests.deploy.test_monitoring import documented, selected
from tests.support.go_modules import FETCH_SECS, keda

# The first of these tests may have to compile Helm.
pytestmark = pytest.mark.timeout(FETCH_SECS + 60)

VALUES: Final = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").iterdir())}
RULES: Final = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
ALWAYS: Final = {"ConfigMap", "Service", "Deployment"}
USUAL: Final = ALWAYS | {"ServiceAccount", "PodDisruptionBudget", "NetworkPolicy", "Job"}
KINDS: Final = {
    "minimal": USUAL,
    "bare": ALWAYS,
    "ingest": USUAL | {"HorizontalPodAutoscaler"},
    "hpa": USUAL | {"HorizontalPodAutoscaler"},
    "keda": USUAL | {"ScaledObject", "TriggerAuthentication"},
    "keda-to-zero": USUAL | {"ScaledObject"},
    "static-members": USUAL - {"Deployment"} | {"StatefulSet"},
    "static-members-keda": USUAL - {"Deployment"} | {"StatefulSet", "ScaledObject", "ServiceMonitor", "PrometheusRule"},
    "monitoring": USUAL | {"HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule"},
    "eks": USUAL,
    "everything": USUAL | {"HorizontalPodAutoscaler"},
}


@functools.cache
def objects(name: str) -> list[dict[str, Any]]:
    return rendered(VALUES[name])


def of_kind(name: str, kind: str) -> dict[str, dict[str, Any]]:
    return {thing["metadata"]["name"]: thing for thing in objects(name) if thing["kind"] == kind}


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each program with the spec of its pod."""
    for thing in objects(name):
        if thing["kind"] in {"Deployment", "StatefulSet", "Job"}:
            pod = thing["spec"]["template"]
            yield pod["metadata"]["labels"]["app.kubernetes.io/component"], pod["spec"]


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


@pytest.mark.parametrize("name", VALUES)
def test_lint_accepts_every_set_of_values(name: str) -> None:
    done = helm_run("lint", "--strict", CHART, "--values", VALUES[name])
    assert done.returncode == 0, done.stdout


def test_every_object_fits_its_schema(tmp_path: Path) -> None:
    things = [thing for name in VALUES for thing in objects(name)]
    check_kubernetes(things, tmp_path)
    assert check_custom(things) == CUSTOM


def test_a_misspelt_field_does_not_fit_its_crd() -> None:
    (scaled,) = of_kind("keda", "ScaledObject").values()
    with pytest.raises(jsonschema.ValidationError, match="failureTreshold"):
        check_custom([scaled | {"spec": scaled["spec"] | {"fallback": {"failureTreshold": 3, "replicas": 2}}}])


def test_options_alone_bring_custom_kinds() -> None:
    assert {name: {thing["kind"] for thing in objects(name)} for name in VALUES} == KINDS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("settings.kafka.bootstrap_servers=", "bootstrap_servers"),
        ("image.repository=", "repository"),
        ("workers.replicas=3", "workers"),
        ("worker.replica=3", "replica"),
        ("worker.kind=DaemonSet", "kind"),
        ("worker.autoscaling.type=lag", "type"),
        ("worker.autoscaling.type=hpa,worker.autoscaling.minReplicas=0", "HorizontalPodAutoscaler needs at least 1"),
        ("worker.autoscaling.type=keda,worker.autoscaling.minReplicas=0", "does not count the backlogs"),
        ("keda.fallbackReplicas=0", "fallbackReplicas"),
        ("image.digest=0123", "digest"),
        ("secrets.keyring.key=1", "keyring"),
    ],
)
def test_wrong_values_are_refused(change: str, says: str) -> None:
    values = ("--values", VALUES["minimal"], "--set", change)
    done = helm_run("template", CHART, "--kube-version", OLDEST, *values)
    assert done.returncode != 0
    assert says in done.stderr


def test_every_value_is_described_and_has_a_default() -> None:
    definitions = schema()["$defs"]

    def check(properties: dict[str, Any], defaults: dict[str, Any], path: str) -> None:
        assert properties.keys() - {"global"} == defaults.keys(), path
        for key, value in properties.items():
            whole = definitions.get(value.get("$ref", "").rpartition("/")[2], {}) | value
            assert whole["description"].endswith("."), path + key
            # The settings file has a schema of its own, and authenticationRef may be empty.
            if "properties" in whole and key not in {"settings", "authenticationRef"}:
                check(whole["properties"], defaults[key], f"{path}{key}.")

    check(schema()["properties"], yaml.safe_load((CHART / "values.yaml").read_text()), "")


@pytest.mark.parametrize("name", VALUES)
def test_settings_fit_product_and_pods(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in setting_names():
        monkeypatch.delenv(variable, raising=False)
    (chart,) = (thing for thing in of_kind(name, "ConfigMap").values() if "pushrail.yaml" in thing["data"])
    (tmp_path / "pushrail.yaml").write_text(chart["data"]["pushrail.yaml"])
    settings = load_settings(tmp_path / "pushrail.yaml")
    assert settings.http.host == settings.ingest.host == "0.0.0.0"
    for program, spec in pods(name):
        (container,) = spec["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == {volume["name"] for volume in spec["volumes"]}
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        opened = {"worker": {"ops": settings.http.port}, "topics": {}}
        opened["ingest"] = {"ops": settings.http.port, "events": settings.ingest.port}
        assert ports == opened[program]
        if program == "ingest":
            assert str(settings.ingest.keys_file.parent) in mounts
        if program == "worker" and (keyring := settings.secrets.keyring) is not None:
            assert str(Path(keyring).parent) in mounts or keyring.startswith("aws-kms:")
        if program == "worker":
            half = int(settings.kafka.client.reveal()["receive.message.max.bytes"])
            assert container["resources"]["limits"]["memory"] == f"{2 * half // 2**20}Mi"
        accounts = of_kind(name, "ServiceAccount")
        assert spec["serviceAccountName"] in accounts or name == "bare"


def test_the_topics_job_runs_a_command_of_the_product() -> None:
    commands = {name: dict(pods(name))["topics"]["containers"][0]["args"] for name in ("minimal", "eks")}
    assert commands == {
        "minimal": ["topics", "create", "--partitions", "24"],
        "eks": ["topics", "create", "--partitions", "48", "--replication", "3"],
    }
    (first,) = of_kind("minimal", "Job")
    assert {first} != of_kind("eks", "Job").keys(), "a changed Job has another name"


def test_static_members_are_named_by_their_pods() -> None:
    (worker,) = of_kind("static-members", "StatefulSet").values()
    assert worker["spec"]["serviceName"] in of_kind("static-members", "Service")
    variables = {each["name"]: each for each in worker["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert variables["PUSHRAIL_KAFKA__GROUP_INSTANCE_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert variables.keys() <= setting_names()
    (scaled,) = of_kind("static-members-keda", "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "deliveries-worker",
    }  # fmt: skip


def test_keda_counts_all_that_waits() -> None:
    """The events, every retry topic and the backlogs; and no answer is not taken for an empty backlog."""
    (scaled,) = of_kind("keda", "ScaledObject").values()
    settings = Settings()
    lags = {each["metadata"]["topic"]: each["metadata"]["consumerGroup"] for each in scaled["spec"]["triggers"]}
    group = settings.kafka.group_id
    assert lags == {settings.topics.events: group} | dict.fromkeys(settings.topics.retry, f"{group}.retry")
    (to_zero,) = of_kind("keda-to-zero", "ScaledObject").values()
    *topics, backlogs = (each["metadata"] for each in to_zero["spec"]["triggers"])
    assert [(each["consumerGroup"], each["topic"]) for each in topics] == [
        ("deliveries", "orders"), ("deliveries.retry", "orders.retry.1h"), ("deliveries.retry", "orders.retry.1m"),
    ]  # fmt: skip
    assert topics[0]["lagThreshold"] == "2000000", "no number in scientific notation"
    assert backlogs["ignoreNullValues"] == "false"
    for query in (
        backlogs["query"],
        yaml.safe_load((CHART / "values.yaml").read_text())["keda"]["prometheus"]["query"],
    ):
        assert [series for series, _ in selected(query) if series in documented()]
        assert " or " not in query
    assert to_zero["spec"]["fallback"]["replicas"] > 0, (
        "KEDA takes 0 for none, and scales to zero when it knows nothing"
    )


def test_keda_knows_the_metadata_of_each_trigger() -> None:
    for name in ("keda", "keda-to-zero"):
        (scaled,) = of_kind(name, "ScaledObject").values()
        for trigger in scaled["spec"]["triggers"]:
            source = (keda() / "pkg" / "scalers" / f"{trigger['type']}_scaler.go").read_text()
            known = set(re.findall(r'keda:"name=(\w+),', source)) | {"authModes"}
            assert trigger["metadata"].keys() <= known


def test_rules_and_dashboard_are_the_ones_of_deploy(tmp_path: Path) -> None:
    done = helm_run("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as package:
        files = {member.name.removeprefix("pushrail-stream/"): member for member in package.getmembers()}
        for inside, outside in (("rules.yaml", "prometheus/rules.yaml"), ("dashboard.json", "grafana/dashboard.json")):
            found = package.extractfile(files[f"files/{inside}"])
            assert found is not None
            assert found.read() == (DEPLOY / outside).read_bytes()
    assert not [name for name in files if name.startswith("ci/")]
    dashboards = [
        thing["data"] for thing in of_kind("monitoring", "ConfigMap").values() if "pushrail.yaml" not in thing["data"]
    ]
    assert [json.loads(each["pushrail-stream.json"]) for each in dashboards] == [
        json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    ]
    (rule,) = of_kind("monitoring", "PrometheusRule").values()
    elsewhere = json.dumps(RULES).replace("deploy/RUNBOOK.md#", "https://wiki.example.com/pushrail#")
    assert rule["spec"]["groups"] == json.loads(elsewhere) != RULES
    (without,) = of_kind("static-members-keda", "PrometheusRule").values()
    assert without["spec"]["groups"] == [group for group in RULES if "pushrail_ingest" not in str(group)]


def test_alerts_and_monitors_agree_on_jobs() -> None:
    (down,) = (rule for group in RULES for rule in group["rules"] if rule.get("alert") == "PushrailWorkerDown")
    pattern = re.fullmatch(r'up\{job=~"(.+)"\} == 0', down["expr"])
    assert pattern is not None
    for name in ("monitoring", "static-members-keda"):
        for monitor in of_kind(name, "ServiceMonitor").values():
            (endpoint,) = monitor["spec"]["endpoints"]
            (job,) = endpoint["relabelings"]
            assert job["targetLabel"] == "job"
            assert re.fullmatch(pattern[1], job["replacement"])


def test_policies_open_metadata_services_on_request_alone() -> None:
    def addresses(name: str) -> set[str]:
        return set(re.findall(r"169\.254\.\d+\.\d+/32|fd00:ec2::\d+/128", str(of_kind(name, "NetworkPolicy"))))

    assert addresses("eks") == {
        "169.254.170.23/32", "fd00:ec2::23/128", "169.254.169.254/32", "fd00:ec2::254/128",
    }  # fmt: skip
    assert addresses("everything") == set()


def test_no_secret_is_rendered() -> None:
    assert not [thing for name in VALUES for thing in objects(name) if thing["kind"] == "Secret"]


def test_the_chart_has_the_version_of_the_product() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]
    assert OLDEST in chart["kubeVersion"]


def test_kustomize_has_what_the_chart_renders() -> None:
    for path, text in manifests().items():
        assert path.read_text() == text, "run: make manifests"
