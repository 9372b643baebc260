"""CPU time and memory of a sign-in: AssumeRole for many roles, over TLS to a server in another process.

``python -m tests.bench.sign_in`` prints one line of JSON. CPU time is that of this process alone.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import orjson
import uvloop

from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.settings.eventbridge import AssumeRole
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.bench.put_events import canned_server
from tests.support.builders import destination

_IN_FLIGHT: Final = 32
_PER_SECOND: Final = 600
"""The most that the settings allow."""


def measure(roles: int = 3_000) -> dict[str, float]:
    """Microseconds of CPU, and KiB that stay in memory, for each role. Not from inside a loop."""
    with canned_server(1) as url:
        return uvloop.run(_measure(url, roles))


async def _measure(url: str, roles: int) -> dict[str, float]:
    settings = StsSettings(endpoint_url=url, max_calls_per_second=_PER_SECOND)
    customers = [
        destination(number, auth=AssumeRole(f"arn:aws:iam::123456789012:role/Writer{number}", f"ext-{number}"))
        for number in range(roles + 1)
    ]
    async with EventBridge.open(EventBridgeSettings(endpoint_url=url), settings) as bus:
        assert await bus.sign_in(customers[0])
        waiting = iter(customers[1:])

        async def sign_in() -> None:
            for one in waiting:
                assert await bus.sign_in(one)

        began, memory = time.process_time(), _rss_kib()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_IN_FLIGHT):
                tasks.create_task(sign_in())
        spent, grown = time.process_time() - began, _rss_kib() - memory
    return {"cpu_us_per_sign_in": round(spent / roles * 1e6), "kib_per_session": round(grown / roles, 1)}


def _rss_kib() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return float(line.split()[1])


if __name__ == "__main__":
    print(orjson.dumps(measure()).decode())
