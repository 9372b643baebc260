"""Render the kustomize base and its components from the Helm chart: ``make manifests``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.go_modules import helm

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
CHART: Final = DEPLOY / "helm" / "pushrail-stream"
KUBERNETES: Final = DEPLOY / "kubernetes"
_HEAD: Final = """\
# Rendered from the Helm chart by `make manifests`: change the chart or deploy/kubernetes/values.yaml, and run it again.
"""


def helm_run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm on files alone: it asks no cluster."""
    return subprocess.run([helm(), *words], capture_output=True, text=True, check=False)


def rendered(values: Path, *options: str) -> list[dict[str, Any]]:
    """The chart's objects for the values, as a release called pushrail."""
    done = helm_run("template", "pushrail", CHART, "--values", values, "--kube-version", "1.34", *options)
    assert done.returncode == 0, done.stderr
    return [thing for thing in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if thing is not None]


def manifests() -> dict[Path, str]:
    """Every rendered file and its text."""
    base = [thing for thing in rendered(KUBERNETES / "values.yaml") if thing["kind"] != "ConfigMap"]
    for thing in base:
        if thing["kind"] == "Deployment":
            # Here kustomize gives the settings a name of their own for each content.
            del thing["spec"]["template"]["metadata"]["annotations"]
    (settings,) = _only("templates/settings.yaml")
    scaled = _only("templates/keda.yaml", "--set", "worker.autoscaling.type=keda")
    monitored = _only("templates/monitoring.yaml", "--set", "monitoring.serviceMonitors=true")
    return {
        KUBERNETES / "base" / "pushrail.yaml": _HEAD + settings["data"]["pushrail.yaml"],
        KUBERNETES / "base" / "objects.yaml": _text(base),
        KUBERNETES / "components" / "keda" / "scaled-object.yaml": _text(scaled),
        KUBERNETES / "components" / "monitoring" / "service-monitors.yaml": _text(monitored),
    }


def _only(template: str, *options: str) -> Sequence[dict[str, Any]]:
    return rendered(KUBERNETES / "values.yaml", "--show-only", template, *options)


def _text(things: Iterable[dict[str, Any]]) -> str:
    return _HEAD + yaml.safe_dump_all(things, sort_keys=False, width=120)


if __name__ == "__main__":
    for path, text in manifests().items():
        path.write_text(text)
