"""The wheel as others install it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.patience import PATIENCE_SECS

ROOT = Path(__file__).parents[1]


def test_the_wheel_is_typed_has_its_data_and_runs_the_sandbox(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {
        "pushrail_stream/py.typed",
        "pushrail_stream/__main__.py",
        "pushrail_stream/events/asyncapi.json",
        "pushrail_stream/events/event.schema.json",
        "pushrail_stream/ingest/openapi.yaml",
        "pushrail_stream/observe/pages.css",
        "pushrail_stream/operations/templates/main.tf",
    } <= names
    done = subprocess.run(
        [sys.executable, "-m", "pushrail_stream", "sandbox", "--events", "50"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Everything adds up." in done.stdout
