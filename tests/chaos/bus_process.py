"""The bus in a process of its own: it keeps arrivals as columns of numbers and writes them out at the end.

It also looks at every arrival: it must be at a bus of its event's customer, and be that event byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop

from pushrail_stream.sandbox.bus.ledger import Arrival, Call
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.chaos import arrivals as columns
from tests.chaos.arrivals import UNANSWERED, Arrivals
from tests.chaos.faults import DENIED, LATE, MALFORMED, always
from tests.chaos.lags import SLOW
from tests.chaos.world import (
    SECRET,
    Place,
    World,
    access_key,
    external_id,
    role_arn,
    worker_key,
)

MAX_WORKERS: Final = 500
"""Workers that can be started in one run: each has a key of its own."""
_SIEVE_SECS: Final = 0.25
_MAX_STRANGE: Final = 20
_KEY_PREFIX: Final = len("event-")


class Sieve:
    """Takes the bus's records often, and keeps the parts that the verdict needs."""

    def __init__(self, bus: FaultBus, world: World) -> None:
        self._bus = bus
        self._world = world
        self._workers: dict[str, int] = {}
        self._places = {place.bus_arn: place for place in world.places()}
        self._base_keys = {worker_key(number): number for number in range(1, MAX_WORKERS)}
        self.arrivals = Arrivals()
        self.denied: list[str] = []
        self.malformed: list[str] = []
        self.strange: list[str] = []

    def take(self) -> None:
        """Empty the bus's lists."""
        bus = self._bus
        for assumed in bus.assumed:
            if assumed.issued_key is not None:
                self._workers[assumed.issued_key] = self._base_keys.get(assumed.access_key, 0)
        calls: dict[int, Call] = {}
        for call in bus.calls:
            calls[call.number] = call
            if call.fault is not None:
                self._note_refusals(call)
        for arrival in bus.arrivals:
            self._keep(arrival, calls[arrival.call])
        for records in (bus.assumed, bus.calls, bus.arrivals):
            records.clear()

    def save(self, folder: Path) -> None:
        """Write everything out."""
        self.take()
        self.arrivals.save(folder)
        facts = {"denied": self.denied, "malformed": self.malformed, "strange": self.strange}
        (folder / "facts.json").write_text(json.dumps(facts))

    def _note_refusals(self, call: Call) -> None:
        names = (call.fault or "").split("+")
        if DENIED in names:
            self.denied.append(call.request_id)
        if MALFORMED in names:
            self.malformed.append(call.request_id)

    def _keep(self, arrival: Arrival, call: Call) -> None:
        number = int(arrival.resources[1][_KEY_PREFIX:])
        place = self._places[arrival.bus_arn]
        if self._world.customer_of[number] != place.customer or arrival.detail != self._world.text(number):
            self._note_strange(f"event {number} arrived at {place.id} as {arrival.detail[:400]}")
        worker = self._workers.get(arrival.access_key, 0)
        self.arrivals.append(
            columns.Arrival(number, place.slot, worker, arrival.received_at, _replied(arrival.received_at, call))
        )

    def _note_strange(self, line: str) -> None:
        if len(self.strange) < _MAX_STRANGE:
            self.strange.append(line)


def _replied(received_at: float, call: Call) -> float:
    names = (call.fault or "").split("+")
    if call.status == 0 or LATE in names:
        return UNANSWERED
    return received_at + sum(float(name.partition(":")[2]) for name in names if name.startswith(f"{SLOW}:"))


def declare(bus: FaultBus, world: World) -> None:
    """Tell the bus of every customer's buses, role or key, and of the workers' own keys, which may put nowhere."""
    for customer in range(world.customers):
        buses = [place.bus_arn for place in (Place(customer, 0), Place(customer, 1))]
        for arn in buses:
            bus.add_bus(arn)
        role = role_arn(customer)
        if role is None:
            bus.add_key(access_key(customer), SECRET, buses=buses)
        else:
            bus.add_role(role, external_id=external_id(customer), buses=buses)
    for number in range(1, MAX_WORKERS):
        bus.add_key(worker_key(number), SECRET, buses=[])


async def main(folder: Path, world: World, seed: int) -> None:
    """Serve until SIGTERM, then write the records into ``folder``."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # Signatures are not recomputed: that is tested elsewhere and would be a quarter of this process's work.
    async with FaultBus.serve(BusConfig(check_signatures=False, seed=seed)) as bus:
        declare(bus, world)
        bus.set_plan(always())
        sieve = Sieve(bus, world)
        print(json.dumps({"url": bus.url}), flush=True)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SIEVE_SECS):
                    await stop.wait()
            sieve.take()
    sieve.save(folder)


if __name__ == "__main__":
    _folder, _seed, _events, _customers = sys.argv[1:]
    uvloop.run(main(Path(_folder), World(int(_seed), int(_events), int(_customers)), int(_seed)))
