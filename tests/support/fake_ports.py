"""In-memory peers of the pipeline's ports: a bus, topics and documents that outlive every worker.

Each notes in one account what became of every delivery, so that commits can be held against what really happened.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, final

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import BusStatus, Delivered, Reply
from pushrail_stream.core.record import Headers, Origin, Partition, Record
from pushrail_stream.core.signals import Signal
from pushrail_stream.eventbridge.entry import Entry
from pushrail_stream.eventbridge.error_codes import Answered, CallReply
from pushrail_stream.ports.pipeline import PublishError
from tests.support.batches import render_batch
from tests.support.flavours import Flavour
from tests.support.records import DLQ, Answer, keys, take_all
from tests.support.virtual_time import VirtualClock, virtual_loop

Settled = tuple[str, Origin]
"""Destination (empty: none) and event of something delivered, dead-lettered, moved to a retry topic or skipped."""
Account = list[Settled]
"""Settled deliveries in order: one entry for every hop, and one for every repetition."""
HANGS: Final = math.inf
"""A latency: the call never returns."""
RETRY_PARTITIONS: Final = 2
SESSION_KEPT_SECS: Final = 15.0


class Call(NamedTuple):
    """One PutEvents call: its time and its content."""

    at: float
    destination: Destination
    keys: list[str]
    entries: list[Entry]


@final
class ScriptedBus:
    """Answers as a function says, after as long as a function says. Both may be set per destination."""

    def __init__(self, settled: Account, flavour: Flavour) -> None:
        self._settled = settled
        self.flavour = flavour
        self.answers: dict[str, Answer] = {}
        self.latency: Callable[[Batch], float] = lambda _batch: 0.01
        self.calls: list[Call] = []
        self.arrived: dict[str, list[str]] = defaultdict(list)
        self.sessions_are_old = False
        self.renewed: list[str] = []
        """Destinations that signed in anew, in order."""
        self.forgotten: list[str] = []
        self._renewed_at: dict[str, float] = {}
        self._signed_by: dict[str, int] = {}
        """Which of a destination's sessions, from 0, signed the call that returned last."""
        self.bus_status: dict[str, BusStatus] = {}
        """The status by destination; a bus that is not listed exists."""
        self.checks: list[tuple[float, str]] = []
        self.check_secs = 0.0
        self.sign_in_secs = 0.0
        self.signs_in = True
        """Whether there are credentials to look with. Calls answer as they are told to all the same."""
        self.is_signed_out = False
        """Whether the next call signs in first."""
        self.max_in_flight: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()

    @property
    def max_entries(self) -> int:
        """Entries that this kind of bus takes in one call."""
        return self.flavour.MAX_ENTRIES

    def answer(self, answer: Answer, destination_id: str = "dst_acme") -> None:
        """Answer calls to this destination so from now on."""
        self.answers[destination_id] = answer

    def limits(self, destination: Destination) -> CallLimits:
        return self.flavour.limits(destination)

    def size(self, event: Event, destination: Destination) -> int:
        return self.flavour.size(event, destination)

    def quota(self, destination: Destination) -> str:
        return destination.bus.arn.split(":event-bus/", 1)[0]

    def is_our_fault(self, code: str) -> bool:
        return self.flavour.is_our_fault(code)

    async def put(self, batch: Batch, *, refreshed: bool) -> Reply:
        return self.flavour.reply(
            await self._call(batch), batch, refreshed=refreshed, renew=lambda: self._renew_session(batch.destination)
        )

    async def _call(self, batch: Batch) -> CallReply:
        name = batch.destination.id
        session = self.renewed.count(name)
        self.calls.append(Call(virtual_loop().elapsed, batch.destination, keys(batch), render_batch(batch)))
        reply = self.answers.get(name, take_all)(batch)
        self.in_flight[name] += 1
        self.max_in_flight[name] = max(self.max_in_flight[name], self.in_flight[name])
        try:
            await _pass(self.latency(batch))
        finally:
            self.in_flight[name] -= 1
        self._signed_by[name] = session
        # More results than entries tell nothing of any entry: then nothing arrived.
        if isinstance(reply, Answered) and len(reply.entries) <= len(batch.deliveries):
            for delivery, result in zip(batch.deliveries, reply.entries, strict=False):
                if isinstance(result, Delivered) or (result.event_id and result.code is None):
                    self.arrived[name].append(delivery.event.idempotency_key)
                    self._settled.append((name, delivery.record.origin))
        return reply

    def must_sign_in(self, destination: Destination) -> bool:
        del destination
        return self.is_signed_out

    async def sign_in(self, destination: Destination, *, patient: bool = False) -> bool:
        del destination, patient
        signs_in = self.signs_in
        await _pass(self.sign_in_secs)
        self.is_signed_out = False
        return signs_in

    async def check(self, destination: Destination) -> BusStatus:
        self.checks.append((virtual_loop().elapsed, destination.id))
        bus_status = self.bus_status.get(destination.id, "there")
        await _pass(self.check_secs)
        return bus_status

    def forget(self, destination_id: str) -> None:
        """It has no sessions any more."""
        self.forgotten.append(destination_id)

    def _renew_session(self, destination: Destination) -> bool:
        """Sessions are new unless a test says otherwise; one that has just replaced an old one is kept for a while."""
        name, now = destination.id, virtual_loop().elapsed
        if not self.sessions_are_old:
            return False
        if self._signed_by[name] != self.renewed.count(name):
            return True
        if now - self._renewed_at.get(name, -math.inf) < SESSION_KEPT_SECS:
            return False
        self._renewed_at[name] = now
        self.renewed.append(name)
        return True

    def made(self, destination_id: str = "dst_acme") -> list[tuple[float, list[str]]]:
        """Calls to this destination: when, and which events."""
        return [(call.at, call.keys) for call in self.calls if call.destination.id == destination_id]


