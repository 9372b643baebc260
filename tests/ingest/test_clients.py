"""Clients that producers really use, with their defaults, in front of ingest."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.ingest_server import Door, ingest_door, members
from tests.support.patience import PATIENCE_SECS
from tests.support.tools import needed_tool

PROGRAM = Path(__file__).parents[1] / "fixtures" / "PostEvent.java"


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_SECS):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def file_with_event(folder: Path) -> Path:
    path = folder / "event.json"
    path.write_text(json.dumps(members()))
    return path


def taken(door: Door) -> list[bytes]:
    return [record.value for record in door.producer.taken]


async def test_the_java_client_posts_by_default(tmp_path: Path) -> None:
    needed_tool("javac", "apt-get install openjdk-17-jdk-headless")  # `java` compiles the file by it
    java = needed_tool("java", "apt-get install openjdk-17-jdk-headless")
    file = file_with_event(tmp_path)
    async with ingest_door(tmp_path) as door:
        out = await run(java, str(PROGRAM), f"{door.url}/v1/events", door.key, str(file))
        assert out.split() == ["202"] * 3
        assert taken(door) == [file.read_bytes()] * 3


@pytest.mark.parametrize("more", [(), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue"), ("-0",)])
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
async def test_curl_posts_with_any_protocol(tmp_path: Path, protocol: str, more: tuple[str, ...]) -> None:
    curl = needed_tool("curl", "apt-get install curl")
    file = file_with_event(tmp_path)
    async with ingest_door(tmp_path) as door:
        out = await run(
            *(curl, "-sS", protocol, "-o", "/dev/null", "-w", "%{http_code}", *more),
            *("-H", f"Authorization: Bearer {door.key}", "-H", "Content-Type: application/json"),
            *("--data-binary", f"@{file}", f"{door.url}/v1/events"),
        )
        assert out == "202"
        assert taken(door) == [file.read_bytes()]
