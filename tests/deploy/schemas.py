"""Objects of Kubernetes held against the schemas of its API and of the CRDs they belong to."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

from tests.support.go_modules import keda, prometheus_operator
from tests.support.tools import needed_tool

KEDA: Final = frozenset({"ScaledObject", "TriggerAuthentication"})
PROMETHEUS_OPERATOR: Final = frozenset({"ServiceMonitor", "PrometheusRule"})
CUSTOM: Final = KEDA | PROMETHEUS_OPERATOR
"""The kinds that a cluster has by a CRD only."""
OLDEST, NEWEST = "1.25", "1.37"
"""The oldest Kubernetes that the chart names, and the newest whose schemas are at hand."""


def distinct(things: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each object once."""
    return list({json.dumps(thing, sort_keys=True): thing for thing in things}.values())


def check_kubernetes(things: Iterable[dict[str, Any]], folder: Path) -> None:
    """Fail for an object of the API itself that does not fit its schema, or has a field that the schema lacks."""
    own = [thing for thing in distinct(things) if thing["kind"] not in CUSTOM]
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump_all(own))
    tool = needed_tool("kubernetes-validate", "make setup")
    for version in (OLDEST, NEWEST):
        done = subprocess.run(
            [tool, "--strict", "--kubernetes-version", version, file], capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert said.count(" passed for resource ") == len(own), said


def check_custom(things: Iterable[dict[str, Any]]) -> set[str]:
    """Fail for an object of a CRD that does not fit it; the kinds that were checked."""
    checked = set()
    for thing in distinct(thing for thing in things if thing["kind"] in CUSTOM):
        jsonschema.Draft4Validator(_schema(thing["kind"], thing["apiVersion"])).validate(thing)
        checked.add(thing["kind"])
    return checked


@functools.cache
def _schema(kind: str, api_version: str) -> dict[str, Any]:
    group, version = api_version.split("/")
    folder = keda() / "config/crd/bases" if kind in KEDA else prometheus_operator() / "example/prometheus-operator-crd"
    crd = yaml.load((folder / f"{group}_{kind.lower()}s.yaml").read_text(), Loader=yaml.CSafeLoader)
    (found,) = (each for each in crd["spec"]["versions"] if each["name"] == version)
    closed: dict[str, Any] = _closed(found["schema"]["openAPIV3Schema"])
    return closed


def _closed(schema: Any) -> Any:
    """The schema without room for unknown fields, which the API server would drop in silence."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    known = schema.get("type") == "object" and "properties" in schema
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return {key: _closed(value) for key, value in schema.items()} | (
        {"additionalProperties": False} if known and not is_open else {}
    )
