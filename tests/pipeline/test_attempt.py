"""The consequences of each kind of answer, for exactly the entries that it concerns."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.commit import Committable
from pushrail_stream.core.destination import RetryBounds
from pushrail_stream.core.pacing import Backoff
from pushrail_stream.core.retry import RetryInMemory
from pushrail_stream.core.signals import Attempted, Suspended
from pushrail_stream.eventbridge.error_codes import Answered, CallReply, EntryResult
from tests.support.builders import destination, narrow, with_access_key
from tests.support.flavours import Flavour, every_flavour
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import lane_limits, retry_policy
from tests.support.records import DLQ, P0, always, answered, failed, fault, in_turn, keys, record, records, take_all
from tests.support.virtual_time import in_virtual_time, virtual_loop

TEN = [str(n) for n in range(10)]


@in_virtual_time
async def test_each_entry_of_a_call_has_its_own_outcome() -> None:
    world = World(destination())
    faults = {"3": fault("ThrottlingException"), "7": fault("MalformedDetail", "Detail is malformed.")}
    world.bus.answer(in_turn(lambda batch: answered(batch, faults), take_all))
    async with world.worker() as worker:
        await worker.feed_until(0.05, *records(range(10)))
        assert world.bus.arrived["dst_acme"] == ["0", "1", "2", "4", "5", "6", "8", "9"]
        assert world.topics.dead() == [("7", "rejected")]
        assert worker.commit() == {P0: 3}
        await worker.at(5)
        assert world.bus.made() == [(0.0, TEN), (0.11, ["3"])]
        assert world.topics.dead() == [("7", "rejected")]
        assert worker.commit() == {P0: 10}
        assert (worker.ledger.delivered, worker.ledger.dead_lettered) == (9, 1)


@pytest.mark.parametrize(
    "reply",
    [
        failed("InternalFailure", 500),
        failed("503", 503),
        failed("ConnectTimeoutError"),
        failed("NeverSeenBefore", 418),
        Answered((), 200, None),
    ],
)
@in_virtual_time
async def test_a_temporary_failure_repeats_the_batch(reply: CallReply) -> None:
    world = World(destination(), answer=in_turn(reply, take_all))
    async with world.worker() as worker:
        await worker.feed_until(0.05, *records(range(10)))
        assert worker.commit() == {P0: 0}
        await worker.at(5)
        assert world.bus.made() == [(0.0, TEN), (0.11, TEN)]
        assert worker.commit() == {P0: 10}


@every_flavour
@in_virtual_time
async def test_a_retry_travels_with_new_events(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    world.bus.answer(in_turn(lambda batch: answered(batch, {"0": fault("InternalFailure")}), take_all))
    at = 0.1 if world.bus.max_entries > 3 else 0.0  # three fill a call of the small bus
    async with world.worker() as worker:
        await worker.feed_until(at + 0.1, *records(range(3)))
        await worker.feed_until(5, *records(range(3, 5)))
        assert world.bus.made() == [(at, ["0", "1", "2"]), (round(at + 0.11, 6), ["0", "3", "4"])]


@every_flavour
@in_virtual_time
async def test_the_backoff_doubles_up_to_its_cap(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour, answer=always(failed("503", 503)), latency=0.0)
    async with world.worker(batches=lane_limits(hold_secs=600)) as worker:
        await worker.feed_until(120, record(0))
        made = [at for at, _ in world.bus.made()]
        gaps = [round(after - before, 6) for before, after in pairwise(made)]
        assert gaps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, *[10.0] * 10]
        worker.feed(*records(range(1, 3), "nobody"))
        assert worker.commit() == {P0: 0}
        assert worker.ledger.in_flight == 1
        world.bus.answer(take_all)
        await worker.at(130)
        assert worker.commit() == {P0: 3}


@in_virtual_time
async def test_jitter_spreads_repeated_calls() -> None:
    world = World(destination())
    world.bus.answer(lambda _batch: take_all(_batch) if virtual_loop().elapsed else failed("503", 503))
    dice = iter([0.25, 0.5, 0.75])
    async with world.worker(jitter=lambda: next(dice)) as worker:
        await worker.feed_until(5, *records(range(30)))
        assert [(at, len(keys)) for at, keys in world.bus.made()] == [(0, 10)] * 3 + [
            (0.06, 10),
            (0.11, 10),
            (0.16, 10),
        ]


WHOLE_CALLS = [
    failed("503", 503),
    failed("InternalException", 500),
    failed("ConnectionFailed"),
    failed("ConnectionClosed"),
    failed("ReadTimeout"),
    failed("403", 403),
    failed("Throttling", 400, operation="AssumeRole"),
]


@pytest.mark.parametrize("reply", WHOLE_CALLS, ids=lambda reply: reply.code)
@in_virtual_time
async def test_a_failed_call_is_repeated_as_one_call(reply: CallReply) -> None:
    world = World(destination(), answer=in_turn(reply, reply, take_all))
    dice = random.Random(1)
    async with world.worker(jitter=dice.random) as worker:
        await worker.feed_until(9, *records(range(10)))
        assert [keys for _, keys in world.bus.made()] == [TEN] * 3


@every_flavour
@in_virtual_time
async def test_a_repeated_call_takes_new_events_along(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour, answer=in_turn(failed("503", 503), take_all))
    async with world.worker() as worker:
        await worker.feed_until(0.15, *records(range(2)))
        await worker.feed_until(1, *records(range(2, 3)))
        assert world.bus.made() == [(0.1, ["0", "1"]), (0.21, ["0", "1", "2"])]


@every_flavour
@in_virtual_time
async def test_failed_entries_are_repeated_in_one_call(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    busy = EntryResult(None, "InternalFailure", "later")
    taken = EntryResult("event", None, None)
    world.bus.answer(in_turn(Answered((busy, taken, busy), 200, None), take_all))
    dice = random.Random(1)
    async with world.worker(jitter=dice.random) as worker:
        await worker.feed_until(5, *records(range(3)))
        assert [keys for _, keys in world.bus.made()] == [["0", "1", "2"], ["0", "2"]]


@every_flavour
@in_virtual_time
async def test_an_old_delivery_expires(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour, answer=always(failed("ServiceUnavailable", 503)))
    policy = retry_policy(backoff=Backoff(4, 4), max_age_secs=10)
    async with world.worker(policy=policy, batches=lane_limits(hold_secs=60)) as worker:
        await worker.feed_until(60, record(0))
        # The first attempt was at 0.1; the sixth, ten seconds later, is the last.
        assert [at for at, _ in world.bus.made()] == [0.1, 2.11, 4.12, 6.13, 8.14, 10.15]
        assert world.topics.dead() == [("0", "expired")]
        (letter,) = world.topics.written
        assert letter.said["pushrail-attempts"] == "6"
        assert letter.said["pushrail-error-code"] == world.bus.flavour.code("ServiceUnavailable")
        assert worker.commit() == {P0: 1}


@in_virtual_time
async def test_a_delivery_has_the_attempts_of_its_destination() -> None:
    ours, down = failed("InvalidClientTokenId", 403, operation="AssumeRole"), failed("ServiceUnavailable", 503)
    world = World(destination(retry=RetryBounds(max_attempts=3)), answer=in_turn(ours, down, ours, down, down))
    async with world.worker(batches=lane_limits(hold_secs=60)) as worker:
        await worker.feed_until(60, record(0))
        assert len(world.bus.made()) == 5
        assert world.topics.dead() == [("0", "expired")]
        assert world.topics.written[0].said["pushrail-attempts"] == "5"


@in_virtual_time
async def test_a_destination_may_have_an_age_of_its_own() -> None:
    world = World(destination(retry=RetryBounds(max_age_secs=6)), answer=always(failed("ServiceUnavailable", 503)))
    policy = retry_policy(backoff=Backoff(4, 4), max_age_secs=600)
    async with world.worker(policy=policy, batches=lane_limits(hold_secs=60)) as worker:
        await worker.feed_until(60, record(0))
        assert [at for at, _ in world.bus.made()] == [0.1, 2.11, 4.12, 6.13]
        assert world.topics.dead() == [("0", "expired")]


@pytest.mark.parametrize("refusal", [failed("ValidationException", 400), failed("413", 413)])
@every_flavour
@in_virtual_time
async def test_a_split_call_rejects_only_the_bad_entry(refusal: CallReply, flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    world.bus.answer(lambda batch: refusal if "1" in keys(batch) else take_all(batch))
    full = world.bus.max_entries
    batch = [str(n) for n in range(full)]
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(full)))
        assert world.bus.made()[0] == (0.0, batch)
        assert [keys for _, keys in world.bus.made()[1:]] == [[n] for n in batch]
        assert [round(at, 6) for at, _ in world.bus.made()[1:]] == [round(0.01 * n, 6) for n in range(1, full + 1)]
        assert sorted(world.bus.arrived["dst_acme"]) == [n for n in batch if n != "1"]
        assert world.topics.dead() == [("1", "rejected")]
        assert world.topics.written[0].said["pushrail-attempts"] == "2"
        assert worker.commit() == {P0: full}


@every_flavour
@in_virtual_time
async def test_a_rejected_single_entry_is_not_repeated(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour, answer=always(failed("ValidationException", 400)))
    async with world.worker() as worker:
        await worker.feed_until(5, record(0))
        assert len(world.bus.calls) == 1
        assert world.topics.dead() == [("0", "rejected")]


@every_flavour
@in_virtual_time
async def test_a_split_entry_may_be_retried(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour, answer=in_turn(INVALID, failed("503", 503), take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(2)))
        # Those that had not been sent yet come with it, in one call.
        assert world.bus.made() == [(0.1, ["0", "1"]), (0.11, ["0"]), (0.32, ["0", "1"])]
        assert worker.commit() == {P0: 2}


INVALID = failed("ValidationException", 400, "1 validation error detected")


@pytest.mark.parametrize("code", ["ValidationException", "ValidationError", "SerializationException"])
@every_flavour
@in_virtual_time
async def test_a_fully_rejected_split_blocks(code: str, flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour, answer=always(failed(code, 400)))
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(full)))
        assert len(world.bus.calls) == full + 1
        assert world.topics.dead() == [(n, "blocked") for n in map(str, range(full))]
        assert worker.reported(Suspended) == [], "one attempt, however many calls it took"
        for number in range(1, 5):
            await worker.feed_until(5 + number, *records(range(full * number, full * number + full)))
        (suspended,) = worker.reported(Suspended)
        assert suspended.code == world.bus.flavour.code(code)
        await worker.feed_until(11, record(5 * full))
        assert world.topics.dead()[-1] == (str(5 * full), "suspended")


@in_virtual_time
async def test_a_proxys_size_limit_rejects_entries() -> None:
    world = World(destination(), answer=always(failed("413", 413)))
    async with world.worker() as worker:
        for number in range(6):
            await worker.feed_until(1 + number, *records(range(2 * number, 2 * number + 2)))
        assert {reason for _, reason in world.topics.dead()} == {"rejected"}
        assert len(world.topics.dead()) == 12


@every_flavour
@in_virtual_time
async def test_rejections_in_a_row_block(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour)
    world.bus.answer(lambda batch: take_all(batch) if keys(batch) == ["3"] else INVALID)
    async with world.worker() as worker:
        for number in range(9):
            await worker.feed_until(1 + number, record(number))
        reasons = dict(world.topics.dead())
        # A delivered entry begins the count anew.
        assert [reasons.get(str(n)) for n in range(9)] == [*["rejected"] * 3, None, *["rejected"] * 4, "blocked"]


@in_virtual_time
async def test_a_split_out_of_time_sends_the_rest_later() -> None:
    world = World(destination(), latency=1.0)
    world.bus.answer(lambda batch: INVALID if len(keys(batch)) > 1 or keys(batch) == ["0"] else take_all(batch))
    async with world.worker(batches=lane_limits(hold_secs=4.5)) as worker:
        await worker.feed_until(9, *records(range(10)))
        assert [keys for _, keys in world.bus.made()] == [TEN, ["0"], ["1"], ["2"]]
        assert world.topics.dead() == [("0", "rejected")]
        assert sorted(origin for _, origin, _, _ in world.topics.moved()) == [str(n) for n in range(3, 10)]
        assert worker.commit() == {P0: 10}


@every_flavour
@in_virtual_time
async def test_a_split_stops_with_its_partition(flavour: type[Flavour]) -> None:
    world = World(destination(), flavour=flavour, latency=1.0)
    world.bus.answer(lambda batch: INVALID if len(keys(batch)) > 1 else take_all(batch))
    at = 0.1 if world.bus.max_entries > 3 else 0.0  # three fill a call of the small bus
    async with world.worker() as worker:
        await worker.feed_until(at + 1.5, *records(range(3)))
        await worker.give_back(P0)
        assert [keys for _, keys in world.bus.made()] == [["0", "1", "2"], ["0"]]
        assert world.group[P0].offset == 1


OVER = failed("ValidationException", 400, "Total size of the entries in the request is over the limit.")
FORMER = 262_144


def in_a_small_region(batch: Batch) -> CallReply:
    """A region that has not raised its limit."""
    return OVER if sum(delivery.size for delivery in batch.deliveries) > FORMER else take_all(batch)


@in_virtual_time
async def test_a_smaller_limit_is_learned_from_a_refusal() -> None:
    world = World(destination(), destination("other"), destination("far", region="eu-west-1"))
    for name in ("acme", "other", "far"):
        world.bus.answer(in_a_small_region if name != "far" else take_all, f"dst_{name}")
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(8), padding=60_000))
        assert [len(keys) for _, keys in world.bus.made()] == [8, 4, 4], "all of them, and then what fits"
        assert sorted(world.bus.arrived["dst_acme"]) == [str(n) for n in range(8)]
        worker.feed(*records(range(8, 16), "other", padding=60_000), *records(range(16, 24), "far", padding=60_000))
        await worker.at(2)
        assert [len(keys) for _, keys in world.bus.made("dst_other")] == [4, 4], "its region is known"
        assert [len(keys) for _, keys in world.bus.made("dst_far")] == [8]
        assert worker.commit() == {P0: 24}


@in_virtual_time
async def test_an_entry_over_a_learned_limit_is_dead() -> None:
    world = World(destination(), answer=in_a_small_region)
    async with world.worker() as worker:
        await worker.feed_until(1, record(0), record(1, padding=300_000), record(2))
        await worker.feed_until(2, record(3, padding=300_000), record(4))
        assert world.bus.arrived["dst_acme"] == ["0", "2", "4"]
        assert world.topics.dead() == [("1", "oversize"), ("3", "oversize")]
        attempted, skipped = world.topics.on(DLQ)
        assert attempted.said["pushrail-attempts"] == "1"
        assert skipped.said["pushrail-attempts"] == "0", "no call was made for it"
        assert worker.commit() == {P0: 5}


@in_virtual_time
async def test_an_unexplained_size_refusal_splits_the_call() -> None:
    world = World(destination(), answer=lambda batch: OVER if "1" in keys(batch) else take_all(batch))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(3)))
        assert [keys for _, keys in world.bus.made()] == [["0", "1", "2"], ["0"], ["1"], ["2"]]
        await worker.feed_until(2, *records(range(3, 8), padding=60_000))
        assert len(world.bus.made()[-1][1]) == 5, "nothing was learnt of the region"
        assert world.topics.dead() == [("1", "rejected")]


@in_virtual_time
async def test_stale_credentials_are_renewed_within_a_split() -> None:
    world = World(destination(), sessions_are_old=True)
    world.bus.answer(in_turn(INVALID, failed("ExpiredToken", 400), take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(3)))
        assert [keys for _, keys in world.bus.made()] == [["0", "1", "2"], ["0"], ["0", "1", "2"]]
        assert world.bus.renewed == ["dst_acme"]
        assert worker.commit() == {P0: 3}


@pytest.mark.parametrize(
    "reply",
    [
        failed("AccessDeniedException", 400),
        failed("NotAuthorized", 401),
        failed("ResourceNotFoundException", 400),
        failed("AccessDenied", 403, operation="AssumeRole"),
        failed("CredentialsMissing", operation="Credentials"),
    ],
)
@in_virtual_time
async def test_a_blocked_destination_affects_no_other(reply: CallReply) -> None:
    world = World(destination(), destination("other"), answer=always(reply))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(10)), *records(range(10, 20), "other"))
        assert len(world.bus.made()) == 1
        assert world.topics.dead() == [(n, "blocked") for n in TEN]
        assert len(world.bus.arrived["dst_other"]) == 10
        assert worker.commit() == {P0: 20}


@in_virtual_time
async def test_a_blocked_entry_is_dead_lettered_alone() -> None:
    world = World(destination())
    world.bus.answer(lambda batch: answered(batch, {"5": fault("NotAuthorizedForDetailTypeException")}))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(10)))
        assert world.topics.dead() == [("5", "blocked")]
        assert len(world.bus.arrived["dst_acme"]) == 9


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException"])
@in_virtual_time
async def test_stale_credentials_are_renewed_in_place(code: str) -> None:
    world = World(destination(), sessions_are_old=True, answer=in_turn(failed(code, 400), take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(10)))
        assert world.bus.renewed == ["dst_acme"]
        assert world.bus.made() == [(0.0, TEN), (0.01, TEN)]
        assert worker.commit() == {P0: 10}
        first, second = worker.reported(Attempted)
        assert isinstance(first, Attempted)
        assert isinstance(second, Attempted)
        assert {entry.decision for entry in first.entries} == {RetryInMemory(0.0, "retryable")}
        assert ({entry.attempt for entry in first.entries}, {entry.attempt for entry in second.entries}) == ({1}, {2})


@in_virtual_time
async def test_a_repeated_call_respects_the_rate() -> None:
    world = World(narrow("acme", 8, per_second=1), sessions_are_old=True)
    world.bus.answer(in_turn(failed("ExpiredToken", 400), take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(20)))
        assert [at for at, _ in world.bus.made()] == [0.0, 1.0, 2.0]
        assert worker.commit() == {P0: 20}


@pytest.mark.parametrize(("second_secs", "released"), [(0.5, 12.0), (1.95, 12.0)])
@in_virtual_time
async def test_a_repeated_call_has_the_remaining_time(second_secs: float, released: float) -> None:
    world = World(narrow("acme", 1), sessions_are_old=True)
    world.bus.answer(in_turn(take_all, failed("ExpiredToken", 400), take_all))
    latencies = iter([9.95, second_secs, HANGS])
    world.bus.latency = lambda _batch: next(latencies)
    async with world.worker() as worker:
        await worker.feed_until(9, *records(range(20)))
        assert worker.commit() == {P0: 0}
        await worker.at(released)
        # It came at 0 and may be held for 10 s, and 2 s more for a call that begins late.
        assert worker.commit() == {P0: 20}
        assert {tier for _, _, tier, _ in world.topics.moved()} == {"10s"}


@in_virtual_time
async def test_a_new_session_that_is_expired_is_our_fault() -> None:
    """AWS's clock and ours differ: the customer can change nothing."""
    world = World(destination(), sessions_are_old=True, answer=always(failed("ExpiredToken", 400)))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(10)))
        assert world.bus.renewed == ["dst_acme"]
        assert world.bus.made()[:2] == [(0.0, TEN), (0.01, TEN)]
        assert worker.reported(Attempted)[1].own_fault is not None
        world.bus.answer(take_all)
        await worker.at(60)
        assert world.topics.dead() == []
        assert len(world.bus.arrived["dst_acme"]) == 10


