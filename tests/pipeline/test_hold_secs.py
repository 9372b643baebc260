"""No delivery holds back its partition's commit for longer than `hold_secs`."""

from __future__ import annotations

import pytest

from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.core.signals import Attempted, Backpressure, CopyFailed, CursorOpened, MovedToRetry
from pushrail_stream.pipeline.assignment import FlowControl
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import buffer_limits, lane_limits
from tests.support.records import (
    EVENTS,
    P0,
    P1,
    RETRY,
    always,
    answered,
    failed,
    fault,
    in_turn,
    record,
    records,
    retry_record,
    take_all,
)
from tests.support.virtual_time import in_virtual_time

FLOWS = FlowControl(hold=False, full=frozenset())


def hanging() -> World:
    """A bus that never answers, and one that does."""
    world = World(destination("hangs"), destination("fine"))
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_hangs" else 0.01
    return world


@in_virtual_time
async def test_a_hang_blocks_commits_for_hold_secs() -> None:
    world = hanging()
    async with world.worker() as worker:
        worker.feed(*records(range(10), "hangs"))
        for second in range(9):
            await worker.at(second)
            worker.feed(record(10 + 2 * second, "hangs"), record(11 + 2 * second, "fine"))
        await worker.at(9.9)
        assert worker.commit() == {P0: 0}
        await worker.at(10.1)
        # The first ten are gone, the eleventh came at the same time but left 0.1 s later.
        assert worker.commit() == {P0: 12}
        await worker.at(20)
        assert worker.commit() == {P0: 28}
        assert world.bus.arrived["dst_fine"] == [str(n) for n in range(11, 28, 2)]
        assert [at for at, _ in world.bus.made("dst_fine")] == [second + 0.1 for second in range(9)]
        assert {(tier, reason) for _, _, tier, reason in world.topics.moved()} == {("10s", "retryable")}
        fed_at = {str(n): 0 for n in range(10)} | {str(10 + 2 * second): second for second in range(9)}
        assert fed_at.keys() == {origin for _, origin, _, _ in world.topics.moved()}
        assert all(at - fed_at[origin] <= 12 for at, origin, _, _ in world.topics.moved())


@in_virtual_time
async def test_a_retry_copy_has_the_record_and_its_state() -> None:
    world = hanging()
    own = (("traceparent", b"garbage"), ("null", None), ("pushrail-reason", b"an older copy's"))
    async with world.worker() as worker:
        await worker.feed_until(12, given := record(7, "hangs", headers=own))
        (copy,) = world.topics.written
        assert (copy.topic, copy.key, copy.value) == ("pushrail.retry.10s", given.key, given.value)
        assert copy.headers[:2] == own[:2]
        assert copy.said == {
            "traceparent": "garbage",
            "null": "",
            "pushrail-destination": "dst_hangs",
            "pushrail-origin": f"{EVENTS}/0/7",
            "pushrail-attempts": "1",
            "pushrail-first-attempt-at": "2026-05-28T20:26:40.100Z",
            "pushrail-failed-at": "2026-05-28T20:26:50.000Z",
            "pushrail-not-before": "1780000020000",
            "pushrail-reason": "retryable",
            "pushrail-error-code": "HoldExceeded",
            "pushrail-error-message": "no reply in the 9.9 s that were left",
        }
        assert len(copy.headers) == 11
        assert len(worker.reported(MovedToRetry)) == 1


@in_virtual_time
async def test_deliveries_behind_a_hang_leave_in_time() -> None:
    world = hanging()
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(100), "hangs"))
        await worker.feed_until(10.1, *records(range(100, 105), "hangs"))
        assert worker.commit() == {P0: 100}
        said = {copy.origin: copy.said for copy in world.topics.written}
        assert said["79"]["pushrail-reason"] == "retryable"
        assert {key: said["80"].get(key) for key in said["79"] if key != "pushrail-origin"} == {
            "pushrail-destination": "dst_hangs",
            "pushrail-attempts": "0",
            "pushrail-first-attempt-at": "2026-05-28T20:26:50.000Z",
            "pushrail-failed-at": "2026-05-28T20:26:50.000Z",
            "pushrail-not-before": "1780000020000",
            "pushrail-reason": "held",
            "pushrail-error-code": None,
            "pushrail-error-message": None,
        }
        # The others had five seconds left, and were sent as soon as there was room.
        assert world.bus.made("dst_hangs")[8:] == [(10.0, [str(n) for n in range(100, 105)])]
        await worker.at(15.1)
        assert worker.commit() == {P0: 105}


