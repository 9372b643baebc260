"""A missing bus is found, and its events become dead letters instead of vanishing."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outcome import BusStatus
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import BusFound, BusMissing
from pushrail_stream.settings.eventbridge import AssumeRole
from tests.support.builders import destination, modified
from tests.support.pipeline_world import HANGS, Worker, World
from tests.support.policy import TIERS, buffer_limits
from tests.support.records import P0, RETRY, START_MS, always, failed, record, records, retry_record
from tests.support.virtual_time import in_virtual_time, virtual_loop


def looks(world: World, name: str = "dst_acme") -> list[float]:
    return [round(at, 2) for at, looked_at in world.bus.checks if looked_at == name]


async def busy(worker: Worker, until: float, first: int, every: float = 10.0) -> int:
    """One event now and then; the next free offset."""
    number, at = first, every * (1 + first)
    while at < until:
        await worker.at(at)
        worker.feed(record(number))
        number, at = number + 1, at + every
    await worker.at(until)
    return number


@in_virtual_time
async def test_a_missing_bus_means_dead_letters() -> None:
    world = World(destination(), destination("other"), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        assert len(worker.reported(BusMissing)) == 1
        await worker.feed_until(2, *records(range(1, 21)), record(21, "other"))
        assert not world.bus.arrived["dst_acme"], "it was asked about before the first batch had waited for company"
        assert world.bus.arrived["dst_other"] == ["21"]
        assert Counter(reason for _, reason in world.topics.dead()) == {"blocked": 21}
        assert {written.said["pushrail-error-code"] for written in world.topics.written} == {"EventBusNotFound"}
        assert {written.said["pushrail-attempts"] for written in world.topics.written} == {"0"}
        assert worker.commit() == {P0: 22}


@in_virtual_time
async def test_a_bus_that_is_found_again_gets_deliveries() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(200, record(0))
        assert looks(world) == [0.0, 30.0, 90.0], "at growing intervals, whether there are events or not"
        world.bus.bus_status["dst_acme"] = "there"
        await worker.at(220)
        [back] = worker.reported(BusFound)
        assert isinstance(back, BusFound)
        assert round(back.missing_secs) == 210
        await worker.feed_until(221, record(1))
        assert world.bus.arrived["dst_acme"] == ["1"]


@in_virtual_time
async def test_only_buses_in_use_are_checked() -> None:
    world = World(destination())
    async with world.worker() as worker:
        following = await busy(worker, 1500, 0)
        assert len(looks(world)) == 3
        assert [round(at) for at in looks(world)] == [10, 610, 1210]
        await worker.at(5000)
        assert len(looks(world)) == 3
        await worker.feed_until(5001, record(following))
        assert len(looks(world)) == 4


@in_virtual_time
async def test_describe_denied_does_not_stop_delivery() -> None:
    world = World(destination(), bus_status="denied")
    async with world.worker() as worker:
        await worker.feed_until(601, record(0))
        await worker.feed_until(602, record(1))
        assert world.bus.arrived["dst_acme"] == ["0", "1"]
        assert not worker.reported(BusMissing)
        assert not worker.reported(BusFound)


@in_virtual_time
async def test_a_denied_check_ends_a_missing_bus() -> None:
    """It was made again, with a role that may only put events, so no check could ever find it."""
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.bus.bus_status["dst_acme"] = "denied"
        await worker.at(40)
        await worker.feed_until(41, record(1))
        assert len(worker.reported(BusFound)) == 1
        assert world.bus.arrived["dst_acme"] == ["1"]
        assert worker.engine.stats().dispatcher.gone == 0


@in_virtual_time
async def test_no_answer_keeps_a_bus_missing() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.bus.bus_status["dst_acme"] = "unknown"
        await worker.at(80)
        await worker.feed_until(81, record(1))
        assert world.topics.dead() == [("0", "blocked"), ("1", "blocked")]
        assert looks(world) == [0.0, 30.0, 60.0], "and it is asked again no later for it"
        world.bus.bus_status["dst_acme"] = "there"
        await worker.at(100)
        assert len(worker.reported(BusFound)) == 1


def moved(name: str) -> Destination:
    """The document, after its customer made another bus."""
    return modified(destination(), bus=f"arn:aws:events:us-east-1:123456789012:event-bus/{name}")


@in_virtual_time
async def test_a_new_document_with_a_missing_bus_is_checked() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(100, record(0))
        world.directory.put(moved("misspelt"))
        world.bus.bus_status["dst_acme"] = "gone"
        await worker.feed_until(101, record(1))
        await worker.feed_until(102, record(2))
        assert looks(world) == [0.0, 100.0]
        assert world.topics.dead() == [("1", "blocked"), ("2", "blocked")]


@in_virtual_time
async def test_a_changed_document_goes_first() -> None:
    many = [modified(destination(f"s{n}"), bus=f"arn:aws:events:us-east-1:{n:012}:event-bus/x") for n in range(400)]
    world = World(destination(), *many)
    async with world.worker() as worker:
        await worker.feed_until(5, record(0), *(record(1 + number, f"s{number}") for number in range(400)))
        world.directory.put(moved("misspelt"))
        world.bus.bus_status["dst_acme"] = "gone"
        await worker.feed_until(6, record(401))
        assert worker.engine.stats().dispatcher.gone == 1
        await worker.at(30)
        assert len(world.bus.checks) == 402, "and the others are asked about as before"


@in_virtual_time
async def test_only_the_missing_bus_gets_nothing() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(100, record(0))
        world.directory.put(moved("made-anew"))
        world.bus.bus_status["dst_acme"] = "there"
        await worker.feed_until(101, record(1))
        assert world.bus.arrived["dst_acme"] == ["1"]
        assert worker.engine.stats().dispatcher.gone == 0
        await worker.at(2000)
        assert looks(world)[-1] == 100.0, "nor is the old one asked about any more"


@in_virtual_time
async def test_new_credentials_are_checked_first() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(100, record(0))
        changed = AssumeRole("arn:aws:iam::123456789012:role/Another", "ext")
        world.directory.put(modified(destination(), auth=changed))
        await worker.feed_until(101, record(1))
        assert looks(world)[-1] == 100.0
        assert world.topics.dead() == [("0", "blocked"), ("1", "blocked")]
        world.directory.put(modified(destination(), auth=AssumeRole(changed.role_arn, "ext-2")))
        world.bus.bus_status["dst_acme"] = "there"
        await worker.feed_until(102, record(2))
        assert world.bus.arrived["dst_acme"] == ["2"]


@in_virtual_time
async def test_an_unrelated_edit_starts_no_check() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(100, record(0))
        world.directory.put(dataclasses.replace(destination(), event_types=("order.*",)))
        await worker.feed_until(101, record(1))
        assert len(looks(world)) == 1


@in_virtual_time
@pytest.mark.parametrize(("late", "now"), [("gone", "there"), ("there", "gone")])
async def test_an_old_documents_answer_is_ignored(late: BusStatus, now: BusStatus) -> None:
    world = World(destination(), bus_status=late)
    world.bus.check_secs = 5.0
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.directory.put(moved("another"))
        world.bus.bus_status["dst_acme"], world.bus.check_secs = now, 0.0
        await worker.feed_until(10, record(1))
        assert worker.engine.stats().dispatcher.gone == (now == "gone")
        assert len(worker.reported(BusMissing)) == (now == "gone")
        assert not worker.reported(BusFound)


@in_virtual_time
async def test_an_early_change_causes_one_check() -> None:
    same = [destination(f"s{number}") for number in range(3)]
    world = World(*same)
    async with world.worker() as worker:
        await worker.feed_until(0.5, *(record(number, f"s{number}") for number in range(3)))
        world.directory.put(modified(same[2], auth=AssumeRole("arn:aws:iam::123456789012:role/R", "x")))
        await worker.at(60)
        assert len(looks(world, "dst_s2")) == 1
        assert len(world.bus.checks) == 3


@in_virtual_time
async def test_an_enabled_destination_is_checked_at_once() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.directory.put(dataclasses.replace(destination(), enabled=False))
        await worker.at(2000)
        assert looks(world) == [0.0]
        assert worker.engine.stats().dispatcher.gone == 0
        world.directory.put(destination())
        await worker.feed_until(2001, record(1))
        assert looks(world) == [0.0, 2000.0]
        assert world.topics.dead() == [("0", "blocked"), ("1", "blocked")]


@pytest.mark.unmeasured
@in_virtual_time
async def test_one_accounts_buses_are_checked_25_a_second() -> None:
    elsewhere = "arn:aws:events:us-east-1:999999999999:event-bus/x"
    same = [destination(f"s{number}") for number in range(2000)]
    world = World(*same, modified(destination("far"), bus=elsewhere))
    world.bus.bus_status["dst_s1999"] = "gone"
    async with world.worker(poll_secs=0.1, limits=buffer_limits(max_events=1000)) as worker:
        for start in range(0, 2000, 100):
            worker.feed(*(record(number, f"s{number}") for number in range(start, start + 100)))
        await worker.feed_until(1, record(2000, "far"))
        assert looks(world, "dst_far") == [0]
        assert world.bus.made("dst_far") == [(0.1, ["2000"])]
        await worker.at(200)
        asked = sorted(at for at, name in world.bus.checks if name != "dst_far")
        assert len(asked) - len(looks(world, "dst_s1999")) == 1999, (
            "each of them once, although what waited too long came back from a retry topic"
        )
        assert asked[49] == 0
        assert all(later - sooner > 0.999 for sooner, later in zip(asked, asked[76:], strict=False))
        assert all(later - sooner > 0.999 for sooner, later in zip(asked[50:], asked[76:], strict=False))
        assert asked[1999] < 80
        assert sum(len(world.bus.arrived[f"dst_s{number}"]) for number in range(1999)) == 1999
        assert world.topics.dead() == [("1999", "blocked")]
        assert worker.commit()[P0] == 2001


@in_virtual_time
async def test_a_missing_bus_gets_no_first_burst() -> None:
    world = World(destination(), destination("fine"), bus_status="gone")
    world.bus.check_secs = 0.3
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(300)), record(300, "fine"))
        assert world.bus.made() == []
        assert Counter(reason for _, reason in world.topics.dead()) == {"blocked": 300}
        assert world.bus.arrived["dst_fine"] == ["300"]
        assert worker.commit() == {P0: 301}


@in_virtual_time
async def test_a_new_owner_sends_nothing_to_a_missing_bus() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        await worker.give_back(P0)
    async with world.worker() as next_owner:
        await next_owner.feed_until(3, *records(range(1, 30)))
        assert world.bus.made() == []
        assert next_owner.commit() == {P0: 30}


@in_virtual_time
async def test_only_the_first_batch_waits_for_the_answer() -> None:
    world = World(destination())
    world.bus.check_secs = 0.7
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(20)))
        assert [at for at, _ in world.bus.made()] == [0.7, 0.7]
        await busy(worker, 1500, 20)
        late = [round(at % 10, 6) for at, _ in world.bus.made()[2:]]
        assert set(late) == {0.1}, "also while the bus is asked about again"
        assert len(looks(world)) == 3


@pytest.mark.parametrize("bus_status", ["denied", "unknown", "there"])
@in_virtual_time
async def test_only_missing_stops_the_first_batch(bus_status: BusStatus) -> None:
    world = World(destination())
    world.bus.check_secs, world.bus.bus_status["dst_acme"] = 0.5, bus_status
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(10)))
        assert [at for at, _ in world.bus.made()] == [0.5]
        assert not worker.reported(BusMissing)


@pytest.mark.parametrize("sign_in_secs", [0.0, 4.0])
@in_virtual_time
async def test_a_late_answer_costs_two_seconds(sign_in_secs: float) -> None:
    world = World(destination())
    world.bus.sign_in_secs, world.bus.check_secs, world.bus.bus_status["dst_acme"] = sign_in_secs, 3.0, "gone"
    async with world.worker() as worker:
        await worker.feed_until(sign_in_secs + 5, *records(range(10)))
        assert [at for at, _ in world.bus.made()] == [sign_in_secs + 2]
        [gone] = worker.reported(BusMissing)
        assert isinstance(gone, BusMissing)
        assert gone.swallowed is not None
        assert gone.swallowed.deliveries == 10


@in_virtual_time
async def test_a_wait_for_our_sign_in_ends_on_a_cursor() -> None:
    world = World(destination())
    world.bus.sign_in_secs = 30.0
    async with world.worker() as worker:
        await worker.feed_until(11, record(0))
        assert world.bus.made() == []
        assert worker.commit() == {P0: 1}
        await worker.at(31)
        assert world.bus.arrived["dst_acme"] == ["0"]
        assert world.topics.written == []


@in_virtual_time
async def test_waiting_retries_climb_no_tier() -> None:
    world = World(destination())
    world.bus.sign_in_secs = 100.0
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(retry_record(0))
        await worker.at(101)
        assert world.topics.written == [], "it waits for another hold"
        assert world.bus.arrived["dst_acme"] == ["0"]


@in_virtual_time
async def test_a_waiting_retry_leaves_for_the_shortest_delay_when_others_need_the_room() -> None:
    upper = Partition(TIERS[1].topic, 0)
    world = World(destination())
    world.bus.sign_in_secs = HANGS
    async with world.worker(owns=[upper]) as worker:
        worker.feed_retries(retry_record(0, partition=upper))
        await worker.at(11)
        worker.dispatcher.shed_late(worker.retry_consumer.trackers.values())
        await worker.at(12)
        assert [(tier, reason) for _, _, tier, reason in world.topics.moved()] == [("10s", "held")]
        assert worker.commit() == {upper: 1}


@in_virtual_time
async def test_waiting_deliveries_leave_on_revocation() -> None:
    world = World(destination())
    world.bus.check_secs = HANGS
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(30)))
        await worker.give_back(P0)
        assert virtual_loop().elapsed == 1.0
        assert worker.ledger.dropped == 30
        await worker.at(5)
        assert world.bus.made() == []


@in_virtual_time
async def test_waiting_destinations_leave_room() -> None:
    ill = [f"ill{n}" for n in range(100)]
    world = World(*(destination(name) for name in ill), destination("fine"))
    async with world.worker(limits=buffer_limits(max_events=600)) as worker:
        await worker.feed_until(1, record(0, "fine"))
        world.bus.sign_in_secs = HANGS
        for tenth in range(90):
            await worker.at(1 + tenth / 10)
            n = 1 + 21 * tenth
            unwell = [record(n + k, ill[(20 * tenth + k) % 100]) for k in range(20)]
            assert not worker.feed(*unwell, record(n + 20, "fine")).hold
        await worker.at(12)
        assert len(world.bus.arrived["dst_fine"]) == 91


@in_virtual_time
async def test_a_throttled_check_is_repeated() -> None:
    world = World(destination(), bus_status="busy")
    async with world.worker() as worker:
        await worker.feed_until(0.5, *records(range(10)))
        world.bus.bus_status["dst_acme"] = "gone"
        await worker.at(3)
        assert looks(world) == [0, 1]
        assert world.bus.made() == []
        assert len(world.topics.dead()) == 10


@in_virtual_time
async def test_endless_throttling_lets_the_batch_go() -> None:
    world = World(destination(), bus_status="busy")
    async with world.worker() as worker:
        await worker.feed_until(10, *records(range(10)))
        assert [at for at, _ in world.bus.made()] == [2.0]
        assert looks(world) == [0, 1, 2]


@in_virtual_time
async def test_an_unanswered_check_is_repeated_soon() -> None:
    world = World(destination(), bus_status="unknown")
    async with world.worker() as worker:
        await busy(worker, 100, 0)
        assert looks(world) == [10, 40, 70]
        world.bus.bus_status["dst_acme"] = "gone"
        await worker.at(110)
        await worker.feed_until(111, record(50))
        assert len(worker.reported(BusMissing)) == 1


@in_virtual_time
async def test_a_long_silence_requires_a_check() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(2000, record(0))
        world.bus.check_secs, world.bus.bus_status["dst_acme"] = 0.3, "gone"
        await worker.feed_until(2001, *records(range(1, 11)))
        assert world.bus.arrived["dst_acme"] == ["0"]
        assert len(world.topics.dead()) == 10
        [gone] = worker.reported(BusMissing)
        assert isinstance(gone, BusMissing)
        assert gone.bus.last_seen_ms == START_MS
        assert gone.swallowed is not None
        assert gone.swallowed.deliveries == 1, "nobody knows whether the bus was there still"


@in_virtual_time
async def test_a_failed_sign_in_shows_its_reason() -> None:
    world = World(destination())
    world.bus.signs_in = False
    world.bus.bus_status["dst_acme"] = "gone"
    world.bus.answer(always(failed("ServiceUnavailable", 503, operation="AssumeRole")))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(3)))
        assert world.bus.made()
        assert world.bus.checks == []
        world.bus.signs_in = True
        made = len(world.bus.made())
        await worker.at(20)
        assert len(world.bus.made()) == made, "the retries wait for the answer"
        assert [reason for _, reason in world.topics.dead()] == ["blocked"] * 3


@in_virtual_time
async def test_a_change_during_sign_in_is_one_check() -> None:
    world = World(destination())
    world.bus.signs_in, world.bus.sign_in_secs = False, 1.0
    async with world.worker() as worker:
        await worker.feed_until(0.5, record(0))
        world.bus.signs_in, world.bus.sign_in_secs = True, 0.0
        world.directory.put(moved("another"))
        await worker.at(5)
        assert looks(world) == [0.5]
        assert world.bus.made() == [(0.5, ["0"])]


@in_virtual_time
async def test_a_deletion_cancels_a_queued_check() -> None:
    same = [destination(f"s{number}") for number in range(90)]
    world = World(*same)
    async with world.worker() as worker:
        await worker.feed_until(0.5, *(record(number, f"s{number}") for number in range(90)))
        world.directory.remove("dst_s89")
        await worker.at(10)
        assert len(world.bus.checks) == 89
        assert looks(world, "dst_s89") == []
        assert worker.commit() == {P0: 90}


@in_virtual_time
async def test_a_missing_bus_needs_no_sign_in() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.bus.signs_in = False
        await worker.feed_until(100, record(1))
        world.directory.put(modified(destination(), auth=AssumeRole("arn:aws:iam::123456789012:role/R", "x")))
        await worker.feed_until(101, record(2))
        assert [reason for _, reason in world.topics.dead()] == ["blocked"] * 3
        assert worker.engine.stats().dispatcher.gone == 1
        assert looks(world) == [0]


@in_virtual_time
async def test_swallowed_deliveries_are_reported() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(600, *records(range(5)))
        world.bus.bus_status["dst_acme"], world.bus.check_secs = "gone", 0.5
        await worker.feed_until(600.3, *records(range(5, 12)))
        await worker.feed_until(700, *records(range(12, 22)))
        [gone] = worker.reported(BusMissing)
        assert isinstance(gone, BusMissing)
        assert gone.bus == (START_MS + 600_500, START_MS)
        assert gone.swallowed == (22, START_MS + 100, START_MS + 600_501)
        [view] = worker.bus_monitor.missing_buses()
        assert (view.destination.id, view.bus, view.swallowed) == ("dst_acme", gone.bus, gone.swallowed)
        world.bus.bus_status["dst_acme"] = "there"
        await worker.at(900)
        [back] = worker.reported(BusFound)
        assert isinstance(back, BusFound)
        assert back.swallowed == gone.swallowed
        await worker.feed_until(1600, record(22))
        world.bus.bus_status["dst_acme"] = "gone"
        await worker.feed_until(1601, record(23))
        gone = worker.reported(BusMissing)[-1]
        assert gone.swallowed is not None
        assert gone.swallowed.deliveries == 2, "those before it was back were told of"


@in_virtual_time
async def test_deliveries_before_last_seen_are_ignored() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(600, *records(range(5)))
        world.bus.check_secs, world.bus.latency = 0.5, lambda _batch: 1.0
        await worker.feed_until(600.2, *records(range(5, 15)))
        await worker.feed_until(1300, *records(range(15, 17)))
        world.bus.bus_status["dst_acme"] = "gone"
        await worker.feed_until(1400, record(17))
        [gone] = worker.reported(BusMissing)
        assert isinstance(gone, BusMissing)
        assert gone.bus.last_seen_ms == START_MS + 600_000
        # The ten left at the same moment as the look that saw the bus, and the two after it. The last one was in flight
        # when the bus was found missing: it is a dead letter.
        assert gone.swallowed == (12, START_MS + 600_000, START_MS + 1_300_501)
        assert world.topics.dead() == [("17", "blocked")]
        [letter] = world.topics.written
        assert letter.said["pushrail-attempts"] == "1"
        assert "last seen 2026-" in letter.said["pushrail-error-message"]


@in_virtual_time
async def test_a_call_to_an_old_bus_does_not_count() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.bus.latency = lambda _batch: 1.0
        await worker.feed_until(1.1, *records(range(1, 11)))
        world.bus.bus_status["dst_acme"] = "gone"
        world.directory.put(moved("misspelt"))
        await worker.feed_until(3, record(11))
        assert world.topics.dead() == [("11", "blocked")]
        assert worker.reported(BusMissing)[0].swallowed is None


@in_virtual_time
async def test_a_change_counts_before_its_notification() -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.bus.latency = lambda _batch: 1.0
        worker.feed(*records(range(1, 11)))
        world.bus.bus_status["dst_acme"] = "gone"
        world.directory.put_untold(moved("misspelt"))
        await worker.feed_until(3, record(11))
        assert looks(world) == [0, 1]
        assert world.topics.dead() == [("11", "blocked")]


@in_virtual_time
async def test_a_reassigned_id_starts_unknown() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.directory.put(dataclasses.replace(destination(), customer_external_id="acct_other"))
        assert worker.engine.stats().dispatcher.gone == 0
        world.bus.bus_status["dst_acme"] = "there"
        await worker.feed_until(2, record(1, "other"))
        assert world.bus.arrived["dst_acme"] == ["1"]


@in_virtual_time
async def test_a_deleted_document_ends_its_state() -> None:
    """Nothing that grows with the destinations, or the accounts, that a worker ever met."""
    world = World()
    async with world.worker() as worker:
        for number in range(300):
            arn = f"arn:aws:events:us-east-1:{number:012}:event-bus/x"
            world.directory.put(destination(f"s{number}", bus=arn))
            world.bus.bus_status[f"dst_s{number}"] = "gone" if number % 2 else "there"
            await worker.feed_until(10 * number + 5, record(number, f"s{number}"))
            assert worker.engine.stats().dispatcher.gone == number % 2
            assert len(worker.engine.stats(10).destinations) == number % 2
            world.directory.remove(f"dst_s{number}")
            assert worker.engine.stats().dispatcher.gone == len(worker.engine.stats(10).destinations) == 0
        watched = worker.bus_monitor
        assert len(watched._watched) == 0
        assert len(watched._quotas) <= 3


@in_virtual_time
async def test_a_deleted_document_ends_a_suspension() -> None:
    world = World(destination(), answer=always(failed("AccessDeniedException", 400)))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(50)))
        assert worker.engine.stats().dispatcher.suspended == 1
        world.directory.remove("dst_acme")
        assert worker.engine.stats().dispatcher.suspended == worker.lanes == 0


@in_virtual_time
async def test_a_deleted_destination_is_not_checked() -> None:
    world = World(destination(), bus_status="gone")
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        assert worker.engine.stats().dispatcher.gone == 1
        world.directory.remove("dst_acme")
        await worker.at(2000)
        assert worker.engine.stats().dispatcher.gone == 0
        assert looks(world) == [0.0]
        assert worker.bus_monitor.missing_buses() == []
        assert len(worker.reported(BusMissing)) == 1
