"""Producers of events: programs of the vendor that write to the topic of events with a Kafka client of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from tests.simulation.kafka.partition_log import Headers as LogHeaders
from tests.simulation.kafka.partition_log import NewRecord
from tests.simulation.people.drawing import EVENTS
from tests.simulation.people.events import Sent, good_event, large_event, odd_event
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import Draw, Plan, between, chance, number, one_of

if TYPE_CHECKING:
    from tests.simulation.world import World

_WAIT_SECS: Final = 30.0
"""Longest wait of a producer for Kafka, in virtual seconds."""
_GROUP: Final = 7
"""Events of one transaction."""
_MAKE_UP_SECS: Final = 20.0
"""Virtual seconds in which a producer sends the events that are missing. It begins a minute before the end."""
_SIZES: Final = {"message.max.bytes": 2_200_000}
"""As large as the topic's limit, so that Kafka takes events that are too large for EventBridge."""


def _a_customer(dice: Random, plan: Plan) -> str | None:
    return dice.choice(plan.customers) if dice.random() < 0.25 else None


def _any_customer(dice: Random, plan: Plan) -> str:
    return dice.choice(plan.customers)


_SHARES: Final[Draw] = one_of(0.0, 0.0, 0.02, 0.1)


@trouble(0, least="calm", count=number(20, 100), secs=between(1, 60), hot=_a_customer, odd=_SHARES, repeats=_SHARES,
         transactions=chance(0.15))  # fmt: skip
def produce_events(
    world: World, *, count: int, secs: float, hot: str | None, odd: float, repeats: float, transactions: bool
) -> None:
    """A producer sends ``count`` events in ``secs``. ``hot``: the customer that most of them are for."""
    host = world.new_host("producer")
    dice = world.plan.dice(host.name)
    events = _events(world, dice, host.name, count, hot, odd, repeats)
    host.start(_send_in_transactions if transactions else send_events, world, dice, host.name, events, secs / count)


@trouble(1.0, least="rough", count=number(30, 250))
def produce_poison(world: World, *, count: int) -> None:
    """A release of a producer is at fault: none of its events can be decoded."""
    host = world.new_host("producer")
    dice = world.plan.dice(host.name)
    customers = world.plan.customers
    events = (
        Sent("poison", dice.choice(customers).encode(), f"poison {host.name}-{n}".encode(), [], f"{host.name}-{n}")
        for n in range(count)
    )
    host.start(send_events, world, dice, host.name, events, 0.05)