@in_virtual_time
async def test_a_late_call_has_two_seconds() -> None:
    world = World(narrow("acme", 1))
    world.bus.latency = lambda batch: 9.5 if "0" in {d.event.idempotency_key for d in batch.deliveries} else 1.9
    async with world.worker() as worker:
        await worker.feed_until(12, *records(range(20)))
        assert [at for at, _ in world.bus.made()] == [0.0, 9.5]
        assert len(world.bus.arrived["dst_acme"]) == 20
        assert worker.commit() == {P0: 20}


@in_virtual_time
async def test_a_late_hanging_call_is_cut_off() -> None:
    world = World(narrow("acme", 1))
    world.bus.latency = lambda batch: 9.5 if "0" in {d.event.idempotency_key for d in batch.deliveries} else HANGS
    async with world.worker() as worker:
        await worker.feed_until(12, *records(range(20)))
        assert worker.commit() == {P0: 20}
        assert {at for at, _, _, _ in world.topics.moved()} == {11.502}
        outcome = worker.reported(Attempted)[1].entries[0].outcome
        assert outcome == Retryable("HoldExceeded", "no reply in the 2.0 s that were left")


@in_virtual_time
async def test_a_sign_in_that_takes_the_time_leaves_no_call_to_be_cut_off() -> None:
    world = World(destination(), latency=0.7)
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.bus.is_signed_out, world.bus.sign_in_secs = True, 9.3
        await worker.feed_until(13, record(1))
        late, made = (signal.entries[0].outcome for signal in worker.reported(Attempted)[1:])
        assert late == Retryable("SignInsQueued", "the sign-in left no time for a call")
        assert isinstance(made, Delivered)
        assert [keys for _, keys in world.bus.made()] == [["0"], ["1"]]
        assert world.bus.arrived["dst_acme"] == ["0", "1"]
        assert worker.commit() == {P0: 2}


@in_virtual_time
async def test_a_sign_in_leaves_the_rest_of_the_time_to_the_call() -> None:
    world = World(destination(), latency=0.5)
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        world.bus.is_signed_out, world.bus.sign_in_secs = True, 8.0
        await worker.feed_until(13, record(1))
        assert world.bus.made()[1:] == [(9.1, ["1"])]
        assert world.bus.arrived["dst_acme"] == ["0", "1"]
        assert world.topics.moved() == []


@in_virtual_time
async def test_failures_move_after_retries_in_memory() -> None:
    world = World(destination("broken"), destination("fine"))
    world.bus.answer(always(failed("503", 503, "Service Unavailable")), "dst_broken")
    world.bus.latency = lambda _batch: 0.0
    async with world.worker() as worker:
        await worker.feed_until(9, record(0, "broken"), *records(range(1, 11), "fine"))
        # The next pause would be 6.4 s, and only 3.6 s are left.
        assert [at for at, _ in world.bus.made("dst_broken")] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
        (copy,) = world.topics.written
        assert (copy.said["pushrail-attempts"], copy.said["pushrail-request-id"]) == ("7", "request-503")
        assert copy.said["pushrail-first-attempt-at"] == "2026-05-28T20:26:40.100Z"
        assert world.topics.moved() == [(6.402, "0", "10s", "retryable")]
        assert worker.commit() == {P0: 11}
        assert (worker.ledger.delivered, worker.ledger.moved_to_retry) == (10, 1)


