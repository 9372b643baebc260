"""A session that the bus refuses is replaced once, however many calls it had signed."""

from __future__ import annotations

import asyncio

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered, CallReply
from pushrail_stream.sandbox.bus.faults import CallError, ExpireTokens, Latency, Match, Rule
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.batches import batch_of, value
from tests.support.builders import destination
from tests.support.eventbridge_world import ASSUME, KEY, ON_ASSUME, SECRET, START, Clock, failed, keys_used, to, world

EXPIRED = ("PutEvents", "ExpiredTokenException", 400)


async def deliver(us: EventBridge, batch: Batch) -> CallReply:
    """Call as a lane does: once more, with new credentials, when these are refused."""
    reply = await us.call(batch)
    if isinstance(reply, Answered):
        return reply
    assert failed(reply) == EXPIRED
    us.renew_session(batch.destination)
    return await us.call(batch)


async def test_a_refused_session_is_replaced(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        await us.call(to(ASSUME))
        server.set_plan([Rule(ExpireTokens(), Match(access_key=server.assumed[0].issued_key))])
        assert isinstance(await deliver(us, to(ASSUME)), Answered)
        # The bus recomputed both signatures and compared both tokens.
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, first, second]


async def test_late_refusals_keep_the_new_session(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        await us.call(to(ASSUME))
        old = server.assumed[0].issued_key
        # One refusal after the other, so that the later ones come when there is a new session.
        late = [
            Rule(Latency(0.05 * number), Match(access_key=old, detail_contains=(f'"key-{number}"',)))
            for number in range(8)
        ]
        server.set_plan([*late, Rule(ExpireTokens(), Match(access_key=old))])
        async with asyncio.TaskGroup() as tasks:
            batches = [batch_of(destination(auth=ASSUME), [value(number)]) for number in range(8)]
            running = [tasks.create_task(deliver(us, batch)) for batch in batches]
            await running[0]
            clock.epoch += 60  # the new session is no longer kept for being new
        assert all(isinstance(task.result(), Answered) for task in running)
        assert keys_used(server)[: 1 + 8] == [old] * (1 + 8), "all eight were in flight with the old session"
        assert len(server.assumed) == 1 + 1


async def test_no_sign_in_per_refused_call(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([Rule(ExpireTokens(), Match(operation="PutEvents"))])
        for quarter in range(240):
            clock.epoch = START + quarter / 4
            assert failed(await deliver(us, to(ASSUME))) == EXPIRED
        assert len(server.assumed) == 1 + 4, "at first and every 15 seconds"


async def test_a_refusal_during_renewal_drops_it(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        await us.call(to(ASSUME))
        clock.epoch += 2890
        server.set_plan(
            [
                Rule(Latency(0.2), ON_ASSUME),
                Rule(ExpireTokens(), Match(access_key=server.assumed[0].issued_key)),
            ]
        )
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(us.call(to(ASSUME)))
            await asyncio.sleep(0)
            refused = tasks.create_task(deliver(us, to(ASSUME)))
        assert isinstance(renewing.result(), Answered)
        assert isinstance(refused.result(), Answered)
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, first, second, second]


async def test_no_refusal_no_new_session(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        assert us.renew_session(to(ASSUME).destination)
        assert isinstance(await us.call(to(ASSUME)), Answered)
        assert len(server.assumed) == 1


async def test_only_a_revoked_session_is_replaced(
    base_credentials: tuple[str, str],
) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        await us.call(to(ASSUME))
        denial = CallError(400, "AccessDeniedException", "with an explicit deny in an identity-based policy")
        server.set_plan([Rule(denial, Match(access_key=server.assumed[0].issued_key))])
        assert failed(await us.call(to(ASSUME))) == ("PutEvents", "AccessDeniedException", 400)
        assert us.renew_session(to(ASSUME).destination)
        assert isinstance(await us.call(to(ASSUME)), Answered)
        server.set_plan([Rule(denial, Match(operation="PutEvents"))])
        for passed in (0.0, 14.9):
            clock.epoch = START + passed
            assert failed(await us.call(to(ASSUME))) == ("PutEvents", "AccessDeniedException", 400)
            assert not us.renew_session(to(ASSUME).destination)
        clock.epoch = START + 15
        assert failed(await us.call(to(ASSUME))) == ("PutEvents", "AccessDeniedException", 400)
        assert us.renew_session(to(ASSUME).destination)
        assert len(server.assumed) == 2


async def test_a_refused_access_key_is_not_replaced() -> None:
    async with world(None) as (us, server):
        key = to(AccessKey(KEY, Secret(SECRET)))
        server.set_plan([Rule(CallError(403, "UnrecognizedClientException"), Match(operation="PutEvents"))])
        assert failed(await us.call(key)) == ("PutEvents", "UnrecognizedClientException", 403)
        assert not us.renew_session(key.destination)
        server.set_plan([])
        assert isinstance(await us.call(key), Answered)
