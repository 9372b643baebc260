"""A checkout of the product whose worker a benchmark runs, and the Python that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""This checkout."""
_ASK: Final = """
import json, platform, sys, sysconfig
import pushrail_stream
options = sysconfig.get_config_var("CONFIG_ARGS") or ""
kinds = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}
made = ", ".join(kind if option in options else f"no {kind}" for kind, option in kinds.items())
print(json.dumps({
    "package": pushrail_stream.__file__,
    "build": f"{platform.python_implementation()} {sys.version} ({made})",
}))
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A directory that holds ``pushrail_stream``."""

    path: Path
    python: str
    """The interpreter."""
    build: str
    """The interpreter's name, version and build. Without optimization by profile (PGO) or at linking (LTO), a worker
    costs 7 to 16 % more."""
    topics: frozenset[str]
    """Keys of the settings' section ``topics``: another checkout may know fewer."""


def environment_of(path: Path) -> dict[str, str]:
    """Our environment, with the checkout's package before every installed one."""
    return os.environ | {"PYTHONPATH": str(path)}


def open_checkout(path: Path = ROOT) -> Checkout:
    """Find the checkout's interpreter: its own virtual environment's, or else ours. Exits when no worker can start."""
    path = path.resolve()
    own = path / ".venv" / "bin" / "python"
    python = str(own) if path != ROOT and own.exists() else sys.executable
    if not (path / "pushrail_stream" / "__init__.py").exists():
        sys.exit(f"error: {path} is no checkout: it holds no pushrail_stream/__init__.py")
    found = json.loads(_ask(path, [python, "-c", _ASK]))
    if Path(found["package"]).parent != path / "pushrail_stream":
        sys.exit(f"error: {python} imports {found['package']} instead of the package in {path}")
    with tempfile.NamedTemporaryFile(suffix=".yaml") as empty:
        command = [python, "-m", "pushrail_stream", "config", "show", "--json", "--config", empty.name]
        shown: dict[str, Any] = json.loads(_ask(path, command))
    return Checkout(path, python, " ".join(found["build"].split()), frozenset(shown["topics"]))


def _ask(path: Path, command: list[str]) -> str:
    """Run a short command in the checkout; its standard output."""
    done = subprocess.run(command, cwd=path, env=environment_of(path), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
