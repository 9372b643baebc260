"""A world for the pipeline: in-memory peers of its ports, and an account of what really happened to hold it against.

The peers are outside and stay; workers come and go on them, as processes do on Kafka and AWS. Between any two steps of
the event loop the worker's ledger has to balance and nothing unsettled may be committable.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.entry import Entry
from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.lane import LaneLimits
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.offsets import Committable, decode_settled
from pushrail_stream.core.outcome import Answered, Presence, Reply
from pushrail_stream.core.record import Headers, Origin, Partition, Record
from pushrail_stream.core.retry import RetryPolicy
from pushrail_stream.core.signals import Signal, Skipped
from pushrail_stream.pipeline.consume import Consume, IntakeRules
from pushrail_stream.pipeline.copies import Copies
from pushrail_stream.pipeline.deliver import Deliver
from pushrail_stream.pipeline.hand_over import HandOver
from pushrail_stream.pipeline.health import Health
from pushrail_stream.pipeline.intake import Directions, HoldLimits
from pushrail_stream.pipeline.look_out import LookOut
from pushrail_stream.pipeline.redeliver import Redeliver
from pushrail_stream.pipeline.under_way import UnderWay
from pushrail_stream.ports import Observer, PublishError
from tests.pipeline.records import DLQ, P0, Answer, keys, take_all
from tests.virtual_time import VirtualClock, virtual_loop

Settled = tuple[str, Origin]
"""Destination (empty: none) and event of something delivered, dead-lettered or skipped."""
HANGS = math.inf
"""A latency: the call never returns."""


class Call(NamedTuple):
    """One PutEvents call: when it was made and what it carried."""

    at: float
    destination: Destination
    keys: list[str]
    entries: list[Entry]


@final
class ScriptedBus:
    """Answers as a function says, after as long as a function says. Both may be set per destination."""

    def __init__(self, settled: set[Settled]) -> None:
        self._settled = settled
        self.answers: dict[str, Answer] = {}
        self.latency: Callable[[Batch], float] = lambda _batch: 0.01
        self.calls: list[Call] = []
        self.arrived: dict[str, list[str]] = defaultdict(list)
        self.forgotten: list[str] = []
        self.presence: dict[str, Presence] = {}
        """Whose bus is gone; there otherwise."""
        self.looks: list[tuple[float, str]] = []
        self.most_under_way: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()

    def answer(self, answer: Answer, destination_id: str = "dst_acme") -> None:
        """Answer calls to this destination so from now on."""
        self.answers[destination_id] = answer

    async def put(self, batch: Batch) -> Reply:
        name = batch.destination.id
        self.calls.append(Call(virtual_loop().elapsed, batch.destination, keys(batch), batch.entries()))
        reply = self.answers.get(name, take_all)(batch)
        self._under_way[name] += 1
        self.most_under_way[name] = max(self.most_under_way[name], self._under_way[name])
        try:
            await _pass(self.latency(batch))
        finally:
            self._under_way[name] -= 1
        if isinstance(reply, Answered):
            for delivery, result in zip(batch.deliveries, reply.entries, strict=False):
                if result.event_id and result.code is None:
                    self.arrived[name].append(delivery.event.idempotency_key)
                    self._settled.add((name, delivery.record.origin))
        return reply

    async def look(self, destination: Destination) -> Presence:
        self.looks.append((virtual_loop().elapsed, destination.id))
        return self.presence.get(destination.id, "there")

    def forget_credentials(self, destination: Destination) -> None:
        self.forgotten.append(destination.id)

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


@final
class KeptTopics:
    """Keeps what is published, unless it is told to refuse."""

    def __init__(self, settled: set[Settled]) -> None:
        self._settled = settled
        self.written: list[Written] = []
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
        name, number, offset = written.said["pushrail-origin"].rsplit("/", 2)
        self._settled.add((written.said.get("pushrail-destination", ""), Origin(name, int(number), int(offset))))

    def dead(self) -> list[tuple[str, str]]:
        """The DLQ's records: origin offset and reason, by offset."""
        said = [written.said for written in self.written if written.topic == DLQ]
        return sorted(
            ((s["pushrail-origin"].rsplit("/", 1)[1], s["pushrail-reason"]) for s in said),
            key=lambda dead: int(dead[0]),
        )


