"""Records of the bus: arrived entries, calls, assumed roles and counts; tests wait for them without polling."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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
    status: int = 0
    code: str = ""
    access_key: str = ""
    bus_arns: tuple[str, ...] = ()
    entries: int = 0
    failed: int = 0
    fault: str | None = None
    request_id: str = ""

    def with_results(self, failed: int, labels: Iterable[str]) -> Call:
        """The call whose entries have results. ``labels``: those of the rules that failed entries."""
        fault = "+".join([*filter(None, [self.fault]), *dict.fromkeys(labels)]) or None
        return self._replace(failed=failed, fault=fault)


class Assumed(NamedTuple):
    """One AssumeRole request by ``access_key``. ``code`` is its error, "" when it got ``issued_key``."""

    at: float
    status: int = 0
    code: str = ""
    role_arn: str = ""
    external_id: str | None = None
    session_name: str = ""
    duration_secs: int = 0
    policy: str | None = None
    access_key: str = ""
    issued_key: str | None = None
    fault: str | None = None


class _Waiter(NamedTuple):
    is_over: Callable[[], bool]
    future: asyncio.Future[None]


class Ledger:
    """The records and the counts of all calls."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.calls: list[Call] = []
        self.assumed: list[Assumed] = []
        self.counter: Counter[str] = Counter()
        self.by_bus: Counter[str] = Counter()
        self._waiters: list[_Waiter] = []

    def next_call(self) -> int:
        """Return the number of the next PutEvents call."""
        self.counter["calls"] += 1
        return self.counter["calls"]

    def note_arrival(self, arrival: Arrival) -> None:
        """Record an entry that a bus took."""
        self.counter["arrivals"] += 1
        self.by_bus[arrival.bus_arn] += 1
        self.arrivals.append(arrival)

    def note_call(self, call: Call) -> None:
        """Record a PutEvents call and its answer."""
        counter = self.counter
        counter["entries"] += call.entries
        counter["failedCalls"] += call.status != 200  # noqa: PLR2004 - HTTP's own number
        counter["failedEntries"] += call.failed
        counter["faults"] += call.fault is not None
        self.calls.append(call)
        self._wake()

    def note_assumed(self, assumed: Assumed) -> None:
        """Record an AssumeRole request and its answer."""
        self.counter["assumeRole"] += 1
        self.counter["faults"] += assumed.fault is not None
        self.assumed.append(assumed)
        self._wake()

    def clear(self) -> None:
        """Forget all records and reset the counts."""
        for records in (self.arrivals, self.calls, self.assumed, self.counter, self.by_bus):
            records.clear()

    def _wake(self) -> None:
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
