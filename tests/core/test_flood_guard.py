"""The flood guard trips when most records of many customers are dead, and never for one customer."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushrail_stream.core.flood_guard import CHECK_EVERY, MAX_CUSTOMERS, FloodGuard, FloodLimits, FloodReport
from tests.support.policy import flood_limits

NOW = 1000.0
NAMES = (b"a", b"b", b"c", b"d", b"e", b"f", None)


class Burst(NamedTuple):
    """``secs`` later, records of one customer, of which the last ``dead`` would be dead letters."""

    customer: bytes | None
    seen: int
    dead: int
    secs: float = 0.0


shares = st.sampled_from([0.25, 0.5, 1.0])
limits = st.builds(FloodLimits, st.just(60.0), st.integers(1, 60), shares, st.integers(2, 4))
pauses = st.sampled_from([0.0, 0.0, 0.0, 1.0, 29.9, 30.0, 31.0, 60.0, 90.0])
bursts = st.builds(Burst, st.sampled_from(NAMES), st.integers(0, 40), st.integers(0, 40), pauses)


def feed(guard: FloodGuard, given_bursts: Iterable[Burst], now: float = NOW) -> float:
    """Feed the guard these records in turn; the time at the end."""
    for burst in given_bursts:
        now += burst.secs
        for _ in range(burst.seen):
            guard.count_record(burst.customer, now)
        for _ in range(burst.dead):
            guard.count_dead_letter(burst.customer, now)
    return now


def everybody(seen: int, dead: int, customers: int = 10) -> list[Burst]:
    return [Burst(b"acct_%d" % number, seen, dead) for number in range(customers)]


class Model:
    """Every record one by one, and the rule in its own words."""

    def __init__(self, limits: FloodLimits) -> None:
        self._limits = limits
        self._half = limits.window_secs / 2
        self._seen = [Counter[bytes | None](), Counter[bytes | None]()]
        self._dead = [Counter[bytes | None](), Counter[bytes | None]()]
        self._since = float("-inf")

    def add(self, customer: bytes | None, now: float, *, dead: bool) -> None:
        if now - self._since >= self._half:
            old = now - self._since < 2 * self._half
            self._seen = [Counter(), self._seen[0] if old else Counter()]
            self._dead = [Counter(), self._dead[0] if old else Counter()]
            self._since = self._since + self._half if old else now
        (self._dead if dead else self._seen)[0][customer] += 1

    @property
    def dead(self) -> Counter[bytes | None]:
        return self._dead[0] + self._dead[1]

    @property
    def seen(self) -> Counter[bytes | None]:
        return self._seen[0] + self._seen[1] | self.dead

    @property
    def is_flood(self) -> bool:
        limits, seen, dead = self._limits, self.seen, self.dead
        for left_out in seen:
            others = sum(dead.values()) - dead[left_out]
            if others < limits.min_dead or others < limits.share * (sum(seen.values()) - seen[left_out]):
                return False
        return len(seen) > 0 and len(self.affected) >= limits.min_customers

    @property
    def affected(self) -> list[bytes | None]:
        seen, dead = self.seen, self.dead
        return [customer for customer in dead if dead[customer] >= self._limits.share * seen[customer]]


@given(limits, st.lists(bursts, max_size=12))
def test_it_trips_only_at_a_flood(limits: FloodLimits, story: list[Burst]) -> None:
    guard, model, now, missed = FloodGuard(limits), Model(limits), NOW, 0
    for burst in story:
        now += burst.secs
        for number in range(burst.seen + burst.dead):
            dead = number >= burst.seen
            model.add(burst.customer, now, dead=dead)
            if not dead:
                guard.count_record(burst.customer, now)
                missed = missed if model.is_flood else 0
                continue
            if guard.count_dead_letter(burst.customer, now):
                assert model.is_flood
                assert guard.tripped
                return
            missed = missed + 1 if model.is_flood else 0
            assert missed < CHECK_EVERY, "a flood that lasts is not let past"
    assert not guard.tripped
    seen = model.seen
    assert guard.report() == FloodReport(
        sum(seen.values()), sum(model.dead.values()), len(seen), len(model.affected), limits.window_secs
    )


@given(limits, st.sampled_from(NAMES), st.lists(bursts, max_size=12))
def test_one_customer_alone_never_trips_it(limits: FloodLimits, bad: bytes | None, story: list[Burst]) -> None:
    guard = FloodGuard(limits)
    feed(guard, [burst if burst.customer == bad else burst._replace(dead=0) for burst in story])
    feed(guard, [Burst(bad, 500, 500)], NOW + 10_000)
    assert not guard.tripped


@given(limits, st.sampled_from(NAMES), st.lists(bursts, max_size=12))
@example(FloodLimits(60.0, 10, 0.5, 4), b"a", [Burst(b"b", 0, 0)])
def test_a_smaller_share_never_trips_it(limits: FloodLimits, bad: bytes | None, story: list[Burst]) -> None:
    guard = FloodGuard(limits)
    # A record dies in the half of a window in which it was seen, and not before.
    healthy = (
        burst._replace(dead=max(0, min(burst.dead, -int(-burst.seen * limits.share // 1) - 1))) for burst in story
    )
    feed(guard, [burst if burst.customer == bad else calm for burst, calm in zip(story, healthy, strict=True)])
    assert not guard.tripped


@given(limits, st.lists(bursts.map(lambda burst: burst._replace(secs=0.0)), max_size=12), st.randoms())
def test_within_a_window_the_order_does_not_matter(
    limits: FloodLimits, story: list[Burst], shuffler: random.Random
) -> None:
    records = [(burst.customer, dead) for burst in story for dead in [False] * burst.seen + [True] * burst.dead]
    reports = set[FloodReport]()
    for _ in range(3):
        shuffler.shuffle(records)
        guard = FloodGuard(replace(limits, min_dead=10**6))
        for customer, dead in records:
            if dead:
                guard.count_dead_letter(customer, NOW)
            else:
                guard.count_record(customer, NOW)
        reports.add(guard.report())
    assert len(reports) == 1


@given(limits, st.lists(bursts, max_size=12), st.floats(0.0, 10_000.0))
def test_counts_older_than_the_window_are_forgotten(limits: FloodLimits, story: list[Burst], later: float) -> None:
    guard = FloodGuard(limits)
    end = feed(guard, story)
    if guard.tripped:
        return
    feed(guard, [Burst(b"new", 1, 0)], end + limits.window_secs + later)
    assert guard.report() == FloodReport(1, 0, 1, 0, limits.window_secs)


def test_counts_of_half_a_window_ago_still_count() -> None:
    guard = FloodGuard(flood_limits())
    feed(guard, everybody(20, 15))
    assert not guard.tripped
    feed(guard, everybody(20, 20), NOW + 30)
    assert guard.tripped


def test_a_flood_is_reported_quickly() -> None:
    guard = FloodGuard(flood_limits())
    count_dead_letter = 0
    while not guard.tripped:
        customer = b"acct_%d" % (count_dead_letter % 10)
        guard.count_record(customer, NOW)
        count_dead_letter += 1
        assert guard.count_dead_letter(customer, NOW) == guard.tripped
    # 200 beside those of any one of ten customers.
    assert 222 <= count_dead_letter < 223 + CHECK_EVERY
    report = guard.report()
    assert report == FloodReport(count_dead_letter, count_dead_letter, 10, 10, 60.0)
    feed(guard, everybody(500, 0), NOW + 3600)
    assert guard.tripped, "until the process starts anew"
    assert guard.count_dead_letter(b"acct_1", NOW + 3600)
    assert guard.report() == report


@pytest.mark.parametrize(
    ("story", "trips"),
    [
        pytest.param(everybody(60, 60), True, id="everything is dead"),
        pytest.param(everybody(60, 35), True, id="more than half"),
        pytest.param(everybody(60, 29), False, id="less than half"),
        pytest.param(everybody(20, 20), False, id="too few"),
        pytest.param(everybody(60, 60, customers=4), False, id="too few customers"),
        pytest.param(everybody(60, 60, customers=5), True, id="five customers are enough"),
        pytest.param([Burst(b"big", 9500, 9500), *everybody(50, 1)], False, id="95 % of the traffic"),
        pytest.param(
            [*everybody(100, 5, customers=30), *everybody(0, 60, customers=5), Burst(b"big", 9500, 9500)],
            False,
            id="95 % of the traffic, and some others",
        ),
        pytest.param([*everybody(50, 50), Burst(b"big", 9500, 9500)], True, id="all, and one is big"),
        pytest.param([Burst(b"big", 9500, 200), *everybody(50, 50)], False, id="many, but little beside a big one"),
        pytest.param([Burst(b"big", 99_000, 990), *everybody(5, 5, 60)], False, id="the worst is a big healthy one"),
        pytest.param([Burst(None, 5000, 5000), *everybody(50, 1)], False, id="no key is one customer"),
        pytest.param([Burst(None, 60, 60), *everybody(60, 60, customers=4)], True, id="and as good as any"),
        pytest.param(everybody(0, 60), True, id="rejected long after they were seen"),
        pytest.param([*everybody(60, 0), *everybody(0, 10)], False, id="healthy, and some rejected"),
    ],
)
def test_examples_of_floods(story: list[Burst], *, trips: bool) -> None:
    guard = FloodGuard(flood_limits())
    feed(guard, story)
    assert guard.tripped == trips


def test_forgotten_records_can_reveal_a_flood() -> None:
    guard = FloodGuard(flood_limits())
    feed(guard, everybody(1000, 0))
    feed(guard, everybody(30, 30), NOW + 31)
    assert not guard.tripped
    assert guard.count_dead_letter(b"acct_1", NOW + 61)


def test_customers_never_exceed_the_memory() -> None:
    guard = FloodGuard(flood_limits())
    count = 2 * MAX_CUSTOMERS
    for number in range(count):
        guard.count_record(b"%d" % number, NOW)
        if number >= MAX_CUSTOMERS:
            guard.count_dead_letter(b"%d" % number, NOW)
    assert not guard.tripped, "those beyond the bound count as one"
    assert guard.report() == FloodReport(count, count // 2, MAX_CUSTOMERS + 1, 1, 60.0)
    for number in range(MAX_CUSTOMERS):
        guard.count_dead_letter(b"%d" % number, NOW)
    assert guard.tripped


@pytest.mark.parametrize("letter", [b"k", "k"])
def test_long_keys_take_no_extra_memory(letter: bytes | str) -> None:
    guard = FloodGuard(flood_limits())
    tracemalloc.start()
    try:
        for number in range(20):
            key = letter * (number + 1_000_000)
            guard.count_record(key, NOW)
            guard.count_record(key, NOW)
            guard.count_dead_letter(key, NOW)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_500_000, "the last key itself, and names"
    assert guard.report() == FloodReport(40, 20, 1, 1, 60.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_secs": 0.0},
        {"window_secs": -1.0},
        {"window_secs": float("nan")},
        {"window_secs": float("inf")},
        {"min_dead": 0},
        {"share": 0.0},
        {"share": 1.01},
        {"share": float("nan")},
        {"min_customers": 1},
    ],
)
def test_invalid_limits_cannot_be_made(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"flood|share"):
        flood_limits(**wrong)