@final
class Documents:
    """A directory of the documents in a list, which may change at any time."""

    def __init__(self, documents: Iterable[Destination]) -> None:
        self.documents = list(documents)

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        wanted = (vendor, customer_external_id)
        return [d for d in self.documents if (d.vendor, d.customer_external_id) == wanted]

    def get(self, destination_id: str) -> Destination | None:
        return next((d for d in self.documents if d.id == destination_id), None)

    def put(self, document: Destination) -> None:
        """Add a document, or replace the one of this id."""
        self.documents = [d for d in self.documents if d.id != document.id] + [document]


@final
class World:
    """What is outside of a worker and outlives it."""

    def __init__(self, *documents: Destination) -> None:
        self.settled = set[Settled]()
        self.bus = ScriptedBus(self.settled)
        self.topics = KeptTopics(self.settled)
        self.directory = Documents(documents)
        self.group: dict[Partition, Committable] = {}
        """What the consumer group has committed."""

    def owed(self, record: Record) -> set[Settled]:
        """What has to be settled before this record may be committed."""
        event = decode(record.value, record.headers, "pushrail")
        route = self.directory.route(event.vendor, event.customer_external_id) if isinstance(event, Event) else ()
        return {(destination.id, record.origin) for destination in route} or {("", record.origin)}

    @asynccontextmanager
    async def worker(self, **options: Any) -> AsyncIterator[Worker]:
        """A worker on this world that owns partition 0 (``owns`` says otherwise); ends without draining."""
        owns: Iterable[Partition] = options.pop("owns", (P0,))
        own_error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                worker = Worker(self, tasks, **options)
                worker.assign(*owns)
                virtual_loop().after_each_step(worker.check)
                try:
                    yield worker
                except BaseException as error:
                    own_error = error
                    raise
                finally:
                    virtual_loop().after_each_step(None)
                    worker.deliver.stop()
                    worker.look_out.stop()
                    worker.under_way.cancel()
        except BaseExceptionGroup as group:
            if own_error is not None and group.exceptions == (own_error,):
                raise own_error from None  # a test's own failure reads better bare
            raise


