"""A role's session is opened once, renewed before its end, and asked for less and less often while STS refuses."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable

from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered
from pushrail_stream.eventbridge.signing import Keys
from pushrail_stream.ports.pipeline import SignIns
from pushrail_stream.sandbox.bus.faults import CallError, Hang, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.eventbridge import AssumeRole
from tests.support.eventbridge_world import (
    ASSUME,
    ON_ASSUME,
    ROLE,
    START,
    Clock,
    at_once,
    failed,
    keys_used,
    to,
    world,
)


async def test_many_first_calls_assume_the_role_once(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        replies = await at_once(us, to(ASSUME), 20)
        assert all(isinstance(reply, Answered) for reply in replies)
        assert len(server.assumed) == 1
        assert len(server.calls) == 20


async def test_many_first_calls_share_a_failure(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        server.set_plan([Rule(CallError(500, "InternalFailure", "later"), ON_ASSUME)])
        replies = await at_once(us, to(ASSUME), 20)
        assert {failed(reply) for reply in replies} == {("AssumeRole", "InternalFailure", 500)}
        assert len(server.assumed) == 1


async def test_a_slow_failing_sts_gets_a_pause(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([Rule(CallError(500, "InternalFailure", "later"), ON_ASSUME)])
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(us.call(to(ASSUME)))
            await asyncio.sleep(0)  # it has begun, and seconds pass before it is answered
            clock.epoch += 8
        assert failed(slow.result()) == failed(await us.call(to(ASSUME))) == ("AssumeRole", "InternalFailure", 500)
        assert len(server.assumed) == 1


async def test_many_destinations_sign_in_at_once(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(us.call(to(ASSUME, f"dst_{number}"))) for number in range(10)]
        assert all(isinstance(task.result(), Answered) for task in running)
        assert len({asked.session_name for asked in server.assumed}) == 10


async def test_each_destination_has_its_own_session(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        for identity in ("dst_a", "dst_b", "dst_a"):
            await us.call(to(ASSUME, identity))
        assert [asked.session_name for asked in server.assumed] == ["pushrail-dst_a", "pushrail-dst_b"]
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, second, first]


async def test_a_session_is_renewed_ahead_of_its_end(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        for passed in (0, 2150, 2890, 2891):
            clock.epoch = START + passed
            assert isinstance(await us.call(to(ASSUME)), Answered)
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, first, second, second]


async def test_renewals_are_spread_out(base_credentials: tuple[str, str]) -> None:
    clock, roles = Clock(), [to(ASSUME, f"dst_{number}") for number in range(50)]
    async with world(base_credentials, clock) as (us, server):
        renewed = []
        for passed in (0, *range(2160, 2910, 30)):
            clock.epoch = START + passed
            before = len(server.assumed)
            for one in roles:
                assert isinstance(await us.call(one), Answered)
            renewed.append(len(server.assumed) - before)
        assert renewed[0] == sum(renewed[1:]) == len(roles)
        assert max(renewed[1:]) < len(roles) / 3, renewed
        assert sum(map(bool, renewed[1:])) > 10, renewed


async def test_a_session_stays_in_use_during_its_renewal(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock, read_timeout_secs=1) as (us, server):
        await us.call(to(ASSUME))
        clock.epoch += 2890
        server.set_plan([Rule(Hang(), ON_ASSUME)])
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(us.call(to(ASSUME)))
            await asyncio.sleep(0)
            assert isinstance(await us.call(to(ASSUME)), Answered)
            assert not renewing.done()
        # STS gave no answer, and the old session is still good: the call is made with it.
        assert isinstance(renewing.result(), Answered)
        assert set(keys_used(server)) == {server.assumed[0].issued_key}


async def test_a_failed_renewal_is_repeated(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        await us.call(to(ASSUME))
        server.set_plan([Rule(CallError(503, "ServiceUnavailable", "down"), ON_ASSUME)])
        for passed, asked in ((2890, 2), (2891, 2), (2921, 3), (3599, 4)):
            clock.epoch = START + passed
            assert isinstance(await us.call(to(ASSUME)), Answered)
            assert len(server.assumed) == asked
        clock.epoch = START + 3600
        assert failed(await us.call(to(ASSUME))) == ("AssumeRole", "ServiceUnavailable", 503)
        clock.epoch += 0.5
        assert failed(await us.call(to(ASSUME))) == ("AssumeRole", "ServiceUnavailable", 503)
        assert len(server.assumed) == 5, "a failure answers for a second"
        server.set_plan([])
        clock.epoch += 1
        assert isinstance(await us.call(to(ASSUME)), Answered)


async def asked_at(us: EventBridge, server: FaultBus, clock: Clock, moments: Iterable[float]) -> list[float]:
    """Call at each of these moments; those at which STS was asked."""
    found = []
    for passed in moments:
        clock.epoch = START + passed
        before = len(server.assumed)
        await us.call(to(ASSUME))
        if len(server.assumed) > before:
            found.append(passed)
    return found


DOWN = Rule(CallError(503, "ServiceUnavailable", "down"), ON_ASSUME)
A_MINUTE = [quarter / 4 for quarter in range(240)]


async def test_a_failing_sign_in_is_tried_ever_less(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([DOWN])
        assert await asked_at(us, server, clock, A_MINUTE) == [0, 1, 3, 7, 15, 30, 45]
        assert {failed(await us.call(to(ASSUME))) for _ in range(3)} == {("AssumeRole", "ServiceUnavailable", 503)}


async def test_every_probe_of_a_dead_role_asks_sts_once(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([DOWN])
        probes = [0, 30, 90, 210, 450, 930]
        assert await asked_at(us, server, clock, probes) == probes
        assert len(server.assumed) == len(probes)


async def test_a_success_ends_the_long_pauses(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([DOWN])
        await asked_at(us, server, clock, A_MINUTE)
        server.set_plan([])
        clock.epoch = START + 60
        assert isinstance(await us.call(to(ASSUME)), Answered)
        server.set_plan([DOWN])
        over = 60 + 3600
        assert await asked_at(us, server, clock, [over, over + 0.9, over + 1, over + 2.9, over + 3]) == [
            over,
            over + 1,
            over + 3,
        ]


async def test_a_changed_document_ends_the_pauses(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, _):
        wrong = to(AssumeRole(ROLE, "acme-ext-wrong"))
        for passed in A_MINUTE:
            clock.epoch = START + passed
            assert failed(await us.call(wrong)) == ("AssumeRole", "AccessDenied", 403)
        assert isinstance(await us.call(to(ASSUME)), Answered)


async def test_a_clock_set_back_ends_a_failure(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([Rule(CallError(403, "SignatureDoesNotMatch", "not yet current"), ON_ASSUME, Times(1))])
        clock.epoch = START + 3600
        assert failed(await us.call(to(ASSUME))) == ("AssumeRole", "SignatureDoesNotMatch", 403)
        clock.epoch = START
        assert isinstance(await us.call(to(ASSUME)), Answered)


async def test_sign_ins_are_counted_by_outcome(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([Rule(CallError(503, "ServiceUnavailable", "busy"), ON_ASSUME, Times(1))])
        await us.call(to(ASSUME))
        assert us.sign_ins == SignIns(failed=1, sts_calls=1, sts_failures=1)
        await us.call(to(ASSUME))
        assert us.sign_ins.sts_calls == 1, "what failed a moment ago is not asked again"
        clock.epoch += 2
        await us.call(to(ASSUME))
        assert us.sign_ins == SignIns(refreshed=1, failed=1, sts_calls=2, sts_failures=1)


async def test_a_session_ends_with_its_destination(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        await us.call(to(ASSUME, "dst_kept"))
        before = _alive(Keys)
        for number in range(20):
            await us.call(to(ASSUME, f"dst_{number}"))
            us.forget(f"dst_{number}")
        us.forget("dst_never_met")
        assert _alive(Keys) == before
        await us.call(to(ASSUME, "dst_kept"))
        assert len(server.assumed) == 21


def _alive(kind: type) -> int:
    """Objects of this class that something holds."""
    gc.collect()
    return sum(type(held) is kind for held in gc.get_objects())
