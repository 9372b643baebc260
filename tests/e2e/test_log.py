"""A worker whose log cannot be written goes on delivering, counts the lost lines in its metrics, and stops as usual."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support.builders import SECRET, event, with_access_key
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.ports import free_port
from tests.support.workers import outside, produce

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("log", ["closed pipe", "full disk", "pipe that nobody reads", "none"])
async def test_an_unwritable_log_stops_no_worker(real_kafka: str, tmp_path: Path, log: str) -> None:
    async with outside(real_kafka, http={"port": free_port()}) as (bus, settings):
        desk = Desk(tmp_path, settings)
        desk.put([with_access_key(0)])
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4_096)
        if log == "closed pipe":
            os.close(reading)
        elif log == "full disk":
            os.dup2(os.open("/dev/full", os.O_WRONLY), writing)
        closing = "exec 2>&-; " if log == "none" else ""
        command = f'{closing}exec "$0" -m pushrail_stream run --log-level debug --config "$1"'
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", command, sys.executable, str(desk.config)),
            stderr=writing,
            env=os.environ | {"CUSTOMER_SECRET": SECRET},
        )
        os.close(writing)
        try:
            await produce(settings, [("acct_0", event(0, n, eventType="x" * 100)) for n in range(500)])
            await bus.wait_for_arrivals(500)
            url = f"http://127.0.0.1:{settings.http.port}/metrics"
            async with aiohttp.ClientSession() as session, session.get(url) as reply:
                [lost] = [line for line in (await reply.text()).splitlines() if line.startswith("pushrail_log_lines")]
            assert float(lost.split()[1]) > 0
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), PATIENCE_SECS) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