@in_virtual_time
async def test_an_expired_renewal_loses_no_event() -> None:
    world = World(destination(), sessions_are_old=True)
    expired = failed("ExpiredToken", 400)
    world.bus.answer(in_turn(expired, take_all, expired, take_all))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(10)))
        await worker.feed_until(10, *records(range(10, 20)))
        assert world.bus.renewed == ["dst_acme"], "the second is too young to be replaced"
        assert len(world.bus.arrived["dst_acme"]) == 20
        assert world.topics.dead() == []


@in_virtual_time
async def test_a_fresh_signature_refused_is_our_fault() -> None:
    world = World(destination(), sessions_are_old=True)
    world.bus.answer(
        in_turn(failed("InvalidSignatureException", 400), failed("InvalidSignatureException", 400), take_all)
    )
    async with world.worker() as worker:
        await worker.feed_until(5, record(0))
        assert world.bus.made() == [(0.1, ["0"]), (0.11, ["0"]), (0.32, ["0"])]
        assert world.topics.dead() == []


@in_virtual_time
async def test_a_refused_access_key_blocks_at_once() -> None:
    world = World(with_access_key(), answer=always(failed("UnrecognizedClientException", 400)))
    async with world.worker() as worker:
        await worker.feed_until(5, record(0))
        assert world.bus.renewed == []
        assert len(world.bus.calls) == 1
        assert world.topics.dead() == [("0", "blocked")]


