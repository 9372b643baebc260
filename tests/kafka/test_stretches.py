"""Records read again for destinations that are behind: nothing between two places is missed, and the rest is kept."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pushrail_stream.core.record import Partition
from pushrail_stream.kafka import client_properties, stretches
from pushrail_stream.kafka.stretches import Stretches, StuckConsumerError
from pushrail_stream.pipeline.catch_up import Reading
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.patience import PATIENCE_SECS

COUNT = 3_000
FETCH_BYTES = 16_384


def fill(bootstrap: str, topic: str, count: int) -> None:
    """Give partitions 0 and 1 this number of records each, whose values are their offsets."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "batch.num.messages": 50, "max.in.flight": 1})
    for number in range(count):
        for partition in (0, 1):
            producer.produce(topic, f"{number:0200}", partition=partition)
        producer.poll(0)
    assert producer.flush(PATIENCE_SECS) == 0


def reader(bootstrap: str) -> Consumer:
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    sizes = client_properties.fetch_sizes(kafka, FETCH_BYTES)
    return Consumer(client_properties.reader(kafka, "stretches", {"fetch.wait.max.ms": 50, **sizes}))


def read(reading: Stretches, plan: Mapping[Partition, int]) -> Mapping[Partition, Reading]:
    """Read until each of these places has a reading."""
    deadline = time.monotonic() + PATIENCE_SECS
    while len(found := {one.partition: one for one in reading.read(plan, {})}) < len(plan):
        assert time.monotonic() < deadline
    assert not reading.failed
    return found


def read_more_than(count: int, reading: Stretches, partition: Partition) -> Reading:
    """Read on until one reading has more records than this. The first fetch may bring a single one."""
    found = read(reading, {partition: 0})[partition]
    while len(found.records) <= count:
        found = read(reading, {partition: found.end})[partition]
    return found


def numbers(reading: Reading) -> Sequence[int]:
    assert all(record.offset == int(record.value or b"") for record in reading.records)
    return [record.offset for record in reading.records]


@pytest.fixture
def topic(embedded_broker: EmbeddedBroker) -> str:
    name = f"stretches-{random.randrange(10**9)}"
    embedded_broker.create_topic(name, 2)
    fill(embedded_broker.bootstrap_servers, name, COUNT)
    return name


def test_every_reading_has_all_records_of_its_stretch(embedded_broker: EmbeddedBroker, topic: str) -> None:
    draw = random.Random(7)
    both = [Partition(topic, 0), Partition(topic, 1)]
    places = dict.fromkeys(both, 0)
    with reader(embedded_broker.bootstrap_servers) as consumer:
        reading = Stretches(consumer)
        for _ in range(150):
            wanted = {partition: places[partition] for partition in draw.sample(both, draw.randint(1, 2))}
            for partition, found in read(reading, wanted).items():
                assert found.start == wanted[partition]
                assert numbers(found) == list(range(found.start, found.end))
                places[partition] = draw.choice([
                    found.end % COUNT, found.start + (found.end - found.start) // 3, draw.randrange(COUNT),
                ])  # fmt: skip


def test_the_rest_of_a_stretch_is_kept(embedded_broker: EmbeddedBroker, topic: str) -> None:
    one, other = Partition(topic, 0), Partition(topic, 1)
    with reader(embedded_broker.bootstrap_servers) as consumer:
        reading = Stretches(consumer)
        first = read_more_than(10, reading, one)
        for _ in range(5):  # meanwhile only the other partition is wanted
            read(reading, {other: 0})
        place = first.start + 10
        again = reading.read({one: place}, {})[0]
        assert (again.start, again.records[0].offset) == (place, place)
        assert again.end >= first.end, "nothing was fetched again"


def test_a_partition_that_is_not_wanted_is_read_to_a_bound_only(embedded_broker: EmbeddedBroker, topic: str) -> None:
    one, other = Partition(topic, 0), Partition(topic, 1)
    with reader(embedded_broker.bootstrap_servers) as consumer:
        reading = Stretches(consumer)
        place = read(reading, {one: 0, other: 0})[other].end
        while place < COUNT - 100:
            place = read(reading, {other: place})[other].end
        kept = reading.read({one: 0}, {})[0]
        assert numbers(kept) == list(range(kept.end))
        assert kept.end < COUNT