@final
class Worker:
    """The pipeline on a world, as the composition root puts it together."""

    def __init__(
        self,
        world: World,
        tasks: asyncio.TaskGroup,
        *,
        batches: LaneLimits | None = None,
        policy: RetryPolicy | None = None,
        limits: HoldLimits | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        bury_unrouted: bool = False,
        observe: Observer = lambda _signal: None,
    ) -> None:
        self.world = world
        self.signals = Seen()
        self.ledger = Ledger()
        self.under_way = UnderWay(tasks)
        self._also = observe
        self._open: dict[Partition, dict[int, set[Settled]]] = {}
        self._last: dict[Partition, int] = {}
        self._resumed: dict[Partition, frozenset[int]] = {}
        batches, clock, policy = batches or LaneLimits(), VirtualClock(), policy or RetryPolicy()
        copies = Copies(
            publisher=world.topics,
            dlq=DLQ,
            under_way=self.under_way,
            ledger=self.ledger,
            jitter=jitter,
            observe=self._see,
        )
        hand_over = HandOver(copies=copies, ledger=self.ledger, clock=clock, observe=self._see)
        self.look_out = LookOut(bus=world.bus, directory=world.directory, under_way=self.under_way, observe=self._see)
        self.deliver = Deliver(
            bus=world.bus,
            directory=world.directory,
            hand_over=hand_over,
            health=Health(policy=policy, jitter=jitter, observe=self._see),
            look_out=self.look_out,
            under_way=self.under_way,
            limits=batches,
            policy=policy,
            clock=clock,
            jitter=jitter,
            observe=self._see,
        )
        self.consume = Consume(
            directory=world.directory,
            deliver=self.deliver,
            hand_over=hand_over,
            copies=copies,
            under_way=self.under_way,
            ledger=self.ledger,
            rules=IntakeRules("pushrail", bury_unrouted, batches.max_bytes),
            limits=limits or HoldLimits(),
            clock=clock,
            observe=self._see,
        )
        self.redeliver = Redeliver(
            directory=world.directory,
            deliver=self.deliver,
            hand_over=hand_over,
            copies=copies,
            under_way=self.under_way,
            ledger=self.ledger,
            tiers=policy.tiers,
            vendor="pushrail",
            limits=limits or HoldLimits(),
            clock=clock,
            observe=self._see,
        )

    def assign(self, *partitions: Partition) -> None:
        """The group gives us partitions, where it left them."""
        for partition in partitions:
            start = self.world.group.get(partition)
            self._resumed[partition] = frozenset(() if start is None else decode_settled(start))
            self._open[partition] = {}
            self._last[partition] = 0
        self.consume.assigned({partition: self.world.group.get(partition) for partition in partitions})

    def feed(self, *given: Record) -> Directions:
        """The consumer hands over records."""
        for record in given:
            partition = Partition(record.topic, record.partition)
            if partition in self._open and record.offset not in self._resumed[partition]:
                self._open[partition][record.offset] = self.world.owed(record)
        return self.consume.accept(given)

    def commit(self) -> dict[Partition, int]:
        """The consumer's tick: commit what is committable. What the group has committed now, everywhere."""
        self._committed(commits := self.consume.committable())
        self.consume.committed(commits)
        return {partition: committable.offset for partition, committable in self.world.group.items()}

    async def give_back(self, *partitions: Partition, deadline_secs: float = 10.0) -> None:
        """A rebalance asks for partitions: drain, commit, forget."""
        commits = await self.consume.revoked(partitions, deadline_secs=deadline_secs)
        self._committed(commits)
        self._forget(partitions)

    def lose(self, *partitions: Partition) -> None:
        """A rebalance took partitions away without asking."""
        self.consume.lost(partitions)
        self._forget(partitions)

    async def at(self, secs: float) -> None:
        """Let time go by until this moment (seconds since the beginning), whatever was to happen then included."""
        await asyncio.sleep(max(0.0, round(secs - virtual_loop().elapsed, 6)))
        for _ in range(10):
            await asyncio.sleep(0)

    def check(self) -> None:
        """The invariants that hold at every moment."""
        assert self.ledger.balances, self.ledger
        self._verify(self.consume.committable())

    def told(self, *kinds: type) -> list[Signal]:
        """The signals of these kinds, in order."""
        return [signal for signal in self.signals if isinstance(signal, kinds)]

    def _see(self, signal: Signal) -> None:
        assert self.ledger.balances, (signal, self.ledger)
        if isinstance(signal, Skipped):
            self.world.settled.add((signal.destination_id or "", signal.origin))
        self.signals(signal)
        self._also(signal)

    def _verify(self, commits: Iterable[tuple[Partition, Committable]]) -> None:
        settled = self.world.settled
        for partition, committable in commits:
            still_open = {o: owed for o, owed in self._open[partition].items() if not owed <= settled}
            self._open[partition] = still_open
            assert all(committable.offset <= offset for offset in still_open), (partition, committable, still_open)
            assert still_open.keys().isdisjoint(decode_settled(committable)), (partition, committable, still_open)
            assert committable.offset >= self._last[partition], (partition, committable, self._last)
            self._last[partition] = committable.offset

    def _committed(self, commits: Sequence[tuple[Partition, Committable]]) -> None:
        self._verify(commits)
        for partition, committable in commits:
            before = self.world.group.get(partition)
            assert before is None or committable.offset >= before.offset, f"{partition} went back"
            self.world.group[partition] = committable

    def _forget(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._open.pop(partition, None)


async def _pass(secs: float) -> None:
    if math.isinf(secs):
        await asyncio.Event().wait()
    await asyncio.sleep(secs)
