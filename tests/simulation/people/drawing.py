"""Draws a plan from a seed: which kinds of faults exist at all, how often they occur, and the product's settings.

A story with every kind of fault at once hides the deep ones behind the loud ones. So each seed leaves out many kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, Final, NamedTuple

from tests.simulation.people.troubles import Kind, kinds_of
from tests.simulation.people.weather import AWS_RATES, KAFKA_RATES
from tests.simulation.plan import Plan, PlannedDestination, Profile, Trouble

EVENTS: Final = "pushrail.events"
KEYRING: Final = "keyring.json"
"""The keyring's file, in the story's own folder."""
INDEX: Final = "attempts.sqlite"
"""The file of the index of attempts, in the story's own folder."""
REGIONS: Final = ("us-east-1", "eu-west-1")
EVENT_TYPES: Final = ("order.created", "order.shipped", "invoice.paid")
VENDOR: Final = "acme"


class _Measure(NamedTuple):
    """The size of a profile's stories."""

    secs: tuple[int, int]
    events: tuple[int, int]
    workers: tuple[int, int]
    customers: tuple[int, int]
    kinds: float
    """The probability that a story has a certain kind of troubles."""
    rates: float
    """The probability that a story has a certain kind of background faults."""
    accepted: int = 0
    """The least number of events that Kafka takes."""
    behind: tuple[int, ...] = (0,)
    """Numbers of destinations that fall behind. Each is as probable as the others."""


_MEASURES: Final = {
    "calm": _Measure((120, 180), (150, 400), (1, 3), (2, 4), 0.5, 0.0),
    "rough": _Measure((300, 420), (600, 1_000), (1, 4), (3, 6), 0.35, 0.15, behind=(0, 0, 1, 1, 2)),
    "hostile": _Measure(
        (600, 660), (2_050, 2_300), (1, 5), (4, 8), 0.45, 0.25, accepted=2_000, behind=(0, 1, 1, 2, 2, 3)
    ),
}
_BEHIND: Final = "fall_behind"
_BEHIND_BUFFER: Final = 200
"""Least size of the buffer in events where destinations fall behind: with less, none has enough events for a cursor."""
_LEAST_LOAD: Final = 0.4
"""Least share of a story's events that come apart from destinations that fall behind."""
_LAST_SECS: Final = 60.0
"""Virtual seconds before the end of the faults in which producers make up for the events that Kafka refused."""
_MANY_CALLS: Final = (32, 64, 64, 256)
"""Calls in flight per destination of stories in which a window may grow. Dice of their own draw one, so that all else
of a seed's plan depends on the profile and the seed alone."""
_V2_SHARE: Final = 0.5
"""Share of the buses that are of eventbridgev2. They have dice of their own, too. The first customer has none of them:
mutants that concern classic buses alone have one there in every story."""
_CLOUD_EVENTS_SHARE: Final = 0.25
"""Share of the destinations that get CloudEvents. For these, filters and bounds of retries there are dice, too."""
_TIERS: Final[tuple[dict[str, float], ...]] = (
    {"pushrail.retry.2s": 2},
    {"pushrail.retry.5s": 5, "pushrail.retry.30s": 30},
    {"pushrail.retry.10s": 10, "pushrail.retry.2m": 120},
    {"pushrail.retry.1s": 1, "pushrail.retry.15s": 15, "pushrail.retry.1m": 60},
    {"pushrail.retry.10s": 10, "pushrail.retry.1m": 60, "pushrail.retry.5m": 300},
)


def draw_plan(seed: int, profile: Profile) -> Plan:
    """The plan of this seed."""
    dice, measure = Random(f"{profile}/{seed}"), _MEASURES[profile]
    plan = Plan(
        seed=seed,
        profile=profile,
        secs=float(dice.randint(*measure.secs)),
        workers=dice.randint(*measure.workers),
        partitions=dice.choice([1, 2, 4, 8]),
        settings=draw_settings(dice, Random(f"{profile}/{seed}/calls").choice(_MANY_CALLS)),
        destinations=tuple(_draw_destinations(dice, f"{profile}/{seed}", dice.randint(*measure.customers))),
        rates=_draw_rates(dice, measure.rates),
        troubles=(),
    )
    load = list(_draw_load(dice, plan, dice.randint(*measure.events)))
    troubles = list(_draw_troubles(dice, plan, measure.kinds))
    behind = list(_draw_behind(Random(f"{profile}/{seed}/behind"), plan, measure.behind))
    troubles += [*_without(load, sum(trouble.details["count"] for trouble in behind)), *behind]
    if behind:
        limits = plan.settings["limits"]
        limits["max_buffered_events"] = max(limits["max_buffered_events"], _BEHIND_BUFFER)
    if measure.accepted:
        troubles.append(Trouble(plan.secs - _LAST_SECS, "make_up_events", {"least_events": measure.accepted}))
    return replace(plan, troubles=tuple(sorted(troubles, key=lambda trouble: trouble.at)))


