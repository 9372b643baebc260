"""Any story at all: random records, a random bus, a DLQ that comes and goes, partitions that come and go."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, deque
from typing import NamedTuple, final

from hypothesis import given, settings
from hypothesis import strategies as st

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.lane import LaneLimits
from pushrail_stream.core.outcome import Answered, EntryResult, Reply
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.core.signals import Skipped
from pushrail_stream.pipeline.intake import Directions, HoldLimits
from tests.pipeline.records import P0, P1, answered, destination, failed, fault, keys, raw, record, take_all
from tests.pipeline.world import Worker, World
from tests.virtual_time import run, virtual_loop

DOCUMENTS = (
    destination("one"),
    destination("two", name="a"),
    destination("two", name="b"),
    destination("off", enabled=False),
    destination("picky", event_types=("invoice.*",)),
)
CUSTOMERS = ("one", "one", "two", "off", "picky", "nobody", "poison", "huge")


class Produce(NamedTuple):
    partition: Partition
    customers: list[str]


class Wait(NamedTuple):
    secs: float


class Revoke(NamedTuple):
    partition: Partition
    deadline_secs: float


class Lose(NamedTuple):
    partition: Partition


class Assign(NamedTuple):
    partition: Partition


class Commit(NamedTuple):
    pass


class Refuse(NamedTuple):
    """The DLQ refuses, or takes again."""

    on: bool


class Edit(NamedTuple):
    """A live document changes."""

    source: str


Step = Produce | Wait | Revoke | Lose | Assign | Commit | Refuse | Edit
_PARTITIONS = st.sampled_from([P0, P1])
_STEPS = st.one_of(
    st.builds(Produce, _PARTITIONS, st.lists(st.sampled_from(CUSTOMERS), min_size=1, max_size=25)),
    st.builds(Produce, _PARTITIONS, st.lists(st.sampled_from(CUSTOMERS), min_size=1, max_size=5)),
    st.builds(Wait, st.sampled_from([0.0, 0.05, 0.1, 0.7, 3.0, 40.0])),
    st.builds(Revoke, _PARTITIONS, st.sampled_from([0.0, 1.0, 10.0])),
    st.builds(Lose, _PARTITIONS),
    st.builds(Assign, _PARTITIONS),
    st.builds(Commit),
    st.builds(Refuse, st.booleans()),
    st.builds(Edit, st.sampled_from(["x", "a.much.longer.source"])),
)


@final
class AnyBus:
    """Every kind of answer, and some that AWS would never give."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def answer(self, batch: Batch) -> Reply:
        if self._dice.random() < 0.4:
            return take_all(batch)
        return self._dice.choice([self._mixed, self._garbage, self._refused, self._refused])(batch)

    def latency(self, _batch: Batch) -> float:
        return self._dice.choice([0.0, 0.01, 0.01, 0.3, 2.0, 25.0])

    def _mixed(self, batch: Batch) -> Reply:
        codes = ["ThrottlingException", "InternalFailure", "MalformedDetail", "AccessDeniedException", "New", ""]
        return answered(batch, {key: fault(code) for key in keys(batch) if (code := self._dice.choice(codes))})

    def _garbage(self, batch: Batch) -> Reply:
        results = [EntryResult("taken", None, None), EntryResult(None, None, None), EntryResult("", None, "?")]
        count = self._dice.randint(0, len(batch.deliveries) + 1)
        return Answered(tuple(self._dice.choice(results) for _ in range(count)), 200, None)

    def _refused(self, _batch: Batch) -> Reply:
        return self._dice.choice(
            [
                failed("503", 503),
                failed("ReadTimeoutError"),
                failed("ThrottlingException", 400),
                failed("ValidationException", 400),
                failed("413", 413),
                failed("AccessDeniedException", 400),
                failed("ExpiredToken", 400),
                failed("InvalidSignatureException", 400),
                failed("AccessDenied", 403, operation="AssumeRole"),
                failed("InvalidClientTokenId", 403, operation="AssumeRole"),
            ]
        )