@final
class Seen(list[Signal]):
    """An observer that remembers."""

    def __call__(self, signal: Signal) -> None:
        self.append(signal)


class Written(NamedTuple):
    """A record Kafka acknowledged, and when."""

    at: float
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def said(self) -> dict[str, str]:
        """The headers as text."""
        return {name: (value or b"").decode(errors="replace") for name, value in self.headers}

    @property
    def origin(self) -> str:
        """The event's offset."""
        return self.said["pushrail-origin"].rsplit("/", 1)[1]


@final
class KeptTopics:
    """Keeps published records, unless it is told to refuse them. Retry topics have partitions, as at a broker."""

    def __init__(self, settled: Account) -> None:
        self._settled = settled
        self.written: list[Written] = []
        self.retries: dict[Partition, list[Record]] = defaultdict(list)
        self.refuse: Callable[[], bool] = lambda: False
        self.refused: list[float] = []
        self.latency = 0.002

    async def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        await _pass(self.latency)
        now = virtual_loop().elapsed
        if self.refuse():
            self.refused.append(now)
            raise PublishError(f"{topic}: not enough in-sync replicas")
        written = Written(now, topic, key, value, headers)
        self.written.append(written)
        if topic != DLQ:
            self._append(written)
        name, number, offset = written.said["pushrail-origin"].rsplit("/", 2)
        origin = Origin(name, int(number), int(offset), written.said.get("pushrail-origin-topic-id"))
        self._settled.append((written.said.get("pushrail-destination", ""), origin))

    def dead(self) -> list[tuple[str, str]]:
        """The DLQ's records: origin offset and reason, by offset."""
        return sorted(
            ((written.origin, written.said["pushrail-reason"]) for written in self.on(DLQ)),
            key=lambda dead: int(dead[0]),
        )

    def moved(self) -> list[tuple[float, str, str, str]]:
        """The copies on retry topics: time, the event's offset, the tier's delay and the reason."""
        return [
            (round(w.at, 3), w.origin, w.topic.rsplit(".", 1)[1], w.said["pushrail-reason"])
            for w in self.written
            if w.topic != DLQ
        ]

    def on(self, topic: str) -> list[Written]:
        """The records of this topic."""
        return [written for written in self.written if written.topic == topic]

    def only_log(self) -> Partition:
        """The one retry partition that holds anything."""
        (partition,) = [partition for partition, log in self.retries.items() if log]
        return partition

    def _append(self, written: Written) -> None:
        partition = Partition(written.topic, zlib.crc32(written.key or b"") % RETRY_PARTITIONS)
        log = self.retries[partition]
        now_ms = VirtualClock().now_ms()
        log.append(Record(*partition, len(log), written.key, written.value, written.headers, now_ms))


@final
class Documents:
    """A directory of the documents in a list, which may change at any time."""

    def __init__(self, documents: Iterable[Destination]) -> None:
        self.documents = list(documents)
        self.changed: Callable[[Sequence[str]], None] = lambda _ids: None
        """Is told the ids of documents that are new, changed or gone, as the registry tells a worker."""

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        wanted = (vendor, customer_external_id)
        return [d for d in self.documents if (d.vendor, d.customer_external_id) == wanted]

    def get(self, destination_id: str) -> Destination | None:
        return next((d for d in self.documents if d.id == destination_id), None)

    def put(self, document: Destination) -> None:
        """Add a document, or replace the one of this id."""
        self.put_untold(document)
        self.changed([document.id])

    def put_untold(self, document: Destination) -> None:
        """As `put`, a moment before the worker is told of it."""
        self.documents = [*(d for d in self.documents if d.id != document.id), document]

    def remove(self, destination_id: str) -> None:
        """Delete a document, if there is one."""
        self.documents = [d for d in self.documents if d.id != destination_id]
        self.changed([destination_id])


async def _pass(secs: float) -> None:
    if math.isinf(secs):
        await asyncio.Event().wait()
    await asyncio.sleep(secs)
