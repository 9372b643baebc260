"""A destination that blocks every attempt gets no calls except probes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pushrail_stream.core.signals import Resumed, Suspended
from pushrail_stream.eventbridge.error_codes import CallFailed
from tests.support.builders import destination, narrow
from tests.support.flavours import Flavour, every_flavour
from tests.support.pipeline_world import World
from tests.support.records import P0, always, answered, failed, fault, in_turn, keys, record, records, take_all
from tests.support.virtual_time import in_virtual_time

BLOCKED = failed("AccessDeniedException", 400)


@pytest.mark.parametrize("is_gone", [True, False])
@in_virtual_time
async def test_a_deleted_document_ends_the_suspension(*, is_gone: bool) -> None:
    world = World(destination(), answer=always(BLOCKED))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(50)))
        assert len(worker.reported(Suspended)) == worker.engine.stats().dispatcher.suspended == 1
        if is_gone:
            world.directory.remove("dst_acme")
        else:
            world.directory.put(destination(enabled=False))
        await worker.at(100)
        assert len(worker.reported(Resumed)) == 1
        assert worker.lanes == worker.engine.stats().dispatcher.suspended == 0


@every_flavour
@in_virtual_time
async def test_five_blocked_attempts_refuse_the_queue(
    flavour: type[Flavour],
) -> None:
    world = World(narrow("acme", 1), destination("other"), flavour=flavour, answer=always(BLOCKED))
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(8 * full)), record(8 * full, "other"))
        [suspended] = worker.reported(Suspended)
        assert isinstance(suspended, Suspended)
        assert (suspended.destination.id, suspended.code, suspended.probe_in_secs) == (
            "dst_acme", world.bus.flavour.code("AccessDeniedException"), 30.0,
        )  # fmt: skip
        assert len(world.bus.made()) == 5
        dead = Counter(w.said["pushrail-reason"] + w.said["pushrail-attempts"] for w in world.topics.written)
        assert dead == {"blocked1": 5 * full, "suspended0": 3 * full}
        assert world.bus.arrived["dst_other"] == [str(8 * full)]
        assert worker.commit() == {P0: 8 * full + 1}


@every_flavour
@in_virtual_time
async def test_a_successful_probe_ends_the_suspension(
    flavour: type[Flavour],
) -> None:
    world = World(destination(), flavour=flavour, answer=always(BLOCKED))
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(5 * full)))
        for second in range(2, 250):
            await worker.feed_until(second, record(5 * full - 2 + second))
        probes = [round(at) for at, keys in world.bus.made()[5:] if len(keys) == 1]
        assert len(world.bus.made()) == 5 + len(probes), "a probe is one delivery, and the only call"
        assert probes == [31, 92, 213]
        told: list[Any] = worker.reported(Suspended)
        assert [round(signal.probe_in_secs) for signal in told] == [30, 60, 120, 240]
        world.bus.answer(take_all)
        for second in range(250, 460):
            await worker.feed_until(second, record(5 * full - 2 + second))
        [resumed] = worker.reported(Resumed)
        assert isinstance(resumed, Resumed)
        assert 450 <= resumed.suspended_secs <= 455
        assert len(world.bus.arrived["dst_acme"]) >= 5


@every_flavour
@in_virtual_time
async def test_a_success_prevents_the_suspension(flavour: type[Flavour]) -> None:
    world = World(narrow("acme", 1), flavour=flavour)
    world.bus.answer(in_turn(*[BLOCKED] * 4, take_all, *[BLOCKED] * 4, take_all))
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(2, *records(range(10 * full)))
        assert not worker.reported(Suspended)
        assert len(world.bus.arrived["dst_acme"]) == 2 * full


@every_flavour
@in_virtual_time
async def test_other_failures_go_on_as_usual(flavour: type[Flavour]) -> None:
    world = World(narrow("acme", 6), flavour=flavour, answer=in_turn(*[BLOCKED] * 5, failed("503", 503)))
    world.bus.latency = lambda batch: (
        0.2 if str(5 * full) in [d.event.idempotency_key for d in batch.deliveries] else 0.01
    )
    full = world.bus.max_entries
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(6 * full)))
        assert len(world.bus.made()) == 6
        assert dict(world.topics.dead())[str(5 * full + 2)] == "suspended"
        assert worker.ledger.in_flight == 0


@in_virtual_time
async def test_a_changed_document_is_probed_with_a_delivery() -> None:
    world = World(destination(), answer=always(BLOCKED))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(50)))
        calls = len(world.bus.made())
        world.directory.put(destination(bus="arn:aws:events:us-east-1:123456789012:event-bus/mended"))
        world.bus.answer(take_all)
        await worker.feed_until(2, record(50))
        assert len(world.bus.made()) == calls + 1
        assert len(worker.reported(Resumed)) == 1


@in_virtual_time
async def test_an_older_documents_block_is_no_probe() -> None:
    world = World(destination(), answer=always(BLOCKED))
    world.bus.latency = lambda _batch: 3.0 if len(world.bus.calls) == 6 else 0.01
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(60)))
        assert len(world.bus.made()) == 6
        world.directory.put(destination(bus="arn:aws:events:us-east-1:123456789012:event-bus/mended"))
        await worker.feed_until(2.9, record(60))
        world.bus.answer(take_all)
        await worker.at(4)
        # The sixth call, made before the change, was blocked at 3 s; the event that waited for it is the probe.
        assert len(worker.reported(Suspended)) == len(worker.reported(Resumed)) == 1
        assert world.bus.arrived["dst_acme"] == ["60"]


@in_virtual_time
async def test_the_end_of_a_suspension_without_events_is_reported() -> None:
    world = World(destination(), answer=always(BLOCKED))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(50)))
        assert (worker.lanes, worker.reported(Resumed)) == (1, [])
        await worker.at(1_500)
        [resumed] = worker.reported(Resumed)
        assert isinstance(resumed, Resumed)
        assert (worker.lanes, resumed.why) == (0, "idle")


def denied_until_renewed(world: World, *, times: int = 1) -> Any:
    """A bus that denies every session until this number of new sign-ins."""
    return lambda batch: take_all(batch) if len(world.bus.renewed) >= times else BLOCKED


@pytest.mark.parametrize("blocked", [BLOCKED, failed("AccessDenied", 403), failed("NotAuthorized", 401)])
@in_virtual_time
async def test_revoked_sessions_cost_no_event(blocked: CallFailed) -> None:
    world = World(destination(), sessions_are_old=True)
    world.bus.answer(lambda batch: take_all(batch) if world.bus.renewed else blocked)
    async with world.worker() as worker:
        await worker.feed_until(2, *records(range(60)))
        assert len(world.bus.arrived["dst_acme"]) == 60
        assert world.bus.renewed == ["dst_acme"], "all calls that were in flight share it"
        assert world.topics.dead() == []
        assert not worker.reported(Suspended)
        assert worker.commit() == {P0: 60}


@in_virtual_time
async def test_denied_entries_cost_one_sign_in() -> None:
    world = World(destination(), sessions_are_old=True)
    denied = fault("AccessDeniedException")
    world.bus.answer(
        lambda batch: take_all(batch) if world.bus.renewed else answered(batch, dict.fromkeys(keys(batch), denied))
    )
    async with world.worker() as worker:
        await worker.feed_until(2, *records(range(20)))
        assert len(world.bus.arrived["dst_acme"]) == 20
        assert world.topics.dead() == []


@in_virtual_time
async def test_a_probe_renews_the_session() -> None:
    world = World(destination(), sessions_are_old=True)
    world.bus.answer(denied_until_renewed(world, times=2))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(50)))
        assert len(worker.reported(Suspended)) == 1
        assert world.bus.renewed == ["dst_acme"], "a session that was just got is not replaced at once"
        for second in range(2, 40):
            await worker.feed_until(second, record(48 + second))
        assert len(worker.reported(Resumed)) == 1
        assert world.bus.renewed == ["dst_acme"] * 2
        probes = [round(at) for at, _ in world.bus.made() if 20 < at < 32]
        assert probes[:2] == [31, 31], "the probe, and again at once with the new session"


@in_virtual_time
async def test_a_denying_bus_gets_one_sign_in_per_probe() -> None:
    world = World(destination(), sessions_are_old=True, answer=always(BLOCKED))
    async with world.worker() as worker:
        worker.feed(*records(range(50)))
        for second in range(1, 250):
            await worker.feed_until(second, record(49 + second))
        probes = len(worker.reported(Suspended))
        assert probes == 4
        assert len(world.bus.renewed) == probes
        assert {reason for _, reason in world.topics.dead()} == {"blocked", "suspended"}
