"""Readiness: who is in touch with its groups is ready, until it is stopped."""

from __future__ import annotations

from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import Flooded, KafkaTrouble, Membership, PartitionsAssigned, Signal
from pushrail_stream.observe.readiness import Readiness
from tests.support.stats import stats_of

EVENTS, RETRIES = "group", "group.retry"
JOINED = [Membership(EVENTS, True), Membership(RETRIES, True)]


def reasons(*signals: Signal) -> list[str]:
    readiness = Readiness([EVENTS, RETRIES], stats_of())
    readiness.loaded()
    for signal in signals:
        readiness(signal)
    return list(readiness.reasons())


def away(group: str) -> str:
    return f"consumer group {group}: not in touch"


def test_a_worker_needs_all_its_groups() -> None:
    assert reasons() == [away(EVENTS), away(RETRIES)]
    assert reasons(Membership(EVENTS, True)) == [away(RETRIES)]
    assert reasons(*JOINED) == []


def test_partitions_do_not_change_readiness() -> None:
    assert len(reasons(PartitionsAssigned(((Partition("events", 0), None),)))) == 2
    assert reasons(*JOINED, KafkaTrouble("1/3 brokers are down"), PartitionsAssigned(())) == []


def test_a_lost_group_is_a_reason() -> None:
    assert reasons(*JOINED, Membership(EVENTS, False)) == [away(EVENTS)]
    assert reasons(*JOINED, Membership(EVENTS, False), Membership(EVENTS, True)) == []


def test_a_stuck_consumer_is_a_reason() -> None:
    ages = {"events": 0.1, "retries": 59.0}
    readiness = Readiness([], stats_of(poll_ages=ages))
    readiness.loaded()
    assert readiness.reasons() == []
    ages["retries"] = 61.4
    assert readiness.reasons() == ["consumer of retries: stuck for 61 s"]


def test_an_unread_partition_is_a_named_reason() -> None:
    unread = {Partition("events", 0): 0.0, Partition("events", 3): 59.0}
    readiness = Readiness([], stats_of(unread_secs=unread))
    readiness.loaded()
    assert readiness.reasons() == []
    unread[Partition("events", 3)] = 61.4
    assert readiness.reasons() == ["events/3: nothing was read for 61 s although its end is ahead"]


def test_a_flood_stays_a_reason() -> None:
    flood = Flooded(FloodReport(10, 9, 8, 7, 60))
    assert reasons(flood, *JOINED) == ["stopped by a flood of dead letters"]


def test_a_worker_that_is_stopping_is_not_ready() -> None:
    readiness = Readiness([], stats_of())
    readiness.loaded()
    assert not readiness.reasons()
    readiness.stop()
    assert readiness.reasons() == ["stopping"]


def test_unloaded_destinations_are_a_reason() -> None:
    readiness = Readiness([], stats_of())
    assert readiness.reasons() == ["the destinations have not been read yet"]
    readiness.loaded()
    assert readiness.reasons() == []
