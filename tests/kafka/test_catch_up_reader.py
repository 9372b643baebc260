"""The reader of cursors, on the embedded broker: what was asked for comes, and a failure ends it loudly."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.signals import KafkaTrouble, Signal
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import catch_up_reader, stretches
from pushrail_stream.kafka.catch_up_reader import CatchUpReader
from pushrail_stream.kafka.stretches import StuckConsumerError
from pushrail_stream.pipeline.catch_up import Reading
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.patience import PATIENCE_SECS


class Wanting:
    """As `CatchUp`: wants a partition's records from `place` to `end`, at most ``most`` of each reading."""

    def __init__(self, partition: Partition, end: int, most: int = 70) -> None:
        self._partition = partition
        self.end = end
        self._most = most
        self.place = 0
        self.offsets: list[int] = []
        self.stepped_over: list[tuple[Partition, int]] = []
        self.woken: Callable[[], None] = lambda: None
        self.plans = 0
        self.logs: Mapping[Partition, int] = {}

    @property
    def has_cursors(self) -> bool:
        return self.place < self.end

    def plan(self) -> Mapping[Partition, int]:
        self.plans += 1
        return {self._partition: self.place} if self.place < self.end else {}

    def accept(self, readings: Sequence[Reading]) -> Mapping[Partition, int]:
        for reading in readings:
            assert reading.start == self.place
            taken = [record.offset for record in reading.records if record.offset < self.end][: self._most]
            self.offsets += taken
            self.place = taken[-1] + 1 if taken else reading.end
        return self.plan()

    def step_over(self, partition: Partition, start: int, end: int) -> None:
        assert self.place <= start < end
        self.stepped_over.append((partition, end))
        self.place = end


