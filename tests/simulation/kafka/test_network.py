from __future__ import annotations

import random
from typing import Any

import pytest
from confluent_kafka import KafkaError

from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.network import Coordinator, Fate, Later
from tests.simulation.scheduler import Scheduler


class Client:
    """A client that sends one kind of request, and notes when which answer came."""

    def __init__(self, fate: Fate | None = None) -> None:
        self.world = Scheduler()
        self.host = self.world.host("worker-1")
        self.cluster = Cluster(self.world, random.Random(1))
        self.faults: list[str] = []
        self.cluster.network.count_fault = self.faults.append
        self.cluster.network.faults = lambda _api, _host, _broker: fate or Fate()
        self.handled = 0
        self.answers: list[tuple[float, Any]] = []

    def send(self, broker: int | Coordinator = 1, answer: Any = "yes") -> None:
        self.cluster.network.request(self.host, broker, "Api", lambda: self.handle(answer), self.note, 5.0)

    def handle(self, answer: Any) -> Any:
        self.handled += 1
        return answer

    def note(self, answer: Any) -> None:
        self.answers.append((round(self.world.now - 1_000, 3), answer))


def test_an_answer_comes_after_the_latency_of_both_ways() -> None:
    client = Client(Fate(0.1, 0.2))
    client.send()
    client.world.run(client.world.now + 10.0)
    assert client.answers == [(0.3, "yes")]


@pytest.mark.parametrize(
    ("fate", "handled", "answer", "fault"),
    [
        (Fate(is_request_lost=True), 0, (5.0, KafkaError._TIMED_OUT), "kafka.request-lost.Api"),
        (Fate(is_answer_lost=True), 1, (5.0, KafkaError._TIMED_OUT), "kafka.answer-lost.Api"),
        (Fate(error=6), 0, (0.001, 6), "kafka.error.Api"),
        (Fate(throttle_secs=2.0), 1, (2.001, "yes"), "kafka.throttled.Api"),
    ],
)
def test_a_fault_is_seen_by_the_client_and_counted(
    fate: Fate, handled: int, answer: tuple[float, Any], fault: str
) -> None:
    client = Client(fate)
    client.send()
    client.world.run(client.world.now + 10.0)
    assert (client.handled, client.answers, client.faults) == (handled, [answer], [fault])


def test_a_broker_that_is_down_refuses_connections() -> None:
    client = Client()
    client.cluster.stop_broker(1)
    client.send()
    client.world.run(client.world.now + 10.0)
    assert (client.handled, client.answers) == (0, [(0.001, KafkaError._TRANSPORT)])


def test_a_broker_that_dies_closes_the_connections_of_those_who_wait() -> None:
    client = Client()
    client.send(answer=Later())
    client.world.run(client.world.now + 1.0)
    client.cluster.stop_broker(1)
    client.cluster.start_broker(1)
    client.world.run(client.world.now + 10.0)
    assert client.answers == [(1.001, KafkaError._TRANSPORT)]


def test_nothing_passes_a_cut_until_it_is_mended() -> None:
    client = Client()
    client.cluster.network.cut(client.host, 1)
    client.send()
    client.send(2)
    client.world.run(client.world.now + 10.0)
    client.cluster.network.mend(client.host, 1)
    client.send()
    client.world.run(client.world.now + 10.0)
    assert client.answers == [(0.001, "yes"), (5.0, KafkaError._TIMED_OUT), (10.001, "yes")]


def test_a_later_answer_comes_when_it_is_given() -> None:
    client = Client()
    later = Later()
    client.send(answer=later)
    client.world.run(client.world.now + 1.0)
    later.give("now")
    later.give("again")
    client.world.run(client.world.now + 10.0)
    assert client.answers == [(1.0, "now")]


def test_a_killed_host_hears_nothing() -> None:
    client = Client()
    client.send()
    client.host.is_alive = False
    client.world.run(client.world.now + 10.0)
    assert (client.handled, client.answers) == (1, [])


def test_a_coordinator_that_moved_is_not_the_coordinator() -> None:
    client = Client(Fate(0.1, 0.1))
    client.cluster.load_secs = 2.0
    client.send(Coordinator("group"))
    client.cluster.move_coordinator("group")
    client.world.run(client.world.now + 1.0)
    client.send(Coordinator("group"))
    client.world.run(client.world.now + 3.0)
    client.send(Coordinator("group"))
    client.world.run(client.world.now + 10.0)
    assert [answer for _, answer in client.answers] == [
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        "yes",
    ]


def test_requests_to_a_coordinator_keep_their_order() -> None:
    client = Client()
    secs = iter([(3.0, 0.1), (0.1, 2.0), (0.1, 0.1)])
    client.cluster.network.faults = lambda _api, _host, _broker: Fate(*next(secs))
    for name in "abc":
        client.send(Coordinator("group"), name)
    client.world.run(client.world.now + 10.0)
    assert client.answers == [(3.1, "a"), (5.0, "b"), (5.0, "c")]
