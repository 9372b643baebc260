"""Helm, and the files of Go modules: fetched from the Go module proxy once, where Go is."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.support.cache import cache_root
from tests.support.tools import unavailable

_HELM: Final = "v3.19.4"
_KEDA: Final = "github.com/kedacore/keda/v2@v2.21.0"
_PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
FETCH_SECS: Final = 900.0
"""Longest time for a module and its dependencies to arrive and be compiled: Helm takes 2 min on two idle processors."""


@functools.cache
def helm() -> str:
    """The path of Helm: the installed one, else one that is compiled once for all clones on the machine."""
    found = shutil.which("helm")
    if found is not None:
        return found
    target = cache_root() / f"helm-{_HELM}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "helm.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes that test, one compiles and the others wait
        if not target.exists():
            with tempfile.TemporaryDirectory(prefix="helm-", dir=target.parent) as folder:
                _go("install", f"helm.sh/helm/v3/cmd/helm@{_HELM}", GOBIN=folder)
                (Path(folder) / "helm").rename(target)
    return str(target)


@functools.cache
def keda() -> Path:
    """The folder of KEDA's module."""
    return _module(_KEDA)


@functools.cache
def prometheus_operator() -> Path:
    """The folder of the Prometheus operator's module."""
    return _module(_PROMETHEUS_OPERATOR)


def _module(name: str) -> Path:
    return Path(json.loads(_go("mod", "download", "-json", name))["Dir"])


def _go(*words: str, **variables: str) -> str:
    """Run Go behind everything else: the other tests go on meanwhile."""
    go = shutil.which("go")
    if go is None:
        unavailable("neither helm nor go is installed")
    env = os.environ | {"GOFLAGS": ""} | variables
    try:
        done = subprocess.run(
            ["nice", "-n", "10", go, *words],
            cwd=tempfile.gettempdir(), env=env, capture_output=True, text=True, timeout=FETCH_SECS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        unavailable(f"go {' '.join(words)} did not end within {FETCH_SECS:.0f} s")
    if done.returncode != 0:
        unavailable(f"go {' '.join(words)} failed: {(done.stdout + done.stderr)[-1000:]}")
    return done.stdout
