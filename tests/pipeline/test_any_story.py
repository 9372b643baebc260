"""Random stories: records, buses, documents, crashes, refused writes and rebalances."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, final
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushrail_stream.core import lane
from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Limits, Secret
from pushrail_stream.core.record import Origin, Partition, Record
from pushrail_stream.core.retry import Tier
from pushrail_stream.core.signals import CursorTrimmed, Skipped
from pushrail_stream.eventbridge.error_codes import Answered, CallReply, EntryResult
from pushrail_stream.pipeline.assignment import FlowControl
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.builders import customer_id, destination, modified
from tests.support.fake_ports import Settled
from tests.support.pipeline_world import HANGS, RETRIES, Worker, World
from tests.support.policy import POLICY, buffer_limits, lane_limits, retry_policy
from tests.support.records import (
    DLQ,
    EVENTS,
    P0,
    P1,
    Answer,
    always,
    answered,
    failed,
    fault,
    keys,
    raw,
    record,
    take_all,
)
from tests.support.virtual_time import run, virtual_loop

pytestmark = pytest.mark.unmeasured

DOCUMENTS: Final = (
    destination("one"),
    destination("two", name="a", limits=Limits(max_requests_per_second=5, max_in_flight=2)),
    destination("two", name="b"),
    destination("off", enabled=False),
    destination("picky", event_types=("invoice.*",)),
)
CUSTOMERS: Final = ("one", "one", "two", "off", "picky", "nobody", "poison", "huge")
TIERS: Final = tuple(Tier(tier.topic, min(tier.delay_secs, 300.0)) for tier in POLICY.retry.tiers)
_ALL: Final = (P0, P1, *RETRIES)


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


class Crash(NamedTuple):
    """The worker ends at once, and another begins where the group left off."""


class Refuse(NamedTuple):
    """Kafka refuses copies, or takes them again."""

    on: bool


class Edit(NamedTuple):
    """A live document changes; None deletes it."""

    document: int
    changes: dict[str, object] | None


class Mood(NamedTuple):
    """A bus answers so from now on."""

    document: int
    mood: str


Step = Produce | Wait | Revoke | Lose | Assign | Commit | Crash | Refuse | Edit | Mood
_EVENTS = st.sampled_from([P0, P1])
_ANY = st.sampled_from(_ALL)
_LIVE = st.integers(0, 2)
_MOODS = st.sampled_from(["well", "any", "down", "throttles", "blocks", "hangs", "ours"])
_STEPS = st.one_of(
    st.builds(Produce, _EVENTS, st.lists(st.sampled_from(CUSTOMERS), min_size=1, max_size=25)),
    st.builds(Produce, _EVENTS, st.lists(st.sampled_from(CUSTOMERS), min_size=1, max_size=5)),
    st.builds(Wait, st.sampled_from([0.0, 0.05, 0.1, 0.7, 3.0, 40.0, 130.0])),
    st.builds(Revoke, _ANY, st.sampled_from([0.0, 1.0, 10.0])),
    st.builds(Lose, _ANY),
    st.builds(Assign, _ANY),
    st.builds(Commit),
    st.builds(Crash),
    st.builds(Refuse, st.booleans()),
    st.builds(
        Edit,
        _LIVE,
        st.sampled_from(
            [
                None,
                {},
                {"enabled": False},
                {"source": "a.much.longer.source"},
                {"customer_external_id": customer_id("picky")},
                {"auth": AccessKey("AKIAIOSFODNN7EXAMPLE", Secret("s"))},
            ]
        ),
    ),
    st.builds(Mood, _LIVE, _MOODS),
)


@final
class AnyBus:
    """Every kind of answer, and some that AWS would never give."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._hanging = set[str]()
        self._moods: dict[str, Answer] = {
            "well": take_all,
            "any": self._any,
            "down": always(failed("503", 503)),
            "throttles": lambda batch: take_all(batch) if dice.random() < 0.2 else failed("429", 429),
            "blocks": always(failed("AccessDeniedException", 400)),
            "hangs": take_all,
            "ours": always(failed("InvalidClientTokenId", 403, operation="AssumeRole")),
        }

    def answer(self, name: str, mood: str) -> Answer:
        self._hanging -= {name}
        self._hanging |= {name} if mood == "hangs" else set()
        return self._moods[mood]

    def latency(self, batch: Batch) -> float:
        if batch.destination.id in self._hanging:
            return HANGS
        return self._dice.choice([0.0, 0.01, 0.01, 0.3, 2.0, 25.0])

    def _any(self, batch: Batch) -> CallReply:
        if self._dice.random() < 0.4:
            return take_all(batch)
        return self._dice.choice([self._mixed, self._garbage, self._refused, self._refused])(batch)

    def _mixed(self, batch: Batch) -> CallReply:
        codes = ["ThrottlingException", "InternalFailure", "MalformedDetail", "AccessDeniedException", "New", ""]
        return answered(batch, {key: fault(code) for key in keys(batch) if (code := self._dice.choice(codes))})

    def _garbage(self, batch: Batch) -> CallReply:
        results = [EntryResult("taken", None, None), EntryResult(None, None, None), EntryResult("", None, "?")]
        count = self._dice.randint(0, len(batch.deliveries) + 1)
        return Answered(tuple(self._dice.choice(results) for _ in range(count)), 200, None)

    def _refused(self, _batch: Batch) -> CallReply:
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
class Story:
    """The events topic with its records, the worker that owns partitions now, and its open deliveries."""

    def __init__(self, world: World, moods: Sequence[str], seed: int) -> None:
        self._world = world
        self.dice = random.Random(seed)
        self._bus = AnyBus(self.dice)
        world.bus.latency = self._bus.latency
        world.bus.sessions_are_old = True
        for document, mood in zip(DOCUMENTS, (*moods, "any", "any"), strict=True):
            world.bus.answer(self._bus.answer(document.id, mood), document.id)
        self.logs: dict[Partition, list[Record]] = {P0: [], P1: []}
        self.repeats = False
        """Whether anything may have been delivered twice by now."""
        self.workers: list[Worker] = []
        self._owned = dict.fromkeys(_ALL, 0)
        """The next offset of each owned partition; the worker itself counts those of retry topics."""
        self.owes: dict[Origin, set[Settled]] = {}
        """The deliveries that each event owed when it was read last."""
        self.ever_owed = set[Settled]()

    @property
    def worker(self) -> Worker:
        return self.workers[-1]

    async def play(self, steps: list[Step]) -> None:
        """All steps, with a new worker after every crash; then a good end."""
        left, policy = deque(steps), retry_policy(tiers=TIERS, max_age_secs=self.dice.choice([60.0, 86_400.0]))
        while not self.workers or left:
            self._owned = {p: self._committed(p) for p in _ALL}
            self.repeats |= bool(self.workers)
            async with self._world.worker(
                owns=_ALL,
                batches=lane_limits(max_entries=3, max_bytes=4000),
                limits=buffer_limits(max_events=120, partition_max_offsets=80),
                policy=policy,
                jitter=self.dice.random,
                poll_secs=1.0,
            ) as worker:
                self.workers.append(worker)
                while left and not isinstance(step := left.popleft(), Crash):
                    await self._take(step)
                    self._fetch()
                if not left:
                    await self._end_well()
                    self._judge()

    async def _take(self, step: Step) -> None:
        match step:
            case Produce(partition, customers):
                self._produce(partition, customers)
            case Wait(secs):
                await self.worker.at(virtual_loop().elapsed + secs)
            case Revoke() | Lose():
                await self._take_away(step)
            case Assign(partition):
                self._assign(partition)
            case Commit():
                self.worker.commit()
            case _:
                self._change(step)

    def _change(self, step: Step) -> None:
        """The world outside changes."""
        world = self._world
        match step:
            case Refuse(on):
                world.topics.refuse = lambda: on
            case Edit(number, changes):
                world.directory.remove(DOCUMENTS[number].id)
                if changes is not None:
                    world.directory.put(modified(DOCUMENTS[number], **changes))
            case Mood(number, mood):
                world.bus.answer(self._bus.answer(DOCUMENTS[number].id, mood), DOCUMENTS[number].id)
            case _:
                raise AssertionError(step)

    def _produce(self, partition: Partition, customers: list[str]) -> None:
        log = self.logs[partition]
        log += [_record(partition, offset, customer) for offset, customer in enumerate(customers, len(log))]

    async def _take_away(self, step: Revoke | Lose) -> None:
        if self._owned.pop(step.partition, None) is None:
            return
        self.repeats = True
        if isinstance(step, Revoke):
            await self.worker.give_back(step.partition, deadline_secs=step.deadline_secs)
        else:
            self.worker.lose(step.partition)

    def _assign(self, partition: Partition) -> None:
        if partition not in self._owned:
            self._owned[partition] = self._committed(partition)
            self.worker.assign(partition)

    def _committed(self, partition: Partition) -> int:
        start = self._world.group.get(partition)
        return 0 if start is None else start.offset

    def _fetch(self) -> None:
        """Hand over events as far as the worker has room, twenty of a partition at a time."""
        flow_control: FlowControl = self.worker.event_consumer.flow_control()
        for partition in self.logs.keys() & self._owned.keys():
            left = deque(self.logs[partition][self._owned[partition] :])
            while left and not flow_control.hold and partition not in flow_control.full:
                given = [left.popleft() for _ in range(min(20, len(left)))]
                for new in given:
                    if not self.worker.was_settled(new):
                        self.owes[new.origin] = self._world.owed(new)
                        self.ever_owed |= self.owes[new.origin]
                flow_control = self.worker.feed(*given)
                self._owned[partition] += len(given)

    async def _end_well(self) -> None:
        """The world gets well again, everything has time to end, and then every customer has one event more.

        Together this takes 1,320 s: an idle lane remembers for up to 1,260 s that its destination blocks.
        """
        self._world.topics.refuse = lambda: False
        self._world.bus.answers = {}
        self._world.bus.latency = lambda _batch: 0.01
        for partition in _ALL:
            self._assign(partition)
        await self._let_pass(720)
        before = {name: len(arrived) for name, arrived in self._world.bus.arrived.items()}
        self._produce(P0, ["one", "two"])
        await self._let_pass(600)
        for document in self._world.directory.documents:
            if document.customer_external_id in {"one", "two"} and document.enabled:
                now = len(self._world.bus.arrived[document.id])
                assert now == before.get(document.id, 0) + 1, f"{document.id} works, but was not sent the last event"

    async def _let_pass(self, secs: int) -> None:
        for _ in range(0, secs, 60):
            self._fetch()
            await self.worker.at(virtual_loop().elapsed + 60)

    def _judge(self) -> None:
        world, worker = self._world, self.worker
        committed, ledger = worker.commit(), worker.ledger
        assert ledger.balances
        assert ledger.in_flight == 0
        assert worker.lanes == len(worker.in_flight) == 0
        for partition, log in {**self.logs, **world.topics.retries}.items():
            assert committed.get(partition, 0) == len(log)
        ends = self._ends()
        for debts in self.owes.values():
            for name, origin in debts:
                count = ends.pop((name, origin), 0)
                assert count >= 1, f"{origin} to {name or 'nobody'} was lost"
                assert count == 1 or self.repeats, f"{origin} to {name or 'nobody'} ended {count} times"
        assert ends.keys() <= self.ever_owed

    def _ends(self) -> Counter[Settled]:
        """The number of times that each delivery was delivered, dead-lettered or skipped."""
        ends = Counter[Settled]()
        for name, arrived in self._world.bus.arrived.items():
            ends.update((name, _origin(f"{EVENTS}/{key}")) for key in arrived)
        for said in (written.said for written in self._world.topics.on(DLQ)):
            ends[said.get("pushrail-destination", ""), _origin(said["pushrail-origin"])] += 1
        for worker in self.workers:
            for signal in worker.signals:
                if isinstance(signal, Skipped):
                    ends[signal.destination_id or "", signal.origin] += 1
        return ends


