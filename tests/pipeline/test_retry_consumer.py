"""Records of retry topics begin when they are due, for their own destination only."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pushrail_stream.core.destination import RetryBounds
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.core.signals import Attempted, Skipped
from pushrail_stream.core.text import MAX_TIME_MS, MIN_TIME_MS, format_rfc3339
from pushrail_stream.pipeline.assignment import FlowControl
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import HANGS, RETRIES, World
from tests.support.policy import TIERS, buffer_limits, lane_limits, retry_policy
from tests.support.records import (
    DLQ,
    EVENTS,
    P0,
    RETRY,
    START_MS,
    always,
    failed,
    having,
    in_turn,
    record,
    records,
    retry_record,
    take_all,
    without,
)
from tests.support.virtual_time import in_virtual_time

FLOWS = FlowControl(hold=False, full=frozenset())
DAY = 86_400
DOWN = failed("503", 503, "Service Unavailable")


@in_virtual_time
async def test_a_retry_is_delivered_after_its_tiers_delay() -> None:
    world = World(destination(), answer=always(DOWN))
    async with world.worker(poll_secs=0.1) as worker:
        await worker.feed_until(10, *records(range(3), headers=(("pushrail-vendor", b"acme"), ("null", None))))
        (moved_at,) = {at for at, _, _, _ in world.topics.moved()}
        assert moved_at == 6.472
        world.bus.answer(take_all)
        await worker.at(16.4)
        assert world.bus.arrived == {}
        await worker.at(17)
        assert sorted(world.bus.arrived["dst_acme"]) == ["0", "1", "2"]
        assert moved_at + 10 - 0.002 <= world.bus.made()[-1][0] <= moved_at + 10.3
        attempts = [entry for call in worker.reported(Attempted) for entry in call.entries if entry.origin.offset == 0]
        assert [entry.attempt for entry in attempts] == list(range(1, 9))
        assert [entry.trigger for entry in attempts] == ["live"] * 7 + ["retry"]
        assert (worker.ledger.begun, worker.ledger.moved_to_retry, worker.ledger.delivered) == (6, 3, 3)
        assert worker.commit() == {P0: 3, world.topics.only_log(): 3}
        entries = [entry["Detail"] for entry in world.bus.calls[-1].entries]
        assert sorted(entries) == sorted((r.value or b"").decode() for r in records(range(3)))


@in_virtual_time
async def test_a_retry_climbs_then_expires_in_a_day() -> None:
    world = World(destination(), answer=always(DOWN))
    async with world.worker(poll_secs=10) as worker:
        await worker.feed_until(DAY + 2000, record(0))
        moves = world.topics.moved()
        assert [tier for _, _, tier, _ in moves][:4] == ["10s", "2m", "30m", "30m"]
        assert {tier for _, _, tier, _ in moves[3:]} == {"30m"}
        assert {(origin, reason) for _, origin, _, reason in moves} == {("0", "retryable")}
        waited = [round(after - before) for (before, *_), (after, *_) in pairwise(moves)]
        # Each waits as long as its tier says, then for the consumer's next look, and ten seconds at most in memory.
        assert 10 <= waited[0] <= 30
        assert 120 <= waited[1] <= 140
        assert all(1800 <= secs <= 1820 for secs in waited[2:])
        (letter,) = world.topics.on(DLQ)
        assert DAY <= letter.at <= DAY + 1820
        said = [copy.said for copy in world.topics.written]
        assert letter.said["pushrail-reason"] == "expired"
        assert letter.said["pushrail-error-code"] == "503"
        assert {each["pushrail-first-attempt-at"] for each in said} == {"2026-05-28T20:26:40.100Z"}
        assert {each["pushrail-origin"] for each in said} == {f"{EVENTS}/0/0"}
        counted = [int(each["pushrail-attempts"]) for each in said]
        assert counted == sorted(set(counted))
        assert counted[-1] == len(world.bus.calls)
        worker.check_all_committed()


@in_virtual_time
async def test_only_the_failed_destination_gets_a_retry() -> None:
    world = World(destination(name="a"), destination(name="b"))
    world.bus.answer(always(DOWN), "dst_acme_b")
    async with world.worker(poll_secs=0.1) as worker:
        await worker.feed_until(10, *records(range(10)))
        assert len(world.topics.retries[world.topics.only_log()]) == 10
        world.bus.answer(take_all, "dst_acme_b")
        await worker.at(30)
        assert sorted(world.bus.arrived["dst_acme_b"]) == [str(n) for n in range(10)]
        assert len(world.bus.made("dst_acme_a")) == 1
        worker.check_all_committed()


@in_virtual_time
async def test_a_lost_retry_partition_is_left_alone() -> None:
    world = World(destination(), latency=1.0)
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(retry_record(0), retry_record(1, event=1, due=1))
        await worker.at(0.5)
        worker.lose(RETRY)
        await worker.at(5)
        assert worker.retry_consumer.flow_control() == FLOWS
        assert worker.commit() == {}
        assert (worker.ledger.begun, worker.ledger.delivered) == (1, 1)


@in_virtual_time
async def test_a_retry_has_ten_seconds_again() -> None:
    world = World(destination("hangs"), destination("fine"))
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_hangs" else 0.01
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(retry_record(0, "hangs"), retry_record(1, "fine", event=1))
        await worker.at(9)
        assert worker.commit() == {RETRY: 0}
        await worker.at(11)
        assert world.topics.moved() == [(10.002, "0", "2m", "retryable")]
        assert worker.commit() == {RETRY: 2}


@in_virtual_time
async def test_a_copy_of_a_copy_keeps_its_origin() -> None:
    world = World(destination(), answer=always(DOWN))
    own: Headers = (("traceparent", b"garbage"), ("null", None))
    async with world.worker(poll_secs=1) as worker:
        await worker.feed_until(300, record(7, headers=own)._replace(topic_id="id-of-the-events-topic"))
        assert [copy.topic for copy in world.topics.written] == [tier.topic for tier in TIERS]
        for copy in world.topics.written:
            assert copy.headers[:2] == own
            assert (copy.key, copy.value) == (b"acct_acme", record(7).value)
            assert copy.said["pushrail-origin"] == f"{EVENTS}/0/7"
            assert copy.said["pushrail-origin-topic-id"] == "id-of-the-events-topic"
            assert len(copy.headers) == len({name for name, _ in copy.headers})


CHANGES = [("delete", "deleted"), ("give away", "deleted"), ("disable", "disabled")]
"""The changes of a destination, and the reason for which its retries are skipped then."""


def change_it(world: World, change: str) -> None:
    if change == "delete":
        world.directory.remove("dst_acme")
    else:
        owner = "acct_heir" if change == "give away" else "acct_acme"
        world.directory.put(destination(customer_external_id=owner, enabled=change != "disable"))


@pytest.mark.parametrize(("change", "reason"), CHANGES)
@in_virtual_time
async def test_a_retry_to_a_deleted_destination_is_skipped(change: str, reason: str) -> None:
    world = World(destination(), destination("other"))
    change_it(world, change)
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(retry_record(0, event=5), retry_record(1, "other", event=6))
        await worker.at(1)
        (skipped,) = worker.reported(Skipped)
        assert (str(skipped.origin), skipped.destination_id) == (f"{EVENTS}/0/5", "dst_acme")
        assert (skipped.reason, skipped.trigger) == (reason, "retry")
        assert world.bus.made() == []
        assert world.bus.arrived["dst_other"] == ["6"]
        assert worker.commit() == {RETRY: 2}


@pytest.mark.parametrize(("change", "reason"), CHANGES)
@in_virtual_time
async def test_a_lane_of_a_deleted_destination_is_skipped(change: str, reason: str) -> None:
    world = World(destination(), destination("other"), answer=always(DOWN))
    async with world.worker(owns=[P0, RETRY]) as worker:
        await worker.feed_until(1, *records(range(10)))
        worker.feed_retries(retry_record(0, event=10))
        worker.feed(record(11))
        change_it(world, change)
        await worker.at(3)
        assert sorted(s.origin.offset for s in worker.reported(Skipped)) == list(range(12))
        assert {s.reason for s in worker.reported(Skipped)} == {reason}
        assert {s.bus is None for s in worker.reported(Skipped)} == {reason == "deleted"}
        assert worker.commit() == {P0: 12, RETRY: 1}
        assert world.topics.written == []
        await worker.at(70)
        assert worker.lanes == 0, "its bus failed: that is remembered for a minute"


@in_virtual_time
async def test_a_reassigned_id_gets_no_old_deliveries() -> None:
    world = World(narrow("acme", 1), answer=in_turn(DOWN, take_all), latency=5.0)
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(20)))
        world.directory.put(destination(customer_external_id="acct_heir"))
        await worker.feed_until(30, record(20, "heir"))
        assert world.bus.arrived["dst_acme"] == ["20"]
        assert {(s.origin.offset, s.reason) for s in worker.reported(Skipped)} == {(n, "deleted") for n in range(20)}
        assert worker.commit() == {P0: 21}


@pytest.mark.parametrize(
    ("broken", "code", "message"),
    [
        (without(retry_record(0), "pushrail-origin"), "pushrail-origin", "is missing"),
        (having(retry_record(0), "pushrail-origin", b"nonsense"), "pushrail-origin", None),
        (having(retry_record(0), "pushrail-attempts", b"some"), "pushrail-attempts", None),
        (having(retry_record(0), "pushrail-not-before", b"soon"), "pushrail-not-before", None),
        (having(retry_record(0), "pushrail-not-before", b"9" * 5000), "pushrail-not-before", None),
        (having(retry_record(0), "pushrail-first-attempt-at", b"\xff"), "pushrail-first-attempt-at", None),
        *(
            (having(retry_record(0), header, value), header, None)
            for header, value in (
                ("pushrail-first-attempt-at", b"9999-12-31T23:59:60Z"),
                ("pushrail-failed-at", b"9999-12-31T23:59:60Z"),
                ("pushrail-failed-at", b"0001-01-01T00:00:00+23:59"),
                ("pushrail-attempts", b"9" * 4000),
                ("pushrail-origin", b"pushrail.events/-1/-1"),
                ("pushrail-origin", b"pushrail.events/0/" + b"9" * 4000),
            )
        ),
        (without(retry_record(0), "pushrail-destination"), "pushrail-destination", "is missing"),
        (retry_record(0)._replace(value=b"poison"), "value", None),
        (retry_record(0)._replace(value=None), "value", None),
    ],
)
@in_virtual_time
async def test_an_undecodable_retry_is_dead_lettered(broken: Record, code: str, message: str | None) -> None:
    world = World(destination())
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(broken, retry_record(1, event=1))
        await worker.at(1)
        (letter,) = world.topics.written
        assert (letter.topic, letter.key, letter.value) == (DLQ, broken.key, broken.value)
        assert letter.said["pushrail-reason"] == "undecodable"
        assert letter.said["pushrail-error-code"] == code
        assert message is None or message in letter.said["pushrail-error-message"]
        assert letter.said["pushrail-origin"] == f"{RETRY.topic}/0/0"
        assert world.bus.arrived["dst_acme"] == ["1"]
        assert worker.commit() == {RETRY: 2}


@pytest.mark.parametrize("code", ["503", "InvalidClientTokenId"])
@pytest.mark.parametrize("failed_at_ms", [MIN_TIME_MS, MAX_TIME_MS])
@in_virtual_time
async def test_extreme_times_are_copied_again(code: str, failed_at_ms: int) -> None:
    world = World(destination(), answer=always(DOWN))
    extreme = retry_record(0, first_attempt_at_ms=MAX_TIME_MS, failed_at_ms=failed_at_ms, error_code=code)
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(extreme)
        await worker.at(30)
        (moved,) = world.topics.written
        assert moved.topic in {tier.topic for tier in TIERS}
        assert moved.said["pushrail-first-attempt-at"] == format_rfc3339(START_MS), "never later than now"
        assert worker.commit() == {RETRY: 1}


@in_virtual_time
async def test_a_record_without_a_due_time_is_due() -> None:
    world = World(destination())
    async with world.worker(owns=[RETRY]) as worker:
        bare = without(without(retry_record(0), "pushrail-not-before"), "pushrail-first-attempt-at")
        worker.feed_retries(bare)
        await worker.at(1)
        assert world.bus.arrived["dst_acme"] == ["0"]


@in_virtual_time
async def test_a_new_owner_skips_settled_retries() -> None:
    world = World(destination("slow"), destination("fast"))
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_slow" else 0.01
    log = [retry_record(0, "slow"), *(retry_record(n, "fast", event=n) for n in range(1, 10))]
    async with world.worker(owns=[RETRY]) as crashed:
        crashed.feed_retries(*log)
        await crashed.at(1)
        assert crashed.commit() == {RETRY: 0}
    world.bus.latency = lambda _batch: 0.01
    async with world.worker(owns=[RETRY]) as next_owner:
        next_owner.feed_retries(*log)
        await next_owner.at(2)
        assert world.bus.arrived == {"dst_fast": [str(n) for n in range(1, 10)], "dst_slow": ["0"]}
        assert next_owner.commit() == {RETRY: 10}


@in_virtual_time
async def test_a_full_worker_pauses_retries() -> None:
    world = World(narrow("acme", 1), latency=1.0)
    async with world.worker(owns=[RETRY], limits=buffer_limits(max_events=20)) as worker:
        assert worker.feed_retries(*(retry_record(n, event=n) for n in range(20))).hold
        await worker.at(1.5)
        assert not worker.retry_consumer.flow_control().hold


@in_virtual_time
async def test_foreign_retry_partitions_are_ignored() -> None:
    world = World(destination())
    async with world.worker(owns=[RETRIES[1]]) as worker:
        worker.feed_retries(retry_record(0, partition=RETRIES[0]))
        await worker.at(1)
        assert worker.ledger.begun == 0


@in_virtual_time
async def test_our_own_fault_kills_no_delivery() -> None:
    world = World(destination(), answer=always(failed("InvalidClientTokenId", 403, operation="AssumeRole")))
    async with world.worker(poll_secs=10, policy=retry_policy(max_age_secs=600)) as worker:
        await worker.feed_until(7200, record(0))
        assert world.topics.on(DLQ) == []
        assert worker.commit() == {P0: 1}, "it is on a cursor"
        world.bus.answer(take_all)
        await worker.at(7200 + 10)
        assert world.topics.written == []
        assert world.bus.arrived["dst_acme"] == ["0"]
        worker.check_all_committed()


@in_virtual_time
async def test_an_old_delivery_without_room_expires() -> None:
    world = World(narrow("acme", 1), latency=HANGS)
    async with world.worker(owns=[RETRY], policy=retry_policy(max_age_secs=20)) as worker:
        worker.feed_retries(
            *(retry_record(n, event=n, error_code="503", error_message="because") for n in range(20)),
            retry_record(20, event=20),
        )
        await worker.at(11)
        assert world.topics.dead() == [(str(n), "expired") for n in range(21)]
        codes = {letter.origin: letter.said["pushrail-error-code"] for letter in world.topics.on(DLQ)}
        # Ten were in flight, ten had failed before, and one has an unknown code.
        assert codes == {str(n): "HoldExceeded" if n < 10 else "503" if n < 20 else "Held" for n in range(21)}
        assert worker.commit() == {RETRY: 21}


@in_virtual_time
async def test_an_oversized_retry_dies_alone() -> None:
    limit = 1_048_576
    world = World(destination(source="s" * 200))
    async with world.worker(owns=[RETRY], batches=lane_limits(max_bytes=limit)) as worker:
        bare = len(retry_record(0).value or b"") + 14 + len("pushrail.acme" + "order.completed" + "acct_acme" + "0")
        worker.feed_retries(retry_record(0, padding=limit - bare), retry_record(1, event=1))
        await worker.at(1)
        assert world.topics.dead() == [("0", "oversize")]
        assert world.topics.written[0].said["pushrail-attempts"] == "3"
        assert world.bus.arrived["dst_acme"] == ["1"]
        assert worker.commit() == {RETRY: 2}


@in_virtual_time
async def test_no_retry_waits_longer_than_its_tier() -> None:
    world = World(destination())
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(retry_record(0, due=365 * DAY), retry_record(1, event=1, due=10))
        for second in range(15):
            await worker.at(second)
            worker.retry_consumer.flow_control()
        assert world.bus.arrived["dst_acme"] == ["0", "1"]
        assert worker.commit() == {RETRY: 2}


@in_virtual_time
async def test_our_own_fault_expires_no_old_delivery() -> None:
    world = World(narrow("acme", 1, per_second=0.1))
    world.bus.answer(always(failed("InvalidClientTokenId", 403, operation="AssumeRole")))
    async with world.worker(owns=[RETRY], policy=retry_policy(max_age_secs=1), jitter=lambda: 0.999) as worker:
        worker.feed_retries(
            *(retry_record(n, event=n, attempts=9, error_code="InvalidClientTokenId") for n in range(30))
        )
        await worker.at(30)
        assert world.topics.on(DLQ) == []
        moved = {int(origin): reason for _, origin, _, reason in world.topics.moved()}
        assert moved == {n: "retryable" if n < 10 else "held" for n in range(30)}


@pytest.mark.parametrize(("code", "calls"), [("InvalidClientTokenId", 3), ("ServiceUnavailable", 1)])
@in_virtual_time
async def test_attempts_before_a_fault_of_ours_do_not_count(code: str, calls: int) -> None:
    world = World(destination(retry=RetryBounds(max_attempts=3)), answer=always(DOWN))
    async with world.worker(owns=[RETRY]) as worker:
        worker.feed_retries(retry_record(0, event=0, attempts=2, error_code=code))
        await worker.at(60)
        assert len(world.bus.calls) == calls
        assert world.topics.dead() == [("0", "expired")]


@in_virtual_time
async def test_time_of_our_own_fault_does_not_count() -> None:
    world = World(destination(), answer=always(failed("InvalidClientTokenId", 403, operation="AssumeRole")))
    async with world.worker(poll_secs=10, policy=retry_policy(max_age_secs=600)) as worker:
        await worker.feed_until(1200, record(0))
        assert world.topics.dead() == []
        # Mended, it meets one failure that passes, and has its ten minutes for that.
        world.bus.answer(in_turn(DOWN, take_all))
        await worker.at(1500)
        assert world.topics.dead() == []
        assert world.bus.arrived == {"dst_acme": ["0"]}


@in_virtual_time
async def test_time_in_the_queue_to_sign_in_does_not_count() -> None:
    queued = failed("SignInsQueued", operation="AssumeRole")
    world = World(destination(), answer=always(queued))
    async with world.worker(poll_secs=10, policy=retry_policy(max_age_secs=600)) as worker:
        await worker.feed_until(3600, record(0))
        assert world.topics.dead() == []
        world.bus.answer(in_turn(DOWN, take_all))
        await worker.at(4200)
        assert world.topics.dead() == []
        assert world.bus.arrived == {"dst_acme": ["0"]}


@in_virtual_time
async def test_an_old_delivery_that_waits_to_sign_in_is_kept() -> None:
    """Two have not been called since they came back: the one call that their destination may have takes its time."""
    world = World(narrow("acme", 1), latency=HANGS)
    async with world.worker(owns=[RETRY], policy=retry_policy(max_age_secs=20)) as worker:
        worker.feed_retries(*(retry_record(n, event=n, error_code="SignInsQueued") for n in range(12)))
        await worker.at(11)
        assert world.topics.dead() == []
        assert sorted(int(origin) for _, origin, _, _ in world.topics.moved()) == list(range(12))


@in_virtual_time
async def test_the_time_before_our_own_fault_still_counts() -> None:
    world = World(destination(), answer=always(DOWN))
    async with world.worker(poll_secs=10, policy=retry_policy(max_age_secs=7200)) as worker:
        await worker.feed_until(6000, record(0))
        world.bus.answer(always(failed("InvalidClientTokenId", 403, operation="AssumeRole")))
        await worker.at(DAY)
        world.bus.answer(always(DOWN))
        await worker.at(DAY + 6000)
        [letter] = world.topics.on(DLQ)
        assert letter.said["pushrail-reason"] == "expired"
