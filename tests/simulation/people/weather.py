"""The weather: faults in the background that any request may meet, at the rates of the plan.

A kind of Kafka's is ``kafka.API.FATE``, where ``any`` is every API. A kind of AWS's is ``aws.KIND``, with the kinds of
`aws.faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from tests.simulation.aws.faults import STAGES
from tests.simulation.kafka.network import LATENCY_SECS, Fate

if TYPE_CHECKING:
    from tests.simulation.world import World

_SLOW_SECS: Final = 3.0
"""Longest way of a slow request, and of a slow answer."""
_DISTURBED_SECS: Final = 60.0
"""Longest time until a client gives up a request that is lost: librdkafka's default of ``socket.timeout.ms``."""
_THROTTLE_SECS: Final = 5.0
"""Longest time for which a broker makes a client wait that uses too much of it."""
_REFUSALS: Final[Mapping[str, tuple[int, ...]]] = {
    "Produce": (
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.REQUEST_TIMED_OUT,
    ),
    "Fetch": (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REPLICA_NOT_AVAILABLE),
    "OffsetCommit": (
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
    ),
    "OffsetFetch": (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR),
    "Heartbeat": (KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR),
    "JoinGroup": (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR),
    "SyncGroup": (KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR),
    "ConsumerGroupHeartbeat": (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR),
}
"""Errors that may pass by themselves, as brokers answer them to a request."""
_FATES: Final[Mapping[str, Callable[[str, Random], Fate]]] = {
    "slow": lambda _api, dice: Fate(dice.uniform(0.0, _SLOW_SECS), dice.uniform(0.0, _SLOW_SECS)),
    "late_answer": lambda _api, dice: Fate(answer_secs=dice.uniform(0.0, _SLOW_SECS)),
    "lost_request": lambda _api, _dice: Fate(is_request_lost=True),
    "lost_answer": lambda _api, _dice: Fate(is_answer_lost=True),
    "throttled": lambda _api, dice: Fate(throttle_secs=dice.uniform(0.0, _THROTTLE_SECS)),
    "refused": lambda api, dice: Fate(error=dice.choice(_REFUSALS[api])),
}
KAFKA_RATES: Final[Mapping[str, float]] = {
    "kafka.any.slow": 0.01,
    "kafka.any.lost_request": 0.002,
    "kafka.any.lost_answer": 0.002,
    "kafka.any.throttled": 0.01,
    "kafka.OffsetCommit.late_answer": 0.2,
    "kafka.OffsetCommit.lost_request": 0.03,
    "kafka.OffsetCommit.lost_answer": 0.05,
    "kafka.Produce.late_answer": 0.1,
    "kafka.Produce.lost_request": 0.01,
    "kafka.Produce.lost_answer": 0.02,
    "kafka.Fetch.slow": 0.02,
    **{f"kafka.{api}.refused": 0.03 for api in _REFUSALS},
}
"""Kafka's kinds, and the highest probability of each per request."""
AWS_RATES: Final[Mapping[str, float]] = {f"aws.{kind}": 0.02 for kind in STAGES}
"""AWS's kinds, and the highest probability of each per connection, call or entry."""


def set_weather(world: World, rates: Mapping[str, float]) -> None:
    """Let background faults occur at these rates from now on, and no others."""
    dice = world.plan.dice("weather")
    by_api: dict[str, list[tuple[str, float]]] = {}
    for kind, rate in rates.items():
        source, _, rest = kind.partition(".")
        if source == "kafka":
            api, fate = rest.split(".")
            by_api.setdefault(api, []).append((fate, rate))

    def fate_of(api: str, host: Any, _broker: int) -> Fate:
        for fate, rate in (*by_api.get(api, ()), *by_api.get("any", ())):
            if dice.random() < rate:
                world.disturb("kafka", _DISTURBED_SECS, host.name)
                return _FATES[fate](api, dice)
        return Fate(LATENCY_SECS * dice.uniform(0.5, 3.0), LATENCY_SECS * dice.uniform(0.5, 3.0))

    world.cluster.network.faults = fate_of
    world.cloud.faults.set_rates(
        {kind.removeprefix("aws."): rate for kind, rate in rates.items() if kind.startswith("aws.")}
    )