@in_virtual_time
async def test_retries_that_find_no_room_in_time_move_to_a_cursor() -> None:
    world = World(narrow("acme", 1), answer=in_turn(failed("503", 503), take_all, failed("503", 503), take_all))
    latencies = iter([0.01, 9.0, 0.01, HANGS])
    world.bus.latency = lambda _batch: next(latencies)
    async with world.worker() as worker:
        await worker.feed_until(9, *records(range(20)))
        await worker.feed_until(11, *records(range(20, 30)))
        assert [(at, keys[0]) for at, keys in world.bus.made()] == [(0.0, "0"), (0.01, "10"), (9.01, "0"), (9.02, "20")]
        # Their hold was over at 10.
        assert world.topics.moved() == []
        assert worker.commit() == {P0: 20}
        (cursor,) = worker.event_consumer.trackers[P0].cursors.values()
        assert (cursor.waiting, cursor.unread(30)) == (10, 0)


@in_virtual_time
async def test_only_failed_entries_of_a_batch_move() -> None:
    world = World(destination(), answer=lambda batch: answered(batch, {"3": fault("InternalFailure")}))
    async with world.worker() as worker:
        await worker.feed_until(10, *records(range(10)))
        assert [origin for _, origin, _, _ in world.topics.moved()] == ["3"]
        assert len(world.bus.arrived["dst_acme"]) == 9
        assert worker.commit() == {P0: 10}


@in_virtual_time
async def test_a_slow_bus_delays_commits_by_two_hundred() -> None:
    world = World(narrow("acme", 8, per_second=5))
    async with world.worker() as worker:
        # Twenty seconds of 100 events a second for a bus that takes 50.
        for tenth in range(200):
            await worker.at(tenth / 10)
            worker.feed(*records(range(10 * tenth, 10 * tenth + 10)))
            committed = worker.commit()[P0]
            # The queue is at most 200; a call has ten, and ten came just now.
            assert 10 * tenth + 10 - committed <= 220
        assert 900 <= len(world.bus.arrived["dst_acme"]) <= 1010
        await worker.at(41)
        assert world.topics.written == []
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(2000))


@in_virtual_time
async def test_a_silent_lane_keeps_fifty() -> None:
    world = hanging()
    async with world.worker() as worker:
        await worker.feed_until(1.9, *records(range(1000), "hangs"))
        worker.feed(*records(range(1000, 1010), "hangs"))
        assert worker.engine.stats().dispatcher.waiting == 930
        assert worker.reported(CursorOpened) == []
        await worker.at(2.1)
        await worker.feed_until(2.2, record(1010, "hangs"))
        # Eighty are in flight, the oldest fifty wait, and the others can be read again.
        assert [(opened.destination_id, opened.since) for opened in worker.reported(CursorOpened)] == [
            ("dst_hangs", 1011)
        ]
        assert worker.engine.stats().dispatcher.waiting == 50
        assert worker.ledger.put_back == 881
        await worker.at(10.2)
        assert worker.commit() == {P0: 1011}
        # Those that were in flight when the cursor opened become its own when their calls are cut off.
        assert worker.engine.stats().dispatcher.waiting + worker.engine.stats().dispatcher.calls >= 80
        world.bus.latency = lambda _batch: 0.01
        await worker.at(40)
        assert sorted(map(int, world.bus.arrived["dst_hangs"])) == list(range(1011))
        assert world.topics.written == []


@pytest.mark.parametrize("latency", [0.01, 0.1])
@in_virtual_time
async def test_a_healthy_burst_is_not_diverted(latency: float) -> None:
    world = World(destination(), latency=latency)
    async with world.worker() as worker:
        await worker.feed_until(9, *records(range(5000)))
        assert world.topics.written == []
        assert worker.commit() == {P0: 5000}


@pytest.mark.parametrize("latency", [0.01, 0.1])
@in_virtual_time
async def test_a_burst_on_a_steady_flow_is_kept(latency: float) -> None:
    world = World(destination(), latency=latency)
    async with world.worker() as worker:
        for n in range(250):
            await worker.at(n * 0.02)
            worker.feed(record(n))
        await worker.feed_until(14, *records(range(250, 5250)))
        assert world.topics.written == []
        assert worker.commit() == {P0: 5250}