def draw_settings(dice: Random, many_calls: int) -> dict[str, Any]:
    """The product's settings, as in its file of settings. ``many_calls``: the highest limit on calls in flight."""
    protocol = dice.choice(["classic", "classic", "consumer"])
    client: dict[str, Any] = {}
    if protocol == "classic" and dice.random() < 0.5:
        client = {"session.timeout.ms": dice.choice([6_000, 20_000])}
    return {
        "vendor": dice.choice([VENDOR, VENDOR, VENDOR, None]),
        "kafka": {
            "bootstrap_servers": "broker-1:9092",
            "group_protocol": protocol,
            "group_instance_id": dice.choice([None, None, "worker"]),
            "start": "earliest",
            "client": client,
        },
        "topics": {"retry": dict(dice.choice(_TIERS))},
        "registry": {"topic": dice.random() < 0.5},
        "delivery": {
            "max_entries": dice.choice([1, 2, 5, 10, 100, 100]),
            "flush_ms": dice.choice([0, 20, 100, 100, 1_000]),
            "max_in_flight": dice.choice([1, 2, 8, 8, many_calls]),
            "hold_secs": dice.choice([2, 5, 10, 10, 30]),
            "max_age_secs": dice.choice([45, 300, 86_400, 86_400]),
            "backoff_base_secs": dice.choice([0.1, 0.2, 1]),
            "backoff_cap_secs": dice.choice([2, 20]),
            "unrouted": dice.choice(["skip", "skip", "dlq"]),
        },
        "limits": {
            "max_buffered_events": dice.choice([40, 200, 2_000, 20_000]),
            "max_buffered_mib": dice.choice([1, 8, 128]),
        },
        "flood_guard": {
            "enabled": dice.random() < 0.8,
            "window_secs": 20,
            "min_dead_letters": dice.choice([20, 200]),
            "min_customers": 3,
        },
        "eventbridge": {
            "endpoint_url": "http://events.{region}.sim",
            "connect_timeout_secs": dice.choice([1, 3]),
            "read_timeout_secs": dice.choice([2, 5]),
        },
        "sts": {
            "endpoint_url": "http://sts.us-east-1.sim",
            "session_policy": dice.random() < 0.7,
            "max_calls_per_second": dice.choice([2, 100]),
        },
        "secrets": {"keyring": KEYRING, "kms_endpoint_url": "http://kms.us-east-1.sim"},
        "history": {"index": INDEX},
        "http": {"port": 0},
    }


def _draw_destinations(dice: Random, name: str, customers: int) -> Iterator[PlannedDestination]:
    v2_dice, own_dice = Random(f"{name}/v2"), Random(f"{name}/own")
    for number in range(customers):
        customer, account = f"customer-{number}", f"{111_000_000_000 + number}"
        for which in range(dice.choice([1, 1, 1, 2])):
            yield PlannedDestination(
                id=f"dst_{number}_{which}",
                customer=customer,
                account=account,
                region=dice.choice(REGIONS),
                mode=dice.choice(["ASSUME_ROLE", "ASSUME_ROLE", "ACCESS_KEY"]),
                event_types=dice.choice([(), (), (), ("order.*",)]),
                enabled=dice.random() < 0.95,
                max_requests_per_second=dice.choice([None, None, None, 2.0]),
                is_v2=number > 0 and v2_dice.random() < _V2_SHARE,
                max_age_secs=own_dice.choice([None, None, None, 40.0]),
                max_attempts=own_dice.choice([None, None, None, 4]),
                above=own_dice.choice([None, None, None, None, 3_000]),
                detail_format="cloudevents" if own_dice.random() < _CLOUD_EVENTS_SHARE else "canonical",
            )


def _draw_rates(dice: Random, probability: float) -> dict[str, float]:
    return {
        kind: round(most * dice.uniform(0.1, 1.0), 4)
        for kind, most in {**KAFKA_RATES, **AWS_RATES}.items()
        if dice.random() < probability
    }


def _draw_load(dice: Random, plan: Plan, events: int) -> Iterator[Trouble]:
    """Steady producers for most of the events, and bursts for the others."""
    kind = next(kind for kind in kinds_of("calm") if kind.name == "produce_events")
    left = events
    while left > 0:
        is_burst = dice.random() < 0.25
        count = min(left, dice.randint(20, 120))
        secs = round(dice.uniform(0.1, 5.0) if is_burst else dice.uniform(20.0, 90.0), 1)
        drawn = kind.draw(dice, plan, round(dice.uniform(0.0, max(0.0, plan.secs - secs)), 1))
        yield replace(drawn, details={**drawn.details, "count": count, "secs": secs})
        left -= count


def _draw_troubles(dice: Random, plan: Plan, probability: float) -> Iterator[Trouble]:
    for kind in kinds_of(plan.profile):
        if kind.often and dice.random() < probability:
            for at in _times(dice, kind, plan.secs):
                yield kind.draw(dice, plan, at)


def _draw_behind(dice: Random, plan: Plan, numbers: tuple[int, ...]) -> Iterator[Trouble]:
    """Destinations that fall behind. Dice of their own draw them, so that all else of a seed's plan stays as it is."""
    kind = next((kind for kind in kinds_of(plan.profile) if kind.name == _BEHIND), None)
    if kind is not None:
        for _ in range(dice.choice(numbers)):
            yield kind.draw(dice, plan, round(dice.uniform(2.0, 0.8 * plan.secs), 1))


def _without(load: list[Trouble], events: int) -> list[Trouble]:
    """The load without this number of events, which come otherwise, as far as enough are left."""
    left = sum(trouble.details["count"] for trouble in load)
    least = max(left - events, _LEAST_LOAD * left)
    kept = list(load)
    while left - kept[-1].details["count"] >= least:
        left -= kept.pop().details["count"]
    return kept


def _times(dice: Random, kind: Kind, secs: float) -> list[float]:
    most = max(1, round(2 * kind.often * secs / 600))
    return [round(dice.uniform(2.0, secs), 1) for _ in range(dice.randint(1, most))]
