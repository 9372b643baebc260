"""Records of the bus: arrived entries, calls, assumed roles, counts, latencies; tests wait for them without polling."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Arrival(NamedTuple):
    """One entry that a bus took, as received. ``received_at`` is epoch seconds, ``call`` the number of its Call."""

    bus_arn: str
    source: str
    detail_type: str
    detail: str
    resources: tuple[str, ...]
    time: float | None
    trace_header: str | None
    event_id: str
    received_at: float
    access_key: str
    call: int
    entry_index: int


class Call(NamedTuple):
    """One PutEvents request, numbered from 1. ``status`` is 0 without an answer, ``fault`` names the rules that fired.

    ``code`` is the call's error ("" for none), ``failed`` the number of entries answered with an error.
    """

    number: int
    at: float
    status: int
    code: str
    access_key: str
    bus_arns: tuple[str, ...]
    entries: int
    failed: int
    fault: str | None
    request_id: str


class Assumed(NamedTuple):
    """One AssumeRole request by ``access_key``. ``code`` is its error, "" when it got ``issued_key``."""

    at: float
    status: int
    code: str
    role_arn: str
    external_id: str | None
    session_name: str
    duration_secs: int
    policy: str | None
    access_key: str
    issued_key: str | None
    fault: str | None


class _Waiter(NamedTuple):
    is_over: Callable[[], bool]
    future: asyncio.Future[None]


class Ledger:
    """The records. Without ``keep_records`` only counts and latencies are kept, so that memory stays flat.

    ``latency_path`` names the field of Detail that holds epoch milliseconds, such as ``payload.producedAtMs``.
    """

    def __init__(self, *, keep_records: bool, latency_path: str | None) -> None:
        self.keeps_records = keep_records
        self._path = latency_path.split(".") if latency_path else None
        self.arrivals: list[Arrival] = []
        self.calls: list[Call] = []
        self.assumed: list[Assumed] = []
        self.counter: Counter[str] = Counter()
        self.by_bus: Counter[str] = Counter()
        self._latencies: dict[str, array[float]] = {}
        self._waiters: list[_Waiter] = []

    def next_call(self) -> int:
        """Return the number of the next PutEvents call."""
        self.counter["calls"] += 1
        return self.counter["calls"]

    def count_arrival(self, bus: str, received_at: float, detail: dict[str, Any]) -> None:
        """Count an entry that the bus took; ``detail`` is its decoded Detail."""
        self.counter["arrivals"] += 1
        self.by_bus[bus] += 1
        if self._path is not None:
            self._note_latency(bus, received_at, detail, self._path)

    def _note_latency(self, bus: str, received_at: float, detail: dict[str, Any], path: list[str]) -> None:
        value: Any = detail
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            samples = self._latencies.setdefault(bus, array("d"))
            samples.append(received_at * 1000.0 - value)

    def note_call(self, call: Call) -> None:
        """Record a PutEvents call and its answer."""
        counter = self.counter
        counter["entries"] += call.entries
        if call.status != 200:  # noqa: PLR2004 - HTTP's own number
            counter["failedCalls"] += 1
        if call.failed:
            counter["failedEntries"] += call.failed
        if call.fault is not None:
            counter["faults"] += 1
        if self.keeps_records:
            self.calls.append(call)
        self.wake()

    def note_assumed(self, assumed: Assumed) -> None:
        """Record an AssumeRole request and its answer."""
        self.counter["assumeRole"] += 1
        if assumed.fault is not None:
            self.counter["faults"] += 1
        if self.keeps_records:
            self.assumed.append(assumed)
        self.wake()

    def latencies_ms(self, bus_arn: str | None = None) -> list[float]:
        """Receipt minus production in milliseconds, of one bus or of all."""
        if bus_arn is not None:
            return list(self._latencies.get(bus_arn, ()))
        return [sample for samples in self._latencies.values() for sample in samples]

    def clear(self) -> None:
        """Forget all records and reset the counts."""
        for records in (self.arrivals, self.calls, self.assumed, self.counter, self.by_bus, self._latencies):
            records.clear()

    def wake(self) -> None:
        """Resume the waiters whose condition holds."""
        for waiter in self._waiters:
            if not waiter.future.done() and waiter.is_over():
                waiter.future.set_result(None)

    async def wait_until(self, is_over: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is tested after every call."""
        if is_over():
            return
        waiter = _Waiter(is_over, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.future
        finally:
            self._waiters.remove(waiter)
