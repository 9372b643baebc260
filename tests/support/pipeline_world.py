"""A world for the pipeline, and an account of the real settlements, with which commits are compared.

The peers of its ports are outside and stay; workers come and go on them, as processes do on Kafka and AWS. Between any
two steps of the event loop the worker's ledger has to balance and nothing unsettled may be committable.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, final

from pushrail_stream.core.batch import Batch, LaneLimits
from pushrail_stream.core.commit import Committable, cursors_of, resumed_cursors, settled_map, topic_of, was_recreated
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Decode, Event, decode
from pushrail_stream.core.flood_guard import FloodLimits
from pushrail_stream.core.headers import BadHeader, decode_headers
from pushrail_stream.core.outcome import BusStatus
from pushrail_stream.core.record import Partition, Record, TopicIdentity
from pushrail_stream.core.retry import RetryPolicy
from pushrail_stream.core.signals import CursorTrimmed, Signal, Skipped
from pushrail_stream.pipeline.assignment import Assignment, FlowControl
from pushrail_stream.pipeline.catch_up import Reading
from pushrail_stream.pipeline.engine import Engine
from pushrail_stream.pipeline.policy import BufferLimits, Policy, Ports
from pushrail_stream.ports.pipeline import Observer
from tests.support.builders import VENDOR
from tests.support.fake_ports import HANGS, RETRY_PARTITIONS, Account, Documents, KeptTopics, ScriptedBus, Seen, Settled
from tests.support.flavours import EventBridgeFlavour, Flavour
from tests.support.policy import TIERS, buffer_limits, flood_limits, lane_limits, retry_policy
from tests.support.records import DLQ, EVENTS, P0, Answer
from tests.support.virtual_time import VirtualClock, virtual_loop

__all__ = ["HANGS", "RETRIES", "Seen", "Worker", "World"]

_S = TypeVar("_S")
RETRIES = tuple(Partition(tier.topic, number) for tier in TIERS for number in range(RETRY_PARTITIONS))
"""All partitions of the retry topics."""
_CATCH_UP_SECS = 0.01
"""Time that the catch-up reader takes for one turn."""
_IDLE_SECS = 0.5
"""Time between two questions of the catch-up reader for work."""
_FETCH = 500
"""Records the retry consumer hands over at once."""


@final
class World:
    """The outside of a worker, which outlives it."""

    def __init__(
        self,
        *documents: Destination,
        flavour: type[Flavour] = EventBridgeFlavour,
        answer: Answer | None = None,
        latency: float | Callable[[Batch], float] = 0.01,
        bus_status: BusStatus | None = None,
        sessions_are_old: bool = False,
    ) -> None:
        """``answer`` and ``bus_status`` are those of dst_acme; ``latency``, in seconds, is that of every bus."""
        self.settled = Account()
        self.bus = ScriptedBus(self.settled, flavour())
        self.bus.latency = latency if callable(latency) else lambda _batch: latency
        self.bus.sessions_are_old = sessions_are_old
        if answer is not None:
            self.bus.answer(answer)
        if bus_status is not None:
            self.bus.bus_status["dst_acme"] = bus_status
        self.topics = KeptTopics(self.settled)
        self.directory = Documents(documents)
        self.group: dict[Partition, Committable] = {}
        """The consumer group's commits."""
        self.log: dict[Partition, dict[int, Record]] = {}
        """The records of the events topic that a worker has read, by offset."""
        self.log_starts: dict[Partition, int] = {}
        """The first offsets that Kafka still has, where it has removed some."""
        self.topic_ids: dict[str, TopicIdentity] = {}
        """The topics there are, where the cluster tells."""
        self.decode: Decode = decode
        """Decodes records. Any other decoder reads records whose values may not name their customers."""

    def owed(self, record: Record) -> set[Settled]:
        """The deliveries that have to be settled before this record may be committed."""
        event = self.decode(record.value, record.headers, VENDOR)
        own = {("", record.origin)}
        if record.topic == EVENTS:
            route = self.directory.route(event.vendor, event.customer_external_id) if isinstance(event, Event) else ()
            return {(destination.id, record.origin) for destination in route} or own
        state = decode_headers(record.headers)
        if isinstance(state, BadHeader) or state.destination is None or not isinstance(event, Event):
            return own
        return {(state.destination, state.origin)}

    @asynccontextmanager
    async def worker(self, *, poll_secs: float | None = None, **options: Any) -> AsyncIterator[Worker]:
        """A worker on this world that owns partition 0 (``owns`` says otherwise); ends without draining.

        With ``poll_secs`` it owns the retry topics too, and reads them so often.
        """
        owns: Iterable[Partition] = options.pop("owns", (P0,))
        own_error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                worker = Worker(self, tasks, **options)
                worker.assign(*owns)
                retries = None
                if poll_secs is not None:
                    worker.assign(*RETRIES)
                    retries = tasks.create_task(worker.read_retries(poll_secs))
                catching_up = tasks.create_task(worker.catch_up())
                virtual_loop().after_each_step(worker.check)
                try:
                    yield worker
                except BaseException as error:
                    own_error = error
                    raise
                finally:
                    virtual_loop().after_each_step(None)
                    catching_up.cancel()
                    if retries is not None:
                        retries.cancel()
                    worker.engine.stop()
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
        limits: BufferLimits | None = None,
        flood: FloodLimits | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        dead_letter_unrouted: bool = False,
        observe: Observer = lambda _signal: None,
        consumed: Observer | None = None,
    ) -> None:
        self.world = world
        self.signals = Seen()
        self.positions: dict[Partition, int] = {}
        """The next offsets of the retry topics."""
        self._also = observe
        self._open: dict[Partition, dict[int, set[Settled]]] = {}
        """The open deliveries of each record that was read, by offset."""
        self._on_cursors: dict[tuple[Partition, int], set[Settled]] = {}
        """The deliveries that the cursors of a resumed commit had to make."""
        self._owing: dict[Settled, list[tuple[Partition, int]]] = {}
        """Which records owe it."""
        self._accounted = 0
        """The number of the world's settlements that are taken into account."""
        self._seen: object = None
        self._last: dict[Partition, int] = {}
        self._read_to: dict[Partition, int] = {}
        self._resumed: dict[Partition, frozenset[int]] = {}
        limits = limits or buffer_limits()
        self.clock = VirtualClock()
        self.engine = Engine(
            Ports(world.bus, world.directory, world.topics, self.clock, jitter, self._see, consumed=consumed),
            Policy(
                vendor=VENDOR,
                decode=world.decode,
                names_customers=world.decode is decode,
                dead_letter_unrouted=dead_letter_unrouted,
                dlq=DLQ,
                lanes=batches or lane_limits(),
                retry=policy or retry_policy(),
                event_buffer=limits,
                retry_buffer=limits,
                flood=flood or flood_limits(),
            ),
            tasks,
        )
        self._wanted = asyncio.Event()
        """Set when the catch-up reader may have to read."""
        self.ledger, self.in_flight = self.engine.ledger, self.engine.in_flight
        self.dispatcher, self.bus_monitor = self.engine.dispatcher, self.engine.bus_monitor
        self.event_consumer, self.retry_consumer = self.engine.events, self.engine.retries
        world.directory.changed = self.dispatcher.documents_changed

    @property
    def lanes(self) -> int:
        """Destinations with a lane."""
        return len(self.dispatcher.lanes)

    def assign(self, *partitions: Partition) -> None:
        """The group gives us partitions, where it left them."""
        cursors = dict[Partition, Sequence[CursorState]]()
        for partition in partitions:
            start = self.world.group.get(partition)
            self._resumed[partition] = frozenset(
                () if start is None else settled_map(self.world.topic_ids.get(partition.topic), start).offsets
            )
            self._begin_anew(partition)
            cursors[partition] = self._resume_cursors(partition, start)
            if partition.topic != EVENTS:
                self.positions[partition] = 0 if start is None else start.offset
        for assignment, members in self._split(partitions):
            group = {partition: self.world.group.get(partition) for partition in members}
            for partition in assignment.assigned(group, self.world.topic_ids, cursors):
                del self.world.group[partition]

    def feed(self, *given: Record) -> FlowControl:
        """The consumer of the events topic hands over records."""
        return self._feed(self.event_consumer, given)

    def feed_retries(self, *given: Record) -> FlowControl:
        """The consumer of the retry topics hands over records."""
        return self._feed(self.retry_consumer, given)

    async def read_retries(self, poll_secs: float) -> None:
        """Be the consumer of the retry topics: hand over their records, as far as they are wanted, and commit."""
        while True:
            self.turn_retries()
            self._commit(self.retry_consumer)
            await asyncio.sleep(poll_secs)

    def turn_retries(self) -> None:
        """Hand over new records of the retry topics once."""
        flow_control = self.retry_consumer.flow_control()
        for partition, position in list(self.positions.items()):
            given = self.world.topics.retries[partition][position : position + _FETCH]
            if given and not flow_control.hold and partition not in flow_control.full:
                self.positions[partition] += len(given)
                flow_control = self.feed_retries(*given)

    async def catch_up(self) -> None:
        """Be the catch-up reader: hand over the records that cursors want, and wait while they want none."""
        catch_up, wanted = self.engine.catch_up, self._wanted
        catch_up.woken = wanted.set
        while True:
            plan = catch_up.plan()
            while plan:
                readings = [self._reread(partition, start) for partition, start in plan.items()]
                plan = catch_up.accept([reading for reading in readings if reading is not None])
                await asyncio.sleep(_CATCH_UP_SECS)
            with suppress(TimeoutError):
                await asyncio.wait_for(wanted.wait(), _IDLE_SECS if catch_up.has_cursors else None)
            wanted.clear()

    def _reread(self, partition: Partition, start: int) -> Reading | None:
        first = self.world.log_starts.get(partition, 0)
        log = self.world.log.get(partition, {}).items()
        given = [record for offset, record in log if offset >= max(start, first)][:_FETCH]
        if not given and first <= start:
            return None
        end = given[-1].offset + 1 if given else first
        return Reading(partition, start, end, given, first, self.engine.catch_up.logs.get(partition))

    def commit(self) -> dict[Partition, int]:
        """The consumers' tick: commit the committable offsets. The group's offsets in all partitions."""
        for assignment in (self.event_consumer, self.retry_consumer):
            self._commit(assignment)
        return {partition: committable.offset for partition, committable in self.world.group.items()}

    def check_all_committed(self) -> None:
        """The retry topics are committed to their ends."""
        committed = self.commit()
        for partition, log in self.world.topics.retries.items():
            assert committed.get(partition, 0) == len(log), partition

    def recreate(self, topic: str, identity: TopicIdentity) -> None:
        """The topic is deleted and created again, and the consumer learns of it and goes to its beginning."""
        self.world.topic_ids[topic] = identity
        for assignment in (self.event_consumer, self.retry_consumer):
            recreated = assignment.recreated(self.world.topic_ids)
            for partition in recreated:
                self.world.group.pop(partition, None)
                self._resumed[partition] = frozenset()
                self._begin_anew(partition)
            assignment.restart(recreated)

    async def give_back(self, *partitions: Partition, deadline_secs: float = 10.0) -> None:
        """A rebalance asks for partitions: drain, commit, forget."""
        for partition in partitions:
            self.positions.pop(partition, None)
        for assignment, members in self._split(partitions):
            commits = await assignment.revoked(members, deadline_secs=deadline_secs)
            self._committed(commits)
            self._forget(members)

    def lose(self, *partitions: Partition) -> None:
        """A rebalance took partitions away without asking."""
        for assignment, members in self._split(partitions):
            assignment.lost(members)
            self._forget(members)

    async def at(self, secs: float) -> None:
        """Let time go by until this moment (seconds since the beginning), whatever was to happen then included."""
        await asyncio.sleep(max(0.0, round(secs - virtual_loop().elapsed, 6)))
        for _ in range(10):
            await asyncio.sleep(0)

    async def feed_until(self, secs: float, *given: Record) -> None:
        """Hand over records of the events topic, then let time go by as `at` does."""
        self.feed(*given)
        await self.at(secs)

    def was_settled(self, record: Record) -> bool:
        """Whether an earlier owner of its partition said so with the commit this assignment began at."""
        return record.offset in self._resumed[Partition(record.topic, record.partition)]

    def check(self) -> None:
        """The invariants that hold at every moment."""
        assert self.ledger.balances, self.ledger
        if self._seen != (seen := (dataclasses.astuple(self.ledger), len(self.world.settled))):
            self._seen = seen
            self._verify(self.event_consumer.committable())
            self._verify(self.retry_consumer.committable())

    def reported(self, kind: type[_S]) -> list[_S]:
        """The signals of this kind, in order."""
        return [signal for signal in self.signals if isinstance(signal, kind)]

    def _resume_cursors(self, partition: Partition, start: Committable | None) -> Sequence[CursorState]:
        """The cursors of a commit. Its events below the commit are owed again."""
        if start is None:
            return ()
        topic = self.world.topic_ids.get(partition.topic)
        states = resumed_cursors(start, topic, lambda _at_ms: None)
        if was_recreated(topic_of(start), topic):
            return states
        named = {state.destination_id: state for state in states}
        self._account()
        for offset, record in self.world.log.get(partition, {}).items():
            owed = {debt for debt in self.world.owed(record) if debt[0] in named and named[debt[0]].covers(offset)}
            if owed:
                self._open[partition][offset] = set(owed)
                self._on_cursors[partition, offset] = owed
                for debt in owed:
                    self._owing.setdefault(debt, []).append((partition, offset))
        return states

    def _begin_anew(self, partition: Partition) -> None:
        self._open[partition] = {}
        self._on_cursors = {place: owed for place, owed in self._on_cursors.items() if place[0] != partition}
        self._last[partition] = 0
        self._read_to[partition] = 0

    def _split(self, partitions: Iterable[Partition]) -> list[tuple[Assignment, list[Partition]]]:
        parts: list[tuple[Assignment, list[Partition]]] = [
            (self.event_consumer, [partition for partition in partitions if partition.topic == EVENTS]),
            (self.retry_consumer, [partition for partition in partitions if partition.topic != EVENTS]),
        ]
        return [(assignment, members) for assignment, members in parts if members]

    def _feed(self, assignment: Assignment, given: Iterable[Record]) -> FlowControl:
        given = list(given)
        self._account()
        for record in given:
            partition = Partition(record.topic, record.partition)
            if record.offset < self._read_to.get(partition, 0):
                self.world.group.pop(partition, None)
                self._begin_anew(partition)
            self._read_to[partition] = record.offset + 1
            if record.topic == EVENTS:
                self.world.log.setdefault(partition, {})[record.offset] = record
            if partition in self._open and record.offset not in self._resumed[partition]:
                self._owe(partition, record)
        return assignment.accept(given)

    def _owe(self, partition: Partition, record: Record) -> None:
        """The record's deliveries are owed, but for those that a cursor has made ahead of the live reader."""
        still_open = self._open[partition]
        known = self._on_cursors.get((partition, record.offset), set())
        new = self.world.owed(record) - known
        if owed := new | (known & still_open.get(record.offset, set())):
            still_open[record.offset] = owed
        for debt in new:
            self._owing.setdefault(debt, []).append((partition, record.offset))

    def _give_up(self, trimmed: CursorTrimmed) -> None:
        """Events of a cursor that Kafka does not have any more are not owed."""
        log, first = self.world.log.get(trimmed.partition, {}), self.world.log_starts.get(trimmed.partition, 0)
        still_open = self._open[trimmed.partition]
        for offset in [offset for offset in still_open if trimmed.start <= offset < trimmed.end]:
            if offset < first or offset not in log:
                still_open[offset] = {debt for debt in still_open[offset] if debt[0] != trimmed.destination_id}
                if not still_open[offset]:
                    del still_open[offset]

    def _see(self, signal: Signal) -> None:
        assert self.ledger.balances, (signal, self.ledger)
        if isinstance(signal, CursorTrimmed) and signal.partition in self._open:
            self._give_up(signal)
        if isinstance(signal, Skipped):
            self.world.settled.append((signal.destination_id or "", signal.origin))
        self.signals(signal)
        self._also(signal)

    def _account(self) -> None:
        """Take new settlements into account: no record owes them any more."""
        settled, self._accounted = self.world.settled[self._accounted :], len(self.world.settled)
        for debt in settled:
            for partition, offset in self._owing.pop(debt, ()):
                still_open = self._open.get(partition, {})
                owed = still_open.get(offset, set())
                owed.discard(debt)
                if not owed:
                    still_open.pop(offset, None)

    def _verify(self, commits: Iterable[tuple[Partition, Committable]]) -> None:
        self._account()
        for partition, committable in commits:
            still_open = self._open[partition]
            named = {state.destination_id: state for state in cursors_of(committable)}
            uncovered = {
                offset
                for offset, owed in still_open.items()
                if not all(name in named and named[name].covers(offset) for name, _ in owed)
            }
            assert all(committable.offset <= offset for offset in uncovered), (partition, committable, still_open)
            told = settled_map(self.world.topic_ids.get(partition.topic), committable).offsets
            assert uncovered.isdisjoint(told), (partition, committable, still_open)
            assert committable.offset >= self._last[partition], (partition, committable, self._last)
            self._last[partition] = committable.offset

    def _commit(self, assignment: Assignment) -> None:
        self._committed(commits := assignment.committable())
        assignment.committed(commits)

    def _committed(self, commits: Sequence[tuple[Partition, Committable]]) -> None:
        self._verify(commits)
        for partition, committable in commits:
            before = self.world.group.get(partition)
            assert before is None or committable.offset >= before.offset, f"{partition} went back"
            self.world.group[partition] = committable

    def _forget(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._open.pop(partition, None)
            self.positions.pop(partition, None)