@in_virtual_time
async def test_renewed_credentials_can_meet_any_answer() -> None:
    world = World(destination(), sessions_are_old=True)
    world.bus.answer(in_turn(failed("ExpiredToken", 400), failed("413", 413), take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(2)))
        assert world.bus.made() == [(0.1, ["0", "1"]), (0.11, ["0", "1"]), (0.12, ["0"]), (0.13, ["1"])]
        assert worker.commit() == {P0: 2}


@pytest.mark.parametrize(
    ("results", "missed"),
    [
        ([EntryResult("e", None, None)], ["1", "2"]),
        ([EntryResult(None, None, None)] * 3, ["0", "1", "2"]),
        ([EntryResult("e", None, None), EntryResult("", None, None), EntryResult("e", None, None)], ["1"]),
        ([EntryResult("e", None, None)] * 2 + [EntryResult("e", "WhoKnows", None)], ["2"]),
        ([EntryResult("e", None, None)] * 7, ["0", "1", "2"]),
    ],
)
@in_virtual_time
async def test_an_entry_without_a_result_is_repeated(results: list[EntryResult], missed: list[str]) -> None:
    world = World(destination(), answer=in_turn(always(Answered(tuple(results), 200, None)), take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(3)))
        assert world.bus.made()[1:] == [(0.21, missed)]
        assert worker.commit() == {P0: 3}