@in_virtual_time
async def test_a_full_worker_sheds_the_load_of_a_slow_bus() -> None:
    world = hanging()
    async with world.worker(owns=[P0, P1], limits=buffer_limits(max_events=150)) as worker:
        assert worker.feed(*records(range(150), "hangs")).hold
        waits = []
        for tenth in range(1, 31):
            await worker.at(tenth / 10)
            waits.append(worker.event_consumer.flow_control().hold)
        # After two seconds of silence those that wait become a cursor's, well before their ten seconds.
        assert waits == [True] * 20 + [False] * 10
        assert (worker.ledger.put_back, worker.ledger.moved_to_retry) == (20, 0)
        assert worker.feed(*records(range(10), "fine", partition=P1)) == FLOWS
        await worker.at(3.1)
        assert len(world.bus.arrived["dst_fine"]) == 10
        assert [signal.on for signal in worker.reported(Backpressure)] == [True, False]


@pytest.mark.parametrize("is_down", [True, False])
@in_virtual_time
async def test_many_silent_buses_delay_no_other(*, is_down: bool) -> None:
    names = [f"ill{n}" for n in range(200)]
    world = World(*(destination(name) for name in names), destination("fine"))
    ill = {f"dst_{name}" for name in names}
    for name in ill:
        world.bus.answer(always(failed("503", 503)) if is_down else take_all, name)
    world.bus.latency = lambda batch: HANGS if batch.destination.id in ill and not is_down else 0.01
    async with world.worker(poll_secs=0.1, limits=buffer_limits(max_events=600)) as worker:
        for tenth in range(300):
            await worker.at(tenth / 10)
            # An event in two seconds for each; ten seconds of them are more than the worker may hold.
            unwell = [record(11 * tenth + n, names[(10 * tenth + n) % 200]) for n in range(10)]
            assert not worker.feed(*unwell, record(11 * tenth + 10, "fine")).hold
        await worker.at(31)
        assert [at for at, _ in world.bus.made("dst_fine")] == [round(n / 10 + 0.1, 6) for n in range(300)]
        # Those that wait for their retry find it as it was; then all of them get theirs.
        world.bus.answers = {}
        world.bus.latency = lambda _batch: 0.01
        await worker.at(200)
        assert sum(len(world.bus.arrived[name]) for name in ill) == 3000


@in_virtual_time
async def test_a_full_worker_keeps_the_load_of_a_fast_bus() -> None:
    world = World(destination(), latency=0.1)
    async with world.worker(limits=buffer_limits(max_events=1000)) as worker:
        fed = 0
        for tenth in range(40):
            await worker.at(tenth / 10)
            while not worker.event_consumer.flow_control().hold:
                worker.feed(*records(range(fed, fed + 100)))
                fed += 100
        await worker.at(20)
        assert world.topics.written == []
        assert worker.commit() == {P0: fed}


@in_virtual_time
async def test_a_blocking_head_is_moved() -> None:
    world = World(destination("broken"), destination("fine"))
    world.bus.answer(always(failed("503", 503)), "dst_broken")
    async with world.worker(limits=buffer_limits(partition_max_offsets=1500)) as worker:
        await worker.feed_until(0.5, *records(range(3), "broken"), *records(range(3, 1499), "fine"))
        assert worker.feed(record(1499, "fine")).full == {P0}
        await worker.at(0.55)
        assert worker.event_consumer.flow_control() == FLOWS
        assert [opened.adopted for opened in worker.reported(CursorOpened)] == [3]
        await worker.at(1)
        assert worker.commit() == {P0: 1500}
        world.bus.answer(take_all, "dst_broken")
        await worker.at(2)
        assert world.topics.written == []
        assert len(world.bus.arrived["dst_broken"]) == 3


