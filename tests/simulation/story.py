"""A story from a seed: draw the plan, play it, let the world heal, and ask the oracle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation
from tests.simulation.oracle.verdict import judge
from tests.simulation.people import drawing
from tests.simulation.people.monitoring import watch_pages
from tests.simulation.people.operators import run_check
from tests.simulation.people.producers import produce_events
from tests.simulation.people.registry import prepare_registry
from tests.simulation.people.troubles import KINDS, kinds_of
from tests.simulation.people.weather import AWS_RATES, KAFKA_RATES
from tests.simulation.plan import Plan
from tests.simulation.stage import opened
from tests.simulation.states import count_states
from tests.simulation.world import World

_LOOK_SECS: Final = 5.0
"""Virtual seconds between two looks whether everything is settled."""
_LAST_EVENTS: Final = 3
"""Events for each customer after everything has settled: every healthy bus must get them."""
_LAST_SECS: Final = 120.0
"""Longest time for the last events, for a check, and for the fleet to stop."""
_NEEDED_TIMES: Final = 3
"""Troubles of each kind that a mutant needs: in a short story one alone may come at a moment without effect."""
_NEEDED_RATE: Final = 10.0
"""Factor on the rate of a background fault that a mutant needs, because its stories have few requests."""


@dataclass(frozen=True)
class Outcome:
    """The result of a story."""

    violations: Sequence[Violation]
    simulated_secs: float
    counts: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, int] = field(default_factory=dict)
    hash: str = ""


draw_plan = drawing.draw_plan
read_plan = Plan.from_json


def with_kinds(plan: Plan, kinds: Iterable[str]) -> Plan:
    """The plan with these kinds of troubles and background faults at all events, so that few seeds find a mutant.

    A kind of troubles may fix some of its details: ``withdraw_right?topic=pushrail.dlq&secs=60``. With ``at`` it comes
    once, this number of seconds after the beginning. The kind ``settings`` fixes settings of the product:
    ``settings?delivery.max_age_secs=45``. The kind ``destinations`` fixes details of all destinations:
    ``destinations?region=us-east-1``. Values are JSON, or else texts.
    """
    settings = {name: dict(value) if isinstance(value, Mapping) else value for name, value in plan.settings.items()}
    dice, rates, troubles = plan.dice("needs"), dict(plan.rates), list(plan.troubles)
    kinds_of(plan.profile)
    for kind in kinds:
        name, _, query = kind.partition("?")
        fixed = {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}
        if name == "settings":
            for path, value in fixed.items():
                section, _, setting = path.partition(".")
                settings[section][setting] = value
        elif name == "destinations":
            plan = replace(plan, destinations=tuple(replace(one, **fixed) for one in plan.destinations))
        elif name in KINDS:
            drawn_times = (round(dice.uniform(5.0, 0.9 * plan.secs), 1) for _ in range(_NEEDED_TIMES))
            times = [float(fixed.pop("at"))] if "at" in fixed else drawn_times
            drawn = [KINDS[name].draw(dice, plan, at) for at in times]
            troubles += [replace(one, details={**one.details, **fixed}) for one in drawn]
        else:
            rates[name] = _NEEDED_RATE * {**KAFKA_RATES, **AWS_RATES}[name]
    in_order = tuple(sorted(troubles, key=lambda trouble: trouble.at))
    return replace(plan, settings=settings, rates=rates, troubles=in_order)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def play(plan: Plan) -> Outcome:
    """Play a story: first any faults, then the world heals and everything must settle."""
    with opened(plan) as world:
        begun_at = world.scheduler.now
        _prepare(world)
        world.schedule()
        world.fleet.scale(plan.workers)
        watch_pages(world)
        world.scheduler.run(world.scheduler.now + plan.secs)
        world.heal()
        _settle(world)
        _end(world)
    return _outcome(world, begun_at)


def _prepare(world: World) -> None:
    world.prepare()
    world.office.do("prepare", prepare_registry, world)
    if not world.scheduler.run_until(world.office.is_idle, _LAST_SECS) or not world.evidence.edits:
        raise RuntimeError("the registry cannot be prepared")


def _settle(world: World) -> None:
    """Let everything settle, send a few more events, and let these settle.

    When something does not settle in time, no event comes after it: a commit of that one would cover it.
    """
    if not _wait(world, world.is_settled, world.plan.settle_secs):
        return
    world.scheduler.run(world.scheduler.now + _LOOK_SECS)
    count = _LAST_EVENTS * len(world.plan.customers)
    produce_events(world, count=count, secs=5.0, hot=None, odd=0.0, repeats=0.0, transactions=False)
    world.scheduler.run(world.scheduler.now + 10.0)
    _wait(world, world.is_settled, _LAST_SECS)


def _end(world: World) -> None:
    """Check the deliveries once more, and stop the fleet."""
    world.office.do("check", run_check, world)
    _wait(world, world.office.is_idle, _LAST_SECS)
    world.fleet.stop_all()
    _wait(world, lambda: not world.fleet.running, _LAST_SECS)
    world.evidence.ended_at = world.scheduler.now


def _wait(world: World, done: Callable[[], bool], longest_secs: float) -> bool:
    """Whether it is done within this time."""
    until = world.scheduler.now + longest_secs
    while not (is_done := done()) and world.scheduler.now < until:
        world.scheduler.run(min(until, world.scheduler.now + _LOOK_SECS))
    return is_done


def _outcome(world: World, begun_at: float) -> Outcome:
    story, deliveries = Deliveries(world.evidence), len(world.cloud.arrivals)
    return Outcome(
        violations=judge(story),
        simulated_secs=world.scheduler.now - begun_at,
        counts=Counter(events=len(world.acknowledged), deliveries=deliveries, workers=len(world.evidence.worker_ends)),
        faults=dict(world.history.faults),
        states=count_states(story),
        hash=world.history.hash,
    )
