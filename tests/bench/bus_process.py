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
from pushrail_stream.sandbox.bus.wire import Reply, Request

_SIEVE_SECS: Final = 0.25


class Pace:
    """The speed of one bus: it works on one call after the other, so calls that come at once wait for each other."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_at = 0.0

    def delay_secs(self, entries: int, now: float) -> float:
        """Seconds until a call with this number of entries is answered."""
        self._free_at = max(self._free_at, now) + entries / self._per_second
        return self._free_at - now


class LatencyBus(FaultBus):
    """Keeps the latency of each arrival and drops its records often, so that its memory stays flat.

    Buses may have a pace: events that they take a second, by ARN.
    """

    def __init__(self, config: BusConfig) -> None:
        super().__init__(config)
        self._latencies_ms: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._paces: dict[str, Pace] = {}
        self.control.actions[b"PUT", "paces"] = self._set_paces
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

    def _set_paces(self, paces: dict[str, float]) -> dict[str, float]:
        self._paces = {arn: Pace(per_second) for arn, per_second in paces.items()}
        return paces

    def _handle(self, request: Request) -> Reply:
        made = self.ledger.counter["calls"]
        reply = super()._handle(request)
        if not self._paces or self.ledger.counter["calls"] <= made:
            return reply
        call = self.calls[-1]
        pace = self._paces.get(call.bus_arns[0]) if call.bus_arns else None
        if pace is None:
            return reply
        delay = pace.delay_secs(call.entries, asyncio.get_running_loop().time())
        return reply._replace(delay_secs=reply.delay_secs + delay)

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
