"""A story for tests of the runner: it needs no world, and its seed and profile say how it ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

from pushrail_stream.core.commit import was_recreated
from pushrail_stream.core.record import TopicIdentity

CRASHING, HANGING, DYING = 101, 102, 103
"""Seeds whose stories end in these ways."""


class FakeViolation(NamedTuple):
    assertion: str
    sentence: str
    at: float


@dataclass(frozen=True)
class FakePlan:
    seed: int
    profile: str
    rates: Mapping[str, float] = field(default_factory=lambda: {"slow": 0.1, "lost": 0.1})
    troubles: tuple[str, ...] = ("kill", "pause", "throttle", "revoke", "garble", "restart")

    def with_troubles(self, troubles: Iterable[str]) -> Self:
        return replace(self, troubles=tuple(troubles))

    def without_rates(self, *kinds: str) -> Self:
        return replace(self, rates={kind: rate for kind, rate in self.rates.items() if kind not in kinds})

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return f"seed {self.seed}: {', '.join([*self.rates, *self.troubles])}"


@dataclass(frozen=True)
class FakeOutcome:
    violations: tuple[FakeViolation, ...]
    states: Mapping[str, int]
    simulated_secs: float = 1800.0
    counts: Mapping[str, int] = field(default_factory=lambda: {"events": 100, "deliveries": 120})
    faults: Mapping[str, int] = field(default_factory=lambda: {"slow": 3})
    hash: str = "abc"


def draw_plan(seed: int, profile: str) -> FakePlan:
    return FakePlan(seed, profile)


def with_kinds(plan: FakePlan, kinds: Iterable[str]) -> FakePlan:
    return replace(plan, troubles=(*plan.troubles, *kinds))


def read_plan(text: str) -> FakePlan:
    told: dict[str, Any] = json.loads(text)
    return FakePlan(**told | {"troubles": tuple(told["troubles"])})


def play(plan: FakePlan) -> FakeOutcome:
    """A hostile story fails when a worker is killed while requests are lost."""
    print("a line that does not belong to the figures")
    if plan.seed == CRASHING:
        raise ArithmeticError("the simulator is wrong")
    while plan.seed == HANGING:
        time.process_time()
    if plan.seed == DYING:
        os._exit(7)
    violations = list[FakeViolation]()
    if plan.profile == "hostile" and "kill" in plan.troubles and "lost" in plan.rates:
        violations.append(FakeViolation("nothing is lost", "event 7 was lost", 12.5))
    if not was_recreated(TopicIdentity("cluster", "one"), TopicIdentity("cluster", "two")) and plan.seed % 3 == 0:
        violations.append(FakeViolation("nothing is repeated", "event 8 came twice", 1.0))
    return FakeOutcome(tuple(violations), {"a probe in flight": 1, "a truncated log": int(plan.seed >= 500)})
