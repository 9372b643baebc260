"""The lock of `make sandbox`: it agrees with the development lock, and its libraries are enough."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAST = """
import importlib, pkgutil, sys
from importlib.metadata import packages_distributions

allowed = set(sys.argv[1:])
for package, owners in packages_distributions().items():
    if not allowed & {owner.lower().replace("_", "-").replace(".", "-") for owner in owners}:
        sys.modules.setdefault(package, None)
import pushrail_stream.cli.sandbox, pushrail_stream.sandbox
for module in pkgutil.walk_packages(pushrail_stream.sandbox.__path__, "pushrail_stream.sandbox."):
    importlib.import_module(module.name)
try:
    import moto
except ImportError:
    print("imported without moto")
"""


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "deploy" / name).read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE))


def test_both_locks_have_the_same_versions() -> None:
    everything = pins("requirements-dev.lock")
    sandbox = pins("requirements-sandbox.lock")
    assert len(sandbox) < len(everything) / 2
    assert {name: everything.get(name) for name in sandbox} == sandbox


def test_the_sandbox_imports_nothing_else() -> None:
    libraries = [*pins("requirements-sandbox.lock"), "pushrail-stream", "pip", "setuptools"]
    done = subprocess.run(
        [sys.executable, "-c", LEAST, *libraries], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported without moto\n"
