"""Workers as processes, started by their command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from pushrail_stream.registry.documents import to_document
from pushrail_stream.settings.model import Settings
from tests.support.builders import SECRET, with_access_key

WORKERS = {"pushrail-stream-1", "pushrail-stream-2"}


REFUSED = 2


FAILED = 1


def write_world(folder: Path, settings: Settings, customers: int) -> Path:
    documents = folder / "destinations"
    documents.mkdir()
    for number in range(customers):
        document = to_document(with_access_key(number))
        document["auth"]["secretAccessKey"] = "env:CUSTOMER_SECRET"
        (documents / f"{number}.json").write_text(json.dumps(document))
    path = folder / "pushrail.yaml"
    values = settings.model_dump(mode="json") | {"registry": {"path": str(documents), "topic": False}}
    path.write_text(yaml.safe_dump(values))
    return path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pushrail_stream", *words]


def call(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=60, env=os.environ | (environment or {}), check=False
    )


@asynccontextmanager
async def worker(path: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command("run", "--config", str(path), *options),
        env=os.environ | {"CUSTOMER_SECRET": SECRET},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