def _origin(text: str) -> Origin:
    topic, partition, offset = text.rsplit("/", 2)
    return Origin(topic, int(partition), int(offset))


def _record(partition: Partition, offset: int, customer: str) -> Record:
    if customer == "poison":
        return raw(offset, b"poison", partition=partition)
    key = f"{partition.number}/{offset}"
    if customer == "huge":
        return record(offset, "one", key=key, partition=partition, padding=9000)
    return record(offset, customer, key=key, partition=partition, padding=offset % 7 * 100)


@settings(max_examples=100, deadline=None)
@given(st.tuples(_MOODS, _MOODS, _MOODS), st.lists(_STEPS, min_size=3, max_size=30), st.integers(0, 2**32))
def test_every_delivery_ends_exactly_once(moods: Sequence[str], steps: list[Step], seed: int) -> None:
    async def story() -> None:
        await Story(World(*DOCUMENTS), moods, seed).play(steps)

    run(story())


SMALL_LANES: Final[dict[str, Any]] = {"ROOM": 4, "LEAST_FILL": 2, "_MAX_FILL": 5, "_GRACE_SECS": 0.5}
NARROW: Final = tuple(replace(one, limits=Limits(max_in_flight=1)) for one in DOCUMENTS)
"""Lanes so small, and destinations so narrow, that some fall behind in almost every story."""
_MANY: Final = st.lists(st.sampled_from(["one", "two", "one", "two", "off", "picky"]), min_size=20, max_size=60)
_SICK: Final = st.sampled_from(["down", "hangs", "ours", "throttles", "any", "blocks", "well"])
_LAGGING: Final = st.one_of(
    st.builds(Produce, _EVENTS, _MANY),
    st.builds(Produce, _EVENTS, _MANY),
    st.builds(Wait, st.sampled_from([0.1, 0.7, 3.0, 9.0])),
    st.builds(Mood, _LIVE, _SICK),
    _STEPS,
)


@settings(max_examples=60, deadline=None)
@given(st.tuples(_SICK, _SICK, _SICK), st.lists(_LAGGING, min_size=8, max_size=30), st.integers(0, 2**32))
def test_no_delivery_is_lost_while_destinations_are_behind(moods: Sequence[str], steps: list[Step], seed: int) -> None:
    async def story() -> None:
        told = Story(World(*NARROW), moods, seed)
        await told.play(steps)
        assert [lost for worker in told.workers for lost in worker.reported(CursorTrimmed)] == []
        assert all(not tracker.cursors for tracker in told.worker.event_consumer.trackers.values())

    with patch.multiple(lane, **SMALL_LANES), patch(f"{__name__}.DOCUMENTS", NARROW):
        run(story())
