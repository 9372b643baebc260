"""The bus of the benchmark, in a process of its own: open, over TLS, counting only."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from pushrail_stream.sandbox.bus.server import BusConfig, run_bus


async def main(ca_path: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = BusConfig(tls=True, ca_path=ca_path, open=True, keep_records=False, latency_path="payload.producedAtMs")
    await run_bus(config, announce=lambda line: print(line, flush=True), stop=stop)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
