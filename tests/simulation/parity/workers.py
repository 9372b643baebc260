"""Whole workers in two worlds: a real Kafka with the fault-injecting bus, and the simulated Kafka and AWS.

The worker, its registry of destinations and the code of the stories are the same; `run_worker` runs unchanged in both.
"""

from __future__ import annotations

import asyncio
import json
import random
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, final
from unittest.mock import patch

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.connection import Network, install
from tests.simulation.aws.two_worlds import Aws, Clock, FaultInjectingBus, SimulatedAws
from tests.simulation.history import History
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.parity.simulated import SimulatedKit
from tests.simulation.scheduler import Scheduler
from tests.simulation.substitution import EPOCH, simulated
from tests.support import workers
from tests.support.builders import KEY_ID, SECRET, bus_arn
from tests.support.kafka.positions import with_kafka
from tests.support.kafka.topics import recreate_topic

CUSTOMERS: Final = 3
_USER: Final = "arn:aws:iam::123456789012:user/customer"
_SEED: Final = 1
_ANSWER_SECS: Final = 20.0
"""Longest wait for an answer of the real broker, in seconds."""
_LONGEST_SECS: Final = 600.0
"""Virtual time after which a story is given up."""


ChangeTopic = Callable[[str], None]
"""A change of a topic that the worker does not make."""


@dataclass
class WorkerStage:
    """One story's surroundings, and its notes."""

    settings: Settings
    aws: Aws
    heal: Callable[[], None]
    """End all faults of AWS."""
    recreate: ChangeTopic
    """Delete a topic and create it again."""
    trim: ChangeTopic
    """Remove all records, as retention does."""
    notes: list[str] = field(default_factory=list)

    def note(self, what: str, value: object) -> None:
        """Add an observation."""
        self.notes.append(f"{what}: {json.dumps(value, default=str)}")

    def arrived(self) -> list[int]:
        """The numbers of the events that buses have, in their order."""
        return [json.loads(arrival[3])["payload"]["number"] for arrival in self.aws.arrivals()]

    async def until_arrived(self, *numbers: int) -> None:
        """Wait until all of these are there."""
        await workers.until(lambda: set(numbers) <= set(self.arrived()))

    async def until_committed(self) -> None:
        """Wait until every event is committed."""
        topic = self.settings.topics.events
        await workers.until(lambda: workers.committed(self.settings) == workers.ends(self.settings, topic))

    def note_all(self, *, in_order: bool = True) -> None:
        """Note everything that the worker has left."""
        settings = self.settings
        arrivals = [(arrival[0][-5:], arrival[2]) for arrival in self.aws.arrivals()]
        numbers = self.arrived()
        self.note("arrivals", sorted(Counter(arrivals).items()))
        self.note("numbers", numbers if in_order else sorted(numbers))
        self.note("committed", workers.committed(settings))
        self.note("ends", workers.ends(settings, settings.topics.events))
        for topic in settings.topics.retry:
            self.note("retries", sum(workers.committed(settings, topic).values()))
            self.note("retry records", sum(workers.ends(settings, topic).values()))
        self.note("letters", sorted(map(str, workers.letters(settings))))
        told = [json.loads(value or b"{}") for _, value, _ in workers.read_all(settings, settings.topics.attempts)]
        facts = Counter(" ".join(str(one[key]) for key in ("status", "reason", "code") if key in one) for one in told)
        self.note("attempts", dict(sorted(facts.items())))


WorkerStory = Callable[[WorkerStage], Awaitable[None]]


async def tell_on_real_ones(story: WorkerStory, kafka: str, protocol: str, sections: Mapping[str, Any]) -> list[str]:
    """The notes of a story on a real Kafka and on the fault-injecting bus."""
    async with FaultBus.serve() as bus:
        settings = with_kafka(workers.settings_for(kafka, bus.url, **sections), group_protocol=protocol)
        await asyncio.to_thread(workers.make_topics, settings)
        workers.open_bus(bus, range(CUSTOMERS))

        def recreate(topic: str) -> None:
            recreate_topic(kafka, topic, partitions=workers.PARTITIONS)

        def trim(topic: str) -> None:
            admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
            places = [TopicPartition(topic, number, OFFSET_END) for number in range(workers.PARTITIONS)]
            for done in admin.delete_records(places).values():
                done.result(_ANSWER_SECS)

        stage = WorkerStage(settings, FaultInjectingBus(bus, Clock()), lambda: bus.set_plan([]), recreate, trim)
        await story(stage)
        return stage.notes


@final
class _SimulatedWorld:
    """A Kafka and an AWS in virtual time."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.kit = SimulatedKit("classic", self.scheduler)
        history = History(lambda: self.scheduler.now)
        self.cloud = Cloud(self.scheduler, random.Random(_SEED), history)
        self.cloud.state.epoch = EPOCH
        self.network = Network(self.cloud)
        accounts = self.cloud.accounts
        for customer in range(CUSTOMERS):
            accounts.create_bus(bus_arn(customer))
        accounts.create_customer_key(_USER, KEY_ID, SECRET)

    @property
    def cluster(self) -> Cluster:
        """The simulated Kafka."""
        return self.kit.cluster

    def trim(self, topic: str) -> None:
        """Remove all records."""
        found = self.cluster.topic(topic)
        for log in () if found is None else found.partitions:
            log.remove_before(log.end)

    def recreate(self, topic: str) -> None:
        """Delete a topic and create it again."""
        self.cluster.delete_topic(topic)
        self.cluster.create_topic(topic, workers.PARTITIONS)

    def substituted(self) -> ExitStack:
        """The libraries of this process belong to this world while it is open."""
        stack = ExitStack()
        clients = self.kit.clients
        stack.enter_context(simulated(self.scheduler, _SEED, kafka=clients, connect=self.network.open))
        stack.enter_context(install(self.network))
        named = {"Consumer": clients.consumer, "Producer": clients.producer, "AdminClient": clients.admin_client}
        for name, kind in named.items():
            stack.enter_context(patch.object(workers, name, kind))
        return stack


def tell_in_simulation(story: WorkerStory, protocol: str, sections: Mapping[str, Any]) -> list[str]:
    """The notes of a story in virtual time; a last one that begins with FAILED if it failed."""
    world = _SimulatedWorld()
    scheduler, notes = world.scheduler, list[str]()

    async def main() -> None:
        settings = workers.settings_for("kafka.sim:9092", "http://events.{region}.sim", **sections)
        settings = with_kafka(settings, group_protocol=protocol)
        workers.make_topics(settings)
        stage = WorkerStage(
            settings, SimulatedAws(world.cloud), world.cloud.faults.heal, world.recreate, world.trim, notes
        )
        await story(stage)

    with world.substituted():
        host = scheduler.host("worker-1")
        host.on_thread_error = lambda _thread, error: notes.append(
            f"FAILED: {''.join(traceback.format_exception(error))}"
        )
        thread = host.start(lambda: asyncio.run(main()))
        try:
            if not scheduler.run_until(lambda: thread.has_ended, _LONGEST_SECS):
                notes.append(f"FAILED: no end after {_LONGEST_SECS:.0f} s")
        finally:
            host.kill()
    return notes
