"""The manifests as kustomize builds them: they fit the API's schema, each other, and the product."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.kafka.consumer import LAST_COMMIT_SECS
from pushrail_stream.kafka.producer import FLUSH_SECS
from pushrail_stream.observe import ops_server as ops
from pushrail_stream.observe import tracing
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import load_settings
from pushrail_stream.worker import NOTICES_SECS, drain_secs
from tests.deploy.schemas import CUSTOM, check_custom, check_kubernetes
from tests.deploy.test_images import setting_names
from tests.support.go_modules import FETCH_SECS
from tests.support.tools import needed_tool

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OPERATING = ROOT / "deploy" / "OPERATING.md"


@cache
def objects(path: str = "overlays/example") -> list[dict[str, Any]]:
    tool = needed_tool("kubectl", "make setup")
    done = subprocess.run([tool, "kustomize", KUBERNETES / path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [thing for thing in objects() if thing["kind"] == kind]
    assert found, kind
    return found


def pods() -> dict[str, dict[str, Any]]:
    return {deployment["metadata"]["name"]: deployment["spec"]["template"] for deployment in of_kind("Deployment")}


def chosen(labels: dict[str, str]) -> list[str]:
    """The Deployments whose pods a selector picks."""
    return [name for name, pod in pods().items() if labels.items() <= pod["metadata"]["labels"].items()]


def test_every_object_fits_the_api_schema(tmp_path: Path) -> None:
    check_kubernetes([*objects("base"), *objects()], tmp_path)


@pytest.mark.timeout(FETCH_SECS + 60)
def test_every_custom_object_fits_its_crd() -> None:
    assert check_custom(objects()) == {"ServiceMonitor", "ScaledObject", "TriggerAuthentication"}


def test_the_base_needs_no_crd() -> None:
    assert not CUSTOM & {thing["kind"] for thing in objects("base")}


def owner(thing: dict[str, Any]) -> str:
    """The Deployment of the program that an object belongs to."""
    return f"pushrail-{thing['metadata']['labels']['app.kubernetes.io/component']}"


def test_selectors_match_their_pods() -> None:
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        for thing in of_kind(kind):
            selector = thing["spec"].get("podSelector") or thing["spec"]["selector"]
            assert chosen(selector.get("matchLabels", selector)) == [owner(thing)], kind


def test_every_used_port_name_exists() -> None:
    ports = {name: {port["name"] for port in pod["spec"]["containers"][0]["ports"]} for name, pod in pods().items()}
    for service in of_kind("Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[owner(service)]
    for policy in of_kind("NetworkPolicy"):
        opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert opened == ports[owner(policy)]
        assert all(rule["from"] for rule in policy["spec"]["ingress"]), "from everywhere is not a rule"


def test_each_pod_is_scraped_once_and_by_no_published_service() -> None:
    for monitor in of_kind("ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        (scraped,) = (
            service["spec"]
            for service in of_kind("Service")
            if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
            and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        )
        assert (scraped["clusterIP"], chosen(scraped["selector"])) == ("None", [owner(monitor)])


def test_the_grace_period_covers_the_drain() -> None:
    settings = Settings()
    worker, ingest = (pods()[name]["spec"] for name in ("pushrail-worker", "pushrail-ingest"))
    logs = FLUSH_SECS + NOTICES_SECS  # of attempts and of notices
    others = 2 * ops.LAST_SECS + tracing.LAST_SECS + logs  # its clients, and the collector
    stop_secs = drain_secs(settings) + LAST_COMMIT_SECS + others
    assert worker["terminationGracePeriodSeconds"] >= stop_secs + 5
    said = re.search(
        r"\*\*Stopping\*\* takes at most (\d+) s.*Give the orchestrator (\d+)", OPERATING.read_text(), re.DOTALL
    )
    assert said is not None
    assert (int(said[1]), int(said[2])) == (stop_secs, worker["terminationGracePeriodSeconds"])
    wait = int(ingest["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert ingest["terminationGracePeriodSeconds"] > wait + 2 * settings.ingest.timeout_secs


@pytest.mark.parametrize("name", ["pushrail-worker", "pushrail-ingest"])
def test_pods_are_confined(name: str) -> None:
    spec = pods()[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"]["cpu"]
    assert container["resources"]["limits"]["memory"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    assert not container["image"].endswith(":latest")
    assert ":" in container["image"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    accounts = {account["metadata"]["name"]: account for account in of_kind("ServiceAccount")}
    assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False


def test_the_settings_fit_the_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in setting_names():
        monkeypatch.delenv(name, raising=False)
    settings = load_settings(KUBERNETES / "base" / "pushrail.yaml")
    mounts = {
        mount["mountPath"]
        for pod in pods().values()
        for mount in pod["spec"]["containers"][0]["volumeMounts"]
        if "subPath" not in mount
    }
    assert settings.secrets.keyring is not None
    assert {str(Path(settings.secrets.keyring).parent), str(settings.ingest.keys_file.parent)} <= mounts
    assert settings.http.host == settings.ingest.host == "0.0.0.0"
    scaled = of_kind("ScaledObject")[0]["spec"]
    trigger = scaled["triggers"][0]["metadata"]
    assert (trigger["consumerGroup"], trigger["topic"]) == (settings.kafka.group_id, settings.topics.events)
    assert scaled["scaleTargetRef"]["name"] in pods()
    assert scaled["minReplicaCount"] < scaled["maxReplicaCount"]


def test_a_batch_takes_half_the_memory_at_most() -> None:
    settings = load_settings(KUBERNETES / "base" / "pushrail.yaml")
    limit = pods()["pushrail-worker"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert limit == f"{2 * int(settings.kafka.client.reveal()['receive.message.max.bytes']) // 2**20}Mi"


def test_the_lag_scaler_uses_the_workers_listener() -> None:
    variables = pods()["pushrail-worker"]["spec"]["containers"][0]["env"]
    brokers = {variable["name"]: variable["value"] for variable in variables}["PUSHRAIL_KAFKA__BOOTSTRAP_SERVERS"]
    assert all(broker.endswith(":9096") for broker in brokers.split(",")), "SASL over TLS, by custom"
    (who,) = of_kind("TriggerAuthentication")
    for trigger in of_kind("ScaledObject")[0]["spec"]["triggers"]:
        assert trigger["metadata"]["bootstrapServers"] == brokers
        assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
        assert trigger["authenticationRef"] == {"name": who["metadata"]["name"]}
    assert {secret["parameter"] for secret in who["spec"]["secretTargetRef"]} == {"username", "password"}
    secrets = (KUBERNETES / "overlays" / "example" / "kustomization.yaml").read_text()
    assert all(f"create secret generic {secret['name']} " in secrets for secret in who["spec"]["secretTargetRef"])


def test_a_worker_may_reach_the_collector() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy")}
    egress = policies["pushrail-worker"]["egress"]
    assert [rule["to"] for rule in egress for port in rule["ports"] if port["port"] == 4318] == [
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    ]


def test_only_the_autoscaler_sets_replicas() -> None:
    replicas = {
        deployment["metadata"]["name"]: deployment["spec"].get("replicas") for deployment in of_kind("Deployment")
    }
    assert replicas == {"pushrail-worker": None, "pushrail-ingest": None}
    assert of_kind("HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"]["name"] == "pushrail-ingest"


def test_no_file_holds_a_secret() -> None:
    assert not [thing for thing in objects() if thing["kind"] == "Secret"]