@in_virtual_time
async def test_a_blocking_head_of_a_retry_topic_moves_to_the_next_tier() -> None:
    world = World(destination("broken"), destination("fine"))
    world.bus.answer(always(failed("503", 503)), "dst_broken")
    broken = [retry_record(n, "broken", event=n) for n in range(3)]
    fine = [retry_record(n, "fine", event=n) for n in range(3, 1500)]
    async with world.worker(owns=[RETRY], limits=buffer_limits(partition_max_offsets=1500)) as worker:
        worker.feed_retries(*broken, *fine)
        await worker.at(1.5)
        worker.retry_consumer.flow_control()
        await worker.at(2)
        assert [(origin, tier) for _, origin, tier, _ in world.topics.moved()] == [
            ("0", "2m"),
            ("1", "2m"),
            ("2", "2m"),
        ]
        assert worker.commit() == {RETRY: 1500}
        assert len(world.bus.arrived["dst_fine"]) == 1497
        assert worker.reported(CursorOpened) == []


@in_virtual_time
async def test_a_span_of_open_offsets_stays() -> None:
    world = World(narrow("slow", 1), destination("fine"), latency=1.0)
    async with world.worker(limits=buffer_limits(partition_max_offsets=100)) as worker:
        assert worker.feed(*records(range(50), "slow"), *records(range(50, 100), "fine")).full == {P0}
        await worker.at(6)
        assert world.topics.written == []
        assert worker.commit() == {P0: 100}


@in_virtual_time
async def test_a_refused_retry_copy_blocks_one_offset() -> None:
    world = World(destination("broken"), destination("fine"))
    world.bus.answer(always(failed("503", 503)), "dst_broken")
    world.topics.refuse = lambda: True
    async with world.worker() as worker:
        worker.feed(*records(range(10), "fine"), record(10, "broken"), *records(range(11, 20), "fine"))
        for second in range(60):
            await worker.at(second)
            worker.feed(*records(range(20 + 10 * second, 30 + 10 * second), "fine"))
        await worker.at(60)
        assert len(world.bus.arrived["dst_fine"]) == 619
        assert worker.commit() == {P0: 10}
        assert (worker.ledger.moved_to_retry, worker.ledger.in_flight) == (0, 1)
        assert {signal.problem for signal in worker.reported(CopyFailed)} == {
            "pushrail.retry.10s: not enough in-sync replicas"
        }
        world.topics.refuse = lambda: False
        await worker.at(70)
        assert [(origin, tier) for _, origin, tier, _ in world.topics.moved()] == [("10", "10s")]
        assert worker.commit() == {P0: 620}


@in_virtual_time
async def test_a_revocation_waits_for_a_retry_copy() -> None:
    world = World(destination(), answer=always(failed("503", 503)))
    world.topics.latency = 3.0
    async with world.worker(batches=lane_limits(hold_secs=1)) as worker:
        await worker.feed_until(2, record(0))
        assert worker.ledger.in_flight == 1
        await worker.give_back(P0)
        assert world.group[P0].offset == 1
        assert worker.ledger.moved_to_retry == 1


@in_virtual_time
async def test_a_late_retry_copy_changes_nothing() -> None:
    world = World(destination(), answer=always(failed("503", 503)))
    world.topics.latency = 60.0
    async with world.worker(batches=lane_limits(hold_secs=1)) as worker:
        await worker.feed_until(2, record(0))
        await worker.give_back(P0)
        assert world.group[P0].offset == 0
        worker.assign(P0)
        await worker.feed_until(61, record(0))
        assert world.topics.moved()[0][1] == "0"
        assert worker.commit() == {P0: 0}
        await worker.at(80)
        assert worker.commit() == {P0: 1}


@in_virtual_time
async def test_a_revoked_retry_copy_is_abandoned() -> None:
    world = World(destination(), answer=always(failed("503", 503)))
    world.topics.refuse = lambda: True
    async with world.worker(batches=lane_limits(hold_secs=1)) as worker:
        await worker.feed_until(2, record(0))
        await worker.give_back(P0)
        assert (worker.ledger.dropped, worker.ledger.in_flight) == (1, 0)
        assert world.group[P0].offset == 0


@in_virtual_time
async def test_a_revoked_delivery_is_not_moved() -> None:
    world = hanging()
    async with world.worker() as worker:
        await worker.feed_until(3, *records(range(10), "hangs"))
        await worker.give_back(P0, deadline_secs=10)
        assert world.topics.written == []
        assert (worker.ledger.dropped, worker.ledger.in_flight) == (10, 0)
        assert world.group[P0].offset == 0
