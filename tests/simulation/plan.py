"""The plan of a story as a plain value: it can be printed, written as JSON, read back and shortened.

Everything that happens in a story is in its plan. Dice that a story needs while it is played take their seeds from the
plan and from a name, so a trouble that is taken out changes no other trouble.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, Final, Literal, Self

from pushrail_stream.core.destination import DetailFormat

Profile = Literal["calm", "rough", "hostile"]
PROFILES: Final[tuple[Profile, ...]] = ("calm", "rough", "hostile")
_METADATA_BYTES: Final = (4_096, 4_096, 4_096, 4_096, 1_000, 1_000, 300, 165, 165, 120)
AuthMode = Literal["ASSUME_ROLE", "ACCESS_KEY"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that happens at a time of the story."""

    at: float
    """Seconds since the story began."""
    name: str
    """The name of a kind, as in `people.troubles.KINDS`."""
    details: Mapping[str, Any]
    """Arguments of the kind's function; JSON values."""

    def __str__(self) -> str:
        details = ", ".join(f"{name}={value!r}" for name, value in self.details.items())
        return f"{self.at:7.1f} s  {self.name}({details})"


@dataclass(frozen=True, slots=True)
class PlannedDestination:
    """A destination that exists when the story begins."""

    id: str
    customer: str
    account: str
    """The customer's AWS account, 12 digits."""
    region: str
    mode: AuthMode
    event_types: tuple[str, ...] = ()
    """Empty: all."""
    enabled: bool = True
    paused: bool = False
    max_requests_per_second: float | None = None
    is_v2: bool = False
    """Whether its bus is one of eventbridgev2."""
    detail_format: DetailFormat = "canonical"
    max_age_secs: float | None = None
    max_attempts: int | None = None
    above: int | None = None
    """Its filter takes events with an amount above this number; None: it has no filter."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A story: its settings, its people, the rates of background faults and the troubles."""

    seed: int
    profile: Profile
    secs: float
    """Virtual seconds until the world heals."""
    workers: int
    partitions: int
    settings: Mapping[str, Any]
    """The product's settings, as in its file of settings."""
    destinations: tuple[PlannedDestination, ...]
    rates: Mapping[str, float]
    """Background faults by kind: how probable each is, per request."""
    troubles: tuple[Trouble, ...]

    def dice(self, name: str) -> Random:
        """Dice for one part of the story. They depend on the seed and on this name alone."""
        return Random(f"{self.seed}/{name}")

    @property
    def settle_secs(self) -> float:
        """Virtual seconds within which everything must be settled after the world has healed.

        A copy may have been written to the last tier just before. It is due after the tier's delay. Workers that then
        learn that their own credentials work again take up to 10 minutes, the longest time between two probes.
        """
        return 2 * self.last_tier_secs + 1_200

    @property
    def max_metadata_bytes(self) -> int:
        """The longest metadata of a commit that brokers take: Kafka's default, or less where an administrator chose so.

        Cursors then need snapshots, or there can be none.
        """
        return 4_096 if self.profile == "calm" else self.dice("metadata").choice(_METADATA_BYTES)

    @property
    def last_tier_secs(self) -> float:
        """The delay of the last retry topic."""
        return float(max(self.settings["topics"]["retry"].values()))

    @property
    def customers(self) -> list[str]:
        """Customers that have a destination."""
        return list(dict.fromkeys(destination.customer for destination in self.destinations))

    def with_troubles(self, troubles: Iterable[Trouble]) -> Plan:
        """The same story with these troubles alone."""
        return replace(self, troubles=tuple(troubles))

    def without_rates(self, *kinds: str) -> Plan:
        """The same story without these kinds of background faults."""
        return replace(self, rates={kind: rate for kind, rate in self.rates.items() if kind not in kinds})

    def as_json(self) -> str:
        """The plan as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `as_json` wrote."""
        told = json.loads(text)
        destinations = (
            PlannedDestination(**one | {"event_types": tuple(one["event_types"])}) for one in told["destinations"]
        )
        troubles = (Trouble(**one) for one in told["troubles"])
        return cls(**told | {"destinations": tuple(destinations), "troubles": tuple(troubles)})

    def __str__(self) -> str:
        rates = ", ".join(f"{kind} {rate:g}" for kind, rate in self.rates.items())
        head = [
            f"seed {self.seed}, {self.profile}: {self.workers} workers, {self.partitions} partitions, {self.secs:g} s",
            f"settings: {json.dumps(self.settings)}",
            f"background faults: {rates or 'none'}",
            *map(str, self.destinations),
        ]
        return "\n".join([*head, *map(str, self.troubles)])


def as_profile(text: str) -> Profile:
    """The profile of this name. Raises ``ValueError`` for any other text."""
    for profile in PROFILES:
        if text == profile:
            return profile
    raise ValueError(f"{text}: is none of {', '.join(PROFILES)}")


Draw = Callable[[Random, Plan], Any]
"""Draws one JSON value. The plan has everything but its troubles."""


def number(least: int, most: int) -> Draw:
    """A whole number, both ends included."""
    return lambda dice, _plan: dice.randint(least, most)


def between(least: float, most: float) -> Draw:
    """A number with at most three decimals. Small numbers are as probable as large ones."""
    return lambda dice, _plan: round(least * (most / least) ** dice.random(), 3)


def one_of(*values: Any) -> Draw:
    """One of these values."""
    return lambda dice, _plan: dice.choice(values)


def chance(probability: float) -> Draw:
    """True with this probability."""
    return lambda dice, _plan: dice.random() < probability