class World:
    """A topic with 400 records, and a reader for whoever wants them."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.topic = uuid.uuid4().hex
        self.signals: list[Signal] = []
        self.identities: Any = SimpleNamespace(known={self.topic: TopicIdentity("cluster", "topic")})
        self._bootstrap = broker.bootstrap_servers
        broker.create_topic(self.topic, 1)
        producer = Producer({"bootstrap.servers": self._bootstrap, "log_level": 0})
        for number in range(400):
            producer.produce(self.topic, str(number))
        assert producer.flush(PATIENCE_SECS) == 0

    def wanting(self, end: int = 400) -> Wanting:
        return Wanting(Partition(self.topic, 0), end)

    def reader(self, catch_up: Wanting) -> CatchUpReader:
        kafka = KafkaSettings(bootstrap_servers=self._bootstrap)
        return CatchUpReader(kafka, self.topic, catch_up, self.signals.append, self.identities)  # type: ignore[arg-type]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECS):
        while not holds():  # noqa: ASYNC110 - the thread under test sets no event
            await asyncio.sleep(0.01)


async def test_each_record_comes_once_and_in_order(embedded_broker: EmbeddedBroker) -> None:
    world = World(embedded_broker)
    catch_up = world.wanting(300)
    async with asyncio.TaskGroup() as tasks:
        reader = world.reader(catch_up)
        tasks.create_task(reader.run())
        await until(lambda: catch_up.place == 300)
        catch_up.end = 400
        catch_up.woken()
        await until(lambda: catch_up.place == 400)
        reader.stop()
    assert catch_up.offsets[:300] == list(range(300))
    assert catch_up.offsets[-100:] == list(range(300, 400))


async def test_records_that_cannot_be_taken_yet_are_not_read_again_all_the_time(
    embedded_broker: EmbeddedBroker,
) -> None:
    world = World(embedded_broker)
    catch_up = world.wanting()
    take, offered = catch_up.accept, list[int]()

    def refuse(readings: Sequence[Reading]) -> Mapping[Partition, int]:
        offered.extend(len(reading.records) for reading in readings)
        return catch_up.plan()

    catch_up.accept = refuse  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as tasks:
        reader = world.reader(catch_up)
        tasks.create_task(reader.run())
        await until(lambda: sum(offered) > 0)
        await asyncio.sleep(1.2)
        assert len(offered) <= 4, "it waits half a second each time"
        catch_up.accept = take  # type: ignore[method-assign]
        await until(lambda: catch_up.place == 400)
        reader.stop()
    assert catch_up.offsets == list(range(400))


async def test_an_idle_client_is_closed_and_another_one_reads_on(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up_reader, "_KEPT_SECS", 0.0)
    world = World(embedded_broker)
    catch_up = world.wanting(200)
    async with asyncio.TaskGroup() as tasks:
        reader = world.reader(catch_up)
        tasks.create_task(reader.run())
        await until(lambda: catch_up.place == 200)
        await asyncio.sleep(0.1)
        catch_up.end = 400
        catch_up.woken()
        await until(lambda: catch_up.place == 400)
        reader.stop()
    assert sorted(set(catch_up.offsets)) == list(range(400))


async def test_nothing_is_looked_at_while_no_destination_is_behind(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up_reader, "_IDLE_SECS", 0.001)
    world = World(embedded_broker)
    catch_up = world.wanting(0)
    async with asyncio.TaskGroup() as tasks:
        reader = world.reader(catch_up)
        tasks.create_task(reader.run())
        await until(lambda: catch_up.plans == 1)
        await asyncio.sleep(0.1)
        assert catch_up.plans == 1
        catch_up.end = 400
        catch_up.woken()
        await until(lambda: catch_up.place == 400)
        reader.stop()
    assert catch_up.offsets == list(range(400))


async def test_a_cancelled_reader_ends_while_no_destination_is_behind(embedded_broker: EmbeddedBroker) -> None:
    world = World(embedded_broker)
    catch_up = world.wanting(0)
    async with asyncio.timeout(PATIENCE_SECS), asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(world.reader(catch_up).run())
        await until(lambda: catch_up.plans == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


@pytest.mark.parametrize("trouble", ["stuck", "recreated"])
async def test_a_client_of_no_use_is_replaced(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    world = World(embedded_broker)
    catch_up, made = world.wanting(), 0

    class Stretches(stretches.Stretches):  # type: ignore[misc]
        def __init__(self, consumer: Any) -> None:
            nonlocal made
            made += 1
            super().__init__(consumer)

        def read(self, plan: Any, *more: Any) -> Any:
            if made == 1 and catch_up.place:
                if trouble == "stuck":
                    raise StuckConsumerError
                world.identities.known = {world.topic: TopicIdentity("cluster", "recreated")}
            return super().read(plan, *more)

    monkeypatch.setattr(catch_up_reader, "Stretches", Stretches)
    async with asyncio.TaskGroup() as tasks:
        reader = world.reader(catch_up)
        tasks.create_task(reader.run())
        await until(lambda: catch_up.place == 400)
        reader.stop()
    assert made == 2
    assert catch_up.offsets == list(range(400))
    assert any(isinstance(signal, KafkaTrouble) for signal in world.signals) == (trouble == "stuck")


async def test_a_refusal_ends_the_reader_and_the_worker() -> None:
    with BreakableBroker.start({}) as broker:
        world = World(broker)
        broker.push_request_errors(ApiKey.FETCH, *[KafkaError.TOPIC_AUTHORIZATION_FAILED] * 20)
        async with asyncio.timeout(PATIENCE_SECS):
            with pytest.raises(OperatorError, match="refuses this consumer for good"):
                await world.reader(world.wanting()).run()


async def test_a_batch_that_cannot_be_read_is_stepped_over(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(embedded_broker)
    catch_up, told = world.wanting(), [OperatorError("nothing came for 15 s"), None]

    def end_of_unreadable(_kafka: KafkaSettings, partition: Partition, offset: int) -> int:
        assert (partition.topic, offset) == (world.topic, 0)
        if failure := told.pop(0):
            raise failure
        return 100

    class Unreadable(stretches.Stretches):  # type: ignore[misc]
        def read(self, plan: Any, *more: Any) -> Any:
            partition = Partition(world.topic, 0)
            if plan[partition] == 0:
                self.failed[:] = [(partition, 0, KafkaError(KafkaError._BAD_COMPRESSION))]
                return []
            return super().read(plan, *more)

    monkeypatch.setattr(catch_up_reader, "end_of_unreadable", end_of_unreadable)
    monkeypatch.setattr(catch_up_reader, "Stretches", Unreadable)
    async with asyncio.TaskGroup() as tasks:
        reader = world.reader(catch_up)
        tasks.create_task(reader.run())
        await until(lambda: catch_up.place == 400)
        reader.stop()
    assert catch_up.stepped_over == [(Partition(world.topic, 0), 100)]
    assert catch_up.offsets == list(range(100, 400))
    assert [s.problem for s in world.signals if isinstance(s, KafkaTrouble)] == [
        f"{world.topic}/0: nothing came for 15 s"
    ]