@final
class Broker:
    """Partitions with their records, and where the worker has got to in those it owns."""

    def __init__(self, world: World, worker: Worker) -> None:
        self._world = world
        self._worker = worker
        self.logs: dict[Partition, list[Record]] = {P0: [], P1: []}
        self._positions = {P0: 0, P1: 0}
        self.ever_gone = set[Partition]()

    async def take(self, step: Step) -> None:
        world, worker = self._world, self._worker
        match step:
            case Produce(partition, customers):
                self.logs[partition] += [
                    _record(partition, len(self.logs[partition]) + n, customer) for n, customer in enumerate(customers)
                ]
            case Wait(secs):
                await worker.at(virtual_loop().elapsed + secs)
            case Revoke() | Lose():
                await self._take_away(step)
            case Assign(partition):
                self.assign(partition)
            case Commit():
                worker.commit()
            case Refuse(on):
                world.topics.refuse = lambda: on
            case Edit(source):
                world.directory.put(dataclasses.replace(DOCUMENTS[0], source=source))
        self.fetch()

    async def _take_away(self, step: Revoke | Lose) -> None:
        if self._positions.pop(step.partition, None) is None:
            return
        self.ever_gone.add(step.partition)
        if isinstance(step, Revoke):
            await self._worker.give_back(step.partition, deadline_secs=step.deadline_secs)
        else:
            self._worker.lose(step.partition)

    def assign(self, partition: Partition) -> None:
        if partition not in self._positions:
            start = self._world.group.get(partition)
            self._positions[partition] = 0 if start is None else start.offset
            self._worker.assign(partition)

    def fetch(self) -> None:
        """Hand over what the worker has room for, twenty records of a partition at a time."""
        directions: Directions = self._worker.consume.directions()
        for partition, position in list(self._positions.items()):
            left = deque(self.logs[partition][position:])
            while left and not directions.hold and partition not in directions.full:
                given = [left.popleft() for _ in range(min(20, len(left)))]
                directions = self._worker.feed(*given)
                self._positions[partition] += len(given)

    async def end_well(self) -> None:
        """The world gets well again, and everything has time to end."""
        self._world.topics.refuse = lambda: False
        self._world.bus.answers = {}
        self._world.bus.latency = lambda _batch: 0.01
        for partition in (P0, P1):
            self.assign(partition)
        for _ in range(30):
            self.fetch()
            await self._worker.at(virtual_loop().elapsed + 60)


def _record(partition: Partition, offset: int, customer: str) -> Record:
    if customer == "poison":
        return raw(offset, b"poison", partition=partition)
    if customer == "huge":
        return record(offset, "one", key=f"{partition}/{offset}", partition=partition, padding=9000)
    return record(offset, customer, key=f"{partition}/{offset}", partition=partition, padding=offset % 7 * 100)


@settings(max_examples=80, deadline=None)
@given(st.lists(_STEPS, min_size=1, max_size=25), st.integers(0, 2**32))
def test_nothing_is_lost_and_every_delivery_ends_in_exactly_one_way(steps: list[Step], seed: int) -> None:
    async def story() -> None:
        world, dice = World(*DOCUMENTS), random.Random(seed)
        bus = AnyBus(dice)
        world.bus.answers = dict.fromkeys((document.id for document in DOCUMENTS), bus.answer)
        world.bus.latency = bus.latency
        batches, limits = LaneLimits(max_bytes=4000), HoldLimits(max_events=120, partition_max_offsets=80)
        async with world.worker(owns=[P0, P1], batches=batches, limits=limits, jitter=dice.random) as worker:
            broker = Broker(world, worker)
            for step in steps:
                await broker.take(step)
            await broker.end_well()
            _judge(world, worker, broker)

    run(story())


def _judge(world: World, worker: Worker, broker: Broker) -> None:
    committed, ledger = worker.commit(), worker.ledger
    assert ledger.balances
    assert ledger.in_flight == 0
    assert ledger.begun == ledger.delivered + ledger.dead_lettered + ledger.skipped + ledger.dropped
    assert worker.deliver.lanes == len(worker.under_way) == 0
    ends = Counter[tuple[str, str]]()
    for name, arrived in world.bus.arrived.items():
        ends.update((name, key) for key in arrived)
    for said in (written.said for written in world.topics.written):
        ends[said.get("pushrail-destination", ""), said["pushrail-origin"]] += 1
    for signal in worker.signals:
        if isinstance(signal, Skipped):
            ends[signal.destination_id or "", str(signal.origin)] += 1
    for partition, log in broker.logs.items():
        assert committed.get(partition, 0) == len(log)
        for given_record in log:
            for name, origin in world.owed(given_record):
                count = ends.pop((name, str(origin)), 0)
                assert count >= 1, f"{origin} to {name} was lost"
                assert count == 1 or partition in broker.ever_gone, f"{origin} to {name} ended {count} times"
    assert not ends
