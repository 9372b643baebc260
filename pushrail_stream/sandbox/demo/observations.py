"""The facts of a run, read from Kafka with the operators' own tools and from the inboxes of the customers' rules."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pushrail_stream.core.ledger import Ledger
from pushrail_stream.kafka.groups import plan_shift
from pushrail_stream.operations.attempts import Attempt, read_attempts
from pushrail_stream.operations.dead_letters import DeadLetterRecord, all_dead_letters
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, Customer, Target
from pushrail_stream.sandbox.demo.producer import Produced
from pushrail_stream.sandbox.demo.world import World

Event = Mapping[str, Any]
Arrived = Mapping[str, Sequence[Event]]
"""The events that arrived for a destination, by the rule that they match."""
FinalAttempts = Mapping[str, Mapping[str, Attempt]]
"""The attempt that ended each delivery: by destination id, or by customer where there is no destination, and then by
idempotency key."""


class Offsets(NamedTuple):
    """The group's committed offset in a partition (-1 for none), and the partition's end."""

    committed: int
    end: int


class Topics(NamedTuple):
    """The facts on Kafka once the worker has ended."""

    ends: FinalAttempts
    dead_letters: Sequence[DeadLetterRecord]
    offsets: Mapping[int, Offsets]
    """By partition of the events topic, of those that have records."""


@dataclass(frozen=True, slots=True)
class Observations:
    """The facts that each party saw."""

    customers: Sequence[Customer]
    produced: Mapping[str, Produced]
    """By ``topic/partition/offset``."""
    topics: Topics
    ledger: Ledger
    """The worker's own count."""
    arrived: Mapping[str, Arrived]
    """By destination id."""
    delivering_secs: float


def observe(
    world: World, produced: Mapping[str, Produced], ledger: Ledger, delivering_secs: float, progress: Progress
) -> Observations:
    """Read everything once the worker has ended. Raises `OperatorError` when a topic cannot be read to its end."""
    settings = world.settings
    topics = settings.topics
    # Nothing is moved: the plan of a move to the end tells both offsets.
    shifts = plan_shift(settings.kafka, settings.kafka.group_id, topics.events, "latest")
    return Observations(
        customers=CUSTOMERS,
        produced=produced,
        topics=Topics(
            ends=ends_of(read_attempts(settings, progress, since_ms=None)),
            dead_letters=list(all_dead_letters(settings, None, progress)),
            offsets={at.partition: Offsets(-1 if at.old is None else at.old, at.end) for at in shifts if at.end},
        ),
        ledger=ledger,
        arrived={
            target.id: _read_inboxes(world, customer, target) for customer in CUSTOMERS for target in customer.targets
        },
        delivering_secs=delivering_secs,
    )


def ends_of(attempts: Iterable[Attempt]) -> FinalAttempts:
    """Return the ends that attempts tell of, without those of records that are not events."""
    ends: defaultdict[str, dict[str, Attempt]] = defaultdict(dict)
    for attempt in attempts:
        place = attempt.get("destinationId") or attempt.get("customerExternalId")
        if place is not None and attempt.get("status") != "retrying":
            ends[place][attempt.get("idempotencyKey")] = attempt
    return ends


def _read_inboxes(world: World, customer: Customer, target: Target) -> Arrived:
    onboarding = customer.onboarding(target)
    return {
        rule: [json.loads(event) for event in world.bus.event_rules.inbox(onboarding.bus_arn, rule)]
        for rule in onboarding.rules()
    }
