"""Ingest as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from pushrail_stream.settings.model import Settings
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import settings_for


class Ingesting:
    """The running command, and requests to it."""

    def __init__(self, process: asyncio.subprocess.Process, key: str, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.key = key
        self.session = session
        self.log: list[dict[str, Any]] = []
        self.last_words = ""

    async def said(self, what: str) -> dict[str, Any]:
        """The next log line of this name."""
        assert self.process.stderr is not None
        while line := await asyncio.wait_for(self.process.stderr.readline(), PATIENCE_SECS):
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == what:
                return self.log[-1]
        raise AssertionError(f"the log has no line {what}: {self.log}")

    async def post(self, body: bytes, key: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.listening['port']}/v1/events"
        async with self.session.post(url, data=body, headers=headers) as reply:
            return reply.status, json.loads(await reply.read())

    async def ops(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.listening['ops_port']}{path}") as reply:
            return reply.status, await reply.text()

    @property
    def listening(self) -> dict[str, Any]:
        return next(line for line in self.log if line["event"] == "listening")


async def new_key(desk: Desk) -> str:
    return (await desk.run("ingest", "keys", "create", "--vendor", "acme")).split()[-1]


@asynccontextmanager
async def ingesting(desk: Desk, exit_code: int = 0) -> AsyncIterator[Ingesting]:
    key = await new_key(desk)
    process = await desk.start("ingest", "--json", "--log-level", "debug")
    session = aiohttp.ClientSession()
    running_one = Ingesting(process, key, session)
    try:
        async with session:
            await running_one.said("listening")
            yield running_one
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        _, rest = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
        assert process.returncode == exit_code, rest.decode()
        assert key.encode() not in rest
        running_one.last_words = rest.decode()


def settings_with_door(bootstrap: str, bus_url: str, home: Path, **limits: Any) -> Settings:
    door = {"port": 0, "keys_file": home / "keys" / "ingest.json"} | limits
    return settings_for(bootstrap, bus_url, ingest=door)
