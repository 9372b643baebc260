"""The core and the pipeline name nothing that belongs to one kind of bus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pushrail_stream

PACKAGE = Path(pushrail_stream.__file__).parent
NEUTRAL = [*PACKAGE.glob("core/*.py"), *PACKAGE.glob("pipeline/*.py"), PACKAGE / "ports" / "pipeline.py"]
EVENTBRIDGES_OWN = re.compile(
    r"put_?events|event_?bridge|describe_?event_?bus|assume_?role|bus_?arn|\baws\b|x_?-?ray", re.IGNORECASE
)


@pytest.mark.parametrize("path", NEUTRAL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_core_and_pipeline_know_no_eventbridge(path: Path) -> None:
    assert EVENTBRIDGES_OWN.findall(path.read_text(encoding="utf-8")) == []
