"""The bus of the benchmark, in a process of its own: open, over TLS, keeping only counts and latencies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from array import array
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus

_SIEVE_SECS: Final = 0.25


class LatencyBus(FaultBus):
    """Keeps the latency of each arrival and drops its records often, so that its memory stays flat."""

    def __init__(self, config: BusConfig) -> None:
        super().__init__(config)
        self._latencies_ms: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.control.actions[b"GET", "latencies"] = lambda query: {"latenciesMs": self._latencies(query.get("bus"))}

    def sieve(self) -> None:
        """Note receipt minus production, in milliseconds, of the arrivals that tell it."""
        for arrival in self.arrivals:
            produced_ms = orjson.loads(arrival.detail)["payload"].get("producedAtMs")
            if produced_ms is not None:
                self._latencies_ms[arrival.bus_arn].append(arrival.received_at * 1000 - produced_ms)
        for records in (self.arrivals, self.calls, self.assumed):
            records.clear()

    def clear(self) -> None:
        super().clear()
        self._latencies_ms.clear()

    def _latencies(self, bus_arn: str | None) -> list[float]:
        """Of one bus, or of all."""
        self.sieve()
        found = self._latencies_ms.values() if bus_arn is None else [self._latencies_ms[bus_arn]]
        return [sample for samples in found for sample in samples]


async def main(ca_path: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with LatencyBus.serve(BusConfig(tls=True, ca_path=ca_path, open=True)) as bus:
        announced: dict[str, Any] = {"url": bus.url, "caPath": bus.ca_path}
        print(json.dumps(announced), flush=True)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SIEVE_SECS):
                    await stop.wait()
            bus.sieve()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