def test_large_records_that_nobody_wants_are_forgotten(
    embedded_broker: EmbeddedBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "_KEPT_BYTES", 1_000)
    one, other = Partition(topic, 0), Partition(topic, 1)
    with reader(embedded_broker.bootstrap_servers) as consumer:
        reading = Stretches(consumer)
        read(reading, {one: 0})
        read(reading, {other: 0})
        again = read(reading, {one: 5})[one]
        assert numbers(again) == list(range(5, again.end))


def test_records_that_were_offered_in_vain_are_read_anew(embedded_broker: EmbeddedBroker, topic: str) -> None:
    """They may be those of a log that Kafka has lost since."""
    partition = Partition(topic, 0)
    with reader(embedded_broker.bootstrap_servers) as consumer:
        reading = Stretches(consumer)
        first = read(reading, {partition: 0})[partition]
        again = read(reading, {partition: 0})[partition]
        assert numbers(first)[:1] == numbers(again)[:1] == [0]
        assert first.records[0] is not again.records[0]
        while len(again.records) < 2:  # a fetch may bring a single record
            again = read(reading, {partition: 0})[partition]
        kept = read(reading, {partition: 1})[partition]
        assert kept.records[0] is again.records[1]


def test_a_client_that_does_not_end_a_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its position may be that of the earlier reading: what lies between would be passed over unread."""

    class Stuck:
        def incremental_assign(self, _places: list[TopicPartition]) -> None:
            pass

        incremental_unassign = incremental_assign

        def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
            return [TopicPartition(place.topic, place.partition, 900) for place in places]

        def get_watermark_offsets(self, _place: TopicPartition, *, cached: bool) -> tuple[int, int]:
            assert cached
            return (0, 1000)

        def poll(self, _secs: float) -> None:
            return None

    monkeypatch.setattr(stretches, "_STOP_SECS", 0.01)
    reading, partition = Stretches(Stuck()), Partition("events", 0)  # type: ignore[arg-type]
    reading.read({partition: 900}, {})
    with pytest.raises(StuckConsumerError):
        reading.read({partition: 500}, {})


class Scripted:
    """A consumer that brings the next given records after each beginning."""

    def __init__(self, *given: Sequence[tuple[int, int]], markers: Sequence[tuple[int, int]] = ()) -> None:
        """``markers``: position and leader epoch behind a marker that comes after the records of each beginning."""
        self._given = list(given)
        self._markers = list(markers)
        self._marker: tuple[int, int] | None = None
        self._left: list[Message] = []
        self.begun: list[int] = []

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.begun.append(places[0].offset)
        self._left = [
            Message("events", 0, offset, b"", str(offset).encode(), leader_epoch=epoch)
            for offset, epoch in self._given.pop(0)
        ]
        self._marker = self._markers.pop(0) if self._markers else None

    def incremental_unassign(self, _places: list[TopicPartition]) -> None:
        self._left, self._marker = [], None

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        if self._marker is None or self._left:
            return [TopicPartition(place.topic, place.partition) for place in places]
        offset, epoch = self._marker
        return [TopicPartition(place.topic, place.partition, offset, "", epoch) for place in places]

    def get_watermark_offsets(self, _place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return (0, 100)

    def poll(self, _secs: float) -> Message | None:
        return self._left.pop(0) if self._left else None

    def consume(self, count: int, _secs: float) -> list[Message]:
        taken, self._left = self._left[:count], self._left[count:]
        return taken


OLD, NEW = 4, 5
"""Leader epochs."""


def test_records_of_an_earlier_log_are_read_anew() -> None:
    """Kafka may have lost its records since: a leader was elected, or the partition was not ours for a while."""
    partition = Partition("events", 0)
    consumer = Scripted([(n, OLD) for n in range(3, 9)], [(n, NEW) for n in range(5, 9)])
    reading = Stretches(consumer)  # type: ignore[arg-type]
    [first] = reading.read({partition: 3}, {}, {partition: 1})
    assert (numbers(first), first.log) == ([3, 4, 5, 6, 7, 8], 1)
    assert numbers(reading.read({partition: 4}, {}, {partition: 1})[0]) == [4, 5, 6, 7, 8]
    [again] = reading.read({partition: 5}, {}, {partition: 2})
    assert (numbers(again), again.log) == ([5, 6, 7, 8], 2)
    assert {record.leader_epoch for record in again.records} == {NEW}


def test_records_that_the_client_throws_away_at_an_election_are_read_again() -> None:
    """The log has lost its end, from 8 on. librdkafka goes on there and forgets the records that it had fetched."""
    consumer, partition = (
        Scripted([(3, OLD), (8, NEW)], [(4, OLD), (5, OLD), (6, OLD), (7, OLD), (8, NEW)]),
        Partition("events", 0),
    )
    reading = Stretches(consumer)  # type: ignore[arg-type]
    assert numbers(reading.read({partition: 3}, {})[0]) == [3]
    assert numbers(reading.read({partition: 4}, {})[0]) == [4, 5, 6, 7, 8]
    assert consumer.begun == [3, 4]


def test_a_new_leaders_marker_does_not_hide_what_the_client_threw_away() -> None:
    """The log has lost its end, from 8 on, and a transaction ends there before any other record comes."""
    marker, partition = (9, NEW), Partition("events", 0)
    consumer = Scripted([(3, OLD)], [(4, OLD), (5, OLD), (6, OLD), (7, OLD)], [], markers=[marker] * 3)
    reading = Stretches(consumer)  # type: ignore[arg-type]
    assert numbers(reading.read({partition: 3}, {})[0]) == [3]
    assert numbers(reading.read({partition: 4}, {})[0]) == [4, 5, 6, 7]
    assert reading.read({partition: 8}, {}) == [Reading(partition, 8, 9, (), epoch=NEW)]
    assert consumer.begun == [3, 4, 8]


def test_a_gap_that_comes_twice_is_the_logs() -> None:
    consumer, partition = Scripted([(3, OLD), (8, NEW), (9, NEW)], [(8, NEW), (9, NEW)]), Partition("events", 0)
    reading = Stretches(consumer)  # type: ignore[arg-type]
    assert numbers(reading.read({partition: 3}, {})[0]) == [3]
    assert numbers(reading.read({partition: 4}, {})[0]) == [8, 9]
    assert consumer.begun == [3, 4]


def test_a_gap_that_comes_again_from_another_leader_is_read_once_more() -> None:
    """The log is cut off at the same offset twice, and the client throws away what it had fetched both times."""
    newest, partition = NEW + 1, Partition("events", 0)
    consumer = Scripted([(3, OLD), (8, NEW)], [(8, newest)], [*((n, OLD) for n in range(4, 8)), (8, newest)])
    reading = Stretches(consumer)  # type: ignore[arg-type]
    assert numbers(reading.read({partition: 3}, {})[0]) == [3]
    assert reading.read({partition: 4}, {}) == []
    assert numbers(reading.read({partition: 4}, {})[0]) == [4, 5, 6, 7, 8]


def test_a_gap_between_records_of_one_leader_is_the_logs() -> None:
    consumer, partition = Scripted([(3, OLD), (8, OLD)]), Partition("events", 0)
    assert numbers(Stretches(consumer).read({partition: 3}, {})[0]) == [3, 8]  # type: ignore[arg-type]


@pytest.mark.kafka
@pytest.mark.parametrize("first", [100, 200], ids=["in part", "altogether"])
def test_what_retention_has_removed_is_passed(real_kafka: str, first: int) -> None:
    topic = f"stretches-{random.randrange(10**9)}"
    admin = AdminClient({"bootstrap.servers": real_kafka, "log_level": 0})
    for made in admin.create_topics([NewTopic(topic, 2, 1)]).values():
        made.result()
    fill(real_kafka, topic, 200)
    for removed in admin.delete_records([TopicPartition(topic, 0, first)]).values():
        removed.result()
    partition = Partition(topic, 0)
    with reader(real_kafka) as consumer:
        found = read(Stretches(consumer), {partition: 20})[partition]
    assert (found.start, found.first) == (20, first)
    assert numbers(found) == list(range(first, found.end))
    for gone in admin.delete_topics([topic]).values():
        gone.result()
