"""Settings files, and the problems that are found in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.settings.source import load_settings

SECRET = "hunter2-S3cr3t"


def file(text: str) -> Path:
    path = Path("pushrail.yaml")
    path.write_text(text, encoding="utf-8")
    return path


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        load_settings(file(text))
    return caught.value.problems