@in_virtual_time
async def test_a_bug_in_the_bus_ends_the_worker() -> None:
    world = World(destination(), destination("other"))

    def bug(_batch: Batch) -> CallReply:
        raise KeyError("a bug in the adapter")

    world.bus.answer(bug)
    with pytest.raises(ExceptionGroup) as failure:  # noqa: PT012 - the story is what raises
        async with world.worker() as worker:
            await worker.feed_until(1, *records(range(10, 20), "other"))
            await worker.feed_until(2, *records(range(20, 30)))
    assert failure.group_contains(KeyError, match="a bug in the adapter")
    assert worker.ledger.in_flight == 10
    assert worker.commit() == {P0: 20}


@in_virtual_time
async def test_events_during_a_crash_stay_unsettled() -> None:
    world = World(destination(), destination("other"))

    def bug(_batch: Batch) -> CallReply:
        raise KeyError("a bug in the adapter")

    world.bus.answer(bug)
    with pytest.raises(ExceptionGroup) as failure:  # noqa: PT012 - the story is what raises
        async with world.worker() as worker:
            worker.feed(*records(range(10)), *records(range(10, 15), "other"))
            try:
                await worker.at(1)
            finally:
                # The consumer's thread hands over its records, timers fire, and the partitions are given back.
                worker.feed(*records(range(15, 30), "other"))
                await asyncio.sleep(1)
                await worker.give_back(P0)
    assert failure.group_contains(KeyError, match="a bug in the adapter")
    assert world.bus.arrived == {}
    assert world.group == {P0: Committable(0, "")}