@trouble(0, count=number(50, 150), customer=_any_customer)
def produce_large_events(world: World, *, count: int, customer: str) -> None:
    """A customer moves its archive: a burst of large events, all in one partition."""
    host = world.new_host("producer")
    dice = world.plan.dice(host.name)
    events = (large_event(dice, customer, f"{host.name}-{n}", time.time_ns() // 1_000_000) for n in range(count))
    host.start(send_events, world, dice, host.name, events, 0.02)


@trouble(0, least="calm", least_events=number(100, 100))
def make_up_events(world: World, *, least_events: int) -> None:
    """A producer makes up for the events that Kafka refused: it sends until Kafka has taken this number of all."""
    host = world.new_host("producer")
    host.start(_make_up, world, world.plan.dice(host.name), host.name, least_events)


def _make_up(world: World, dice: Random, name: str, least_events: int) -> None:
    round_ = 0
    while (missing := least_events - len(world.acknowledged)) > 0:
        round_ += 1
        events = _events(world, dice, f"{name}-{round_}", missing, None, 0.0, 0.0)
        send_events(world, dice, name, events, _MAKE_UP_SECS / missing)


def _events(
    world: World, dice: Random, name: str, count: int, hot: str | None, odd: float, repeats: float
) -> Iterator[Sent]:
    customers, last = world.plan.customers, None
    for number_ in range(count):
        if last is not None and dice.random() < repeats:
            yield last
            continue
        customer = hot if hot is not None and dice.random() < 0.8 else dice.choice(customers)
        make = odd_event if dice.random() < odd else good_event
        last = make(dice, customer, f"{name}-{number_}", time.time_ns() // 1_000_000)
        yield last


class _Client:
    """A producer's Kafka client: idempotent, with all acknowledgements."""

    def __init__(self, world: World, properties: dict[str, Any]) -> None:
        self._world = world
        self.producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": world.settings.kafka.bootstrap_servers,
                "enable.idempotence": True,
                **properties,
                **_SIZES,
            }
        )

    def write(self, sent: Sent) -> bool:
        """Send a record; False when the client can send nothing any more."""
        headers: list[tuple[str, str | bytes | None]] = [*sent.headers]
        world = self._world

        def report(error: KafkaError | None, _message: object) -> None:
            if error is None:
                world.acknowledged[sent.idempotency_key] = None

        world.note_sent(sent)
        try:
            self.producer.produce(EVENTS, sent.value, sent.key, headers=headers, on_delivery=report)
            self.producer.poll(0)
        except BufferError:
            world.history.note("not sent", key=sent.idempotency_key)
        except KafkaException as error:
            world.history.note("not sent", key=sent.idempotency_key, code=error.args[0].name())
            return not error.args[0].fatal()
        return True

    def finish(self, name: str) -> None:
        """Wait until everything is sent. The library's flush raises a fatal error as a SystemError, too."""
        try:
            self.producer.flush(_WAIT_SECS)
        except (KafkaException, SystemError) as error:
            self._world.history.note("producer gave up", producer=name, error=str(error))


def send_events(world: World, dice: Random, name: str, events: Iterator[Sent], pause: float) -> None:
    """Send events, one after ``pause`` seconds on the average. Blocks."""
    client = _Client(world, {})
    for sent in events:
        time.sleep(dice.expovariate(1 / pause))
        if not client.write(sent):
            client = _Client(world, {})
    client.finish(name)


def _send_in_transactions(world: World, dice: Random, name: str, events: Iterator[Sent], pause: float) -> None:
    client = _Client(world, {"transactional.id": name})
    producer = client.producer
    try:
        producer.init_transactions(_WAIT_SECS)
        group: list[Sent] = []
        for sent in events:
            time.sleep(dice.expovariate(1 / pause))
            group.append(sent)
            if len(group) == _GROUP:
                _write_transaction(client, group, is_aborted=dice.random() < 0.25)
                group = []
        if group:
            _write_transaction(client, group, is_aborted=False)
    except (KafkaException, SystemError) as error:  # a flush raises a fatal error as a SystemError
        world.history.note("producer gave up", producer=name, error=str(error))


def _write_transaction(client: _Client, group: list[Sent], *, is_aborted: bool) -> None:
    """Write a transaction, and do not try again when Kafka refuses it: the product reads only committed events."""
    producer = client.producer
    producer.begin_transaction()
    for sent in group:
        client.write(sent)
    try:
        if is_aborted:
            producer.flush(_WAIT_SECS)  # otherwise the client throws away what it has not sent
            producer.abort_transaction(_WAIT_SECS)
        else:
            producer.commit_transaction(_WAIT_SECS)
    except KafkaException as error:
        if not error.args[0].txn_requires_abort():
            raise
        producer.abort_transaction(_WAIT_SECS)


@trouble(1.5, count=number(1, 5), partition=number(0, 7), customer=_any_customer)
def write_foreign_headers(world: World, *, count: int, partition: int, customer: str) -> None:
    """A program that is not written in Python sends headers whose names are not UTF-8."""
    topic, dice = world.cluster.topic(EVENTS), world.plan.dice(f"headers-{world.elapsed}")
    if topic is None:
        return
    log = topic.partitions[partition % len(topic.partitions)]
    for which in range(count):
        sent = good_event(dice, customer, f"headers-{world.elapsed:.1f}-{which}", world.now_ms, kind="foreign_header")
        world.note_sent(sent)
        headers: LogHeaders = ((b"\xff\xfe name", b"value"), *sent.headers)
        log.append([NewRecord(sent.key, sent.value, headers, world.now_ms)])
