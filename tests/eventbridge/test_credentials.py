"""Whose credentials sign a call: the destination's own, got once, renewed ahead, and nobody else's ever."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import AccessKey, AssumeRole, Auth, Secret
from pushrail_stream.core.outcome import BASE_CREDENTIALS_MISSING, CREDENTIALS_MISSING, Answered, CallFailed, Reply
from pushrail_stream.eventbridge.client import EventBridge, EventBridgeOptions
from pushrail_stream.eventbridge.credentials import session_name
from pushrail_stream.sandbox.bus import (
    BusConfig,
    CallError,
    FaultBus,
    Hang,
    Latency,
    Match,
    ResetBefore,
    Rule,
    Times,
)
from tests.eventbridge.batches import BUS, batch, destination

ROLE = "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"
ASSUME = AssumeRole(ROLE, "acme-ext-7Pq2")
KEY, SECRET = "AKIACUSTOMER00000000", "customer-secret"
ON_ASSUME = Match(operation="AssumeRole")
START = datetime(2026, 11, 2, 10, 0, tzinfo=UTC).timestamp()


@dataclass
class Clock:
    """Time for the bus and for us; it stands still until moved."""

    epoch: float = START

    def __call__(self) -> float:
        return self.epoch

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.epoch, UTC)


@asynccontextmanager
async def world(
    base: tuple[str, str] | None, clock: Clock | None = None
) -> AsyncIterator[tuple[EventBridge, FaultBus]]:
    """Us and a bus. With a ``clock`` the bus cannot check signatures, since STS is called with the real time."""
    config = BusConfig() if clock is None else BusConfig(clock=clock, check_signatures=False)
    async with FaultBus.serve(config) as server:
        server.add_bus(BUS)
        server.add_role(ROLE, external_id=ASSUME.external_id)
        server.add_key(KEY, SECRET)
        if base is not None:
            server.add_key(*base)
        options = EventBridgeOptions(
            endpoint_url=server.url, sts_endpoint_url=server.url, connect_timeout_secs=1, read_timeout_secs=0.5
        )
        now = (lambda: datetime.now(UTC)) if clock is None else clock.now
        async with EventBridge.open(options, now=now) as us:
            yield us, server


def to(auth: Auth, identity: str = "dst_acme_1") -> Batch:
    return batch(destination(auth, identity))


def keys_used(server: FaultBus) -> list[str]:
    return [call.access_key for call in server.calls]


def failed(reply: Reply) -> tuple[str, str, int | None]:
    assert isinstance(reply, CallFailed), reply
    return reply.operation, reply.code, reply.http_status


async def test_a_role_is_assumed_as_its_customer_expects(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        assert isinstance(await us.put(to(ASSUME, "dst acme/1")), Answered)
    (asked,) = server.assumed
    assert (asked.role_arn, asked.external_id) == (ROLE, "acme-ext-7Pq2")
    assert (asked.session_name, asked.duration_secs) == ("pushrail-dst-acme-1", 3600)
    assert (asked.policy, asked.access_key) == (None, base_credentials[0])
    assert keys_used(server) == [asked.issued_key]


@pytest.mark.parametrize("identity", ["dst_acme_8K2zRq", "ü", "a" * 300, "x y/z", ""])
def test_a_session_name_is_one_sts_takes(identity: str) -> None:
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", session_name(identity), re.ASCII)
    assert session_name(identity) == session_name(identity)


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


async def test_many_destinations_sign_in_at_once(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(us.put(to(ASSUME, f"dst_{number}"))) for number in range(10)]
        assert all(isinstance(task.result(), Answered) for task in running)
        assert len({asked.session_name for asked in server.assumed}) == 10


async def test_each_destination_has_its_own_session(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        for identity in ("dst_a", "dst_b", "dst_a"):
            await us.put(to(ASSUME, identity))
        assert [asked.session_name for asked in server.assumed] == ["pushrail-dst_a", "pushrail-dst_b"]
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, second, first]


async def test_a_session_is_renewed_ahead_of_its_end(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        for passed in (0, 2699, 2701, 2702):
            clock.epoch = START + passed
            assert isinstance(await us.put(to(ASSUME)), Answered)
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, first, second, second]


async def test_while_a_session_is_renewed_it_is_used_on(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        await us.put(to(ASSUME))
        clock.epoch += 2701
        server.set_plan([Rule(Hang(), ON_ASSUME)])
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(us.put(to(ASSUME)))
            await asyncio.sleep(0)
            assert isinstance(await us.put(to(ASSUME)), Answered)
            assert not renewing.done()
        # STS gave no answer, and the old session is still good: the call is made with it.
        assert isinstance(renewing.result(), Answered)
        assert set(keys_used(server)) == {server.assumed[0].issued_key}


async def test_a_failed_renewal_is_tried_again_after_a_pause_until_the_end(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        await us.put(to(ASSUME))
        server.set_plan([Rule(CallError(503, "ServiceUnavailable", "down"), ON_ASSUME)])
        for passed, asked in ((2701, 2), (2702, 2), (2732, 3), (3599, 4)):
            clock.epoch = START + passed
            assert isinstance(await us.put(to(ASSUME)), Answered)
            assert len(server.assumed) == asked
        clock.epoch = START + 3600
        assert failed(await us.put(to(ASSUME))) == ("AssumeRole", "ServiceUnavailable", 503)
        clock.epoch += 0.5
        assert failed(await us.put(to(ASSUME))) == ("AssumeRole", "ServiceUnavailable", 503)
        assert len(server.assumed) == 5, "a failure answers for a second"
        server.set_plan([])
        clock.epoch += 1
        assert isinstance(await us.put(to(ASSUME)), Answered)


async def asked_at(us: EventBridge, server: FaultBus, clock: Clock, moments: Iterable[float]) -> list[float]:
    """Call at each of these moments; those at which STS was asked."""
    found = []
    for passed in moments:
        clock.epoch = START + passed
        before = len(server.assumed)
        await us.put(to(ASSUME))
        if len(server.assumed) > before:
            found.append(passed)
    return found


DOWN = Rule(CallError(503, "ServiceUnavailable", "down"), ON_ASSUME)
A_MINUTE = [quarter / 4 for quarter in range(240)]


async def test_a_sign_in_that_goes_on_failing_is_tried_ever_more_rarely(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([DOWN])
        assert await asked_at(us, server, clock, A_MINUTE) == [0, 1, 3, 7, 15, 30, 45]
        assert {failed(await us.put(to(ASSUME))) for _ in range(3)} == {("AssumeRole", "ServiceUnavailable", 503)}


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
        assert isinstance(await us.put(to(ASSUME)), Answered)
        server.set_plan([DOWN])
        over = 60 + 3600
        assert await asked_at(us, server, clock, [over, over + 0.9, over + 1, over + 2.9, over + 3]) == [
            over,
            over + 1,
            over + 3,
        ]


async def test_a_changed_document_ends_the_long_pauses(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, _):
        wrong = to(AssumeRole(ROLE, "acme-ext-wrong"))
        for passed in A_MINUTE:
            clock.epoch = START + passed
            assert failed(await us.put(wrong)) == ("AssumeRole", "AccessDenied", 403)
        assert isinstance(await us.put(to(ASSUME)), Answered)


async def test_a_clock_that_is_set_back_does_not_make_a_failure_last(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        server.set_plan([Rule(CallError(403, "SignatureDoesNotMatch", "not yet current"), ON_ASSUME, Times(1))])
        clock.epoch = START + 3600
        assert failed(await us.put(to(ASSUME))) == ("AssumeRole", "SignatureDoesNotMatch", 403)
        clock.epoch = START
        assert isinstance(await us.put(to(ASSUME)), Answered)


async def test_forgotten_credentials_are_got_anew(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        await us.put(to(ASSUME))
        us.forget_credentials(to(ASSUME).destination)
        assert isinstance(await us.put(to(ASSUME)), Answered)
        # The bus recomputed both signatures and compared both tokens.
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, second]


async def test_forgetting_while_signing_in_does_not_sign_in_twice(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(us.put(to(ASSUME)))
            await asyncio.sleep(0)
            us.forget_credentials(to(ASSUME).destination)
            tasks.create_task(us.put(to(ASSUME)))
        assert len(server.assumed) == 1


async def test_a_session_forgotten_while_it_is_renewed_is_used_no_more(base_credentials: tuple[str, str]) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        await us.put(to(ASSUME))
        clock.epoch += 2701
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(us.put(to(ASSUME)))
            await asyncio.sleep(0)
            us.forget_credentials(to(ASSUME).destination)
            tasks.create_task(us.put(to(ASSUME)))
        first, second = (asked.issued_key for asked in server.assumed)
        assert keys_used(server) == [first, second, second]


async def test_forgetting_a_stranger_or_an_access_key_is_harmless() -> None:
    async with world(None) as (us, _):
        key = to(AccessKey(KEY, Secret(SECRET)))
        us.forget_credentials(key.destination)
        assert isinstance(await us.put(key), Answered)
        us.forget_credentials(key.destination)
        assert isinstance(await us.put(key), Answered)


async def test_a_changed_document_signs_the_next_call(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        server.add_key("AKIACUSTOMER00000001", "new-secret")
        server.set_plan([Rule(Latency(0.2), Match(access_key=KEY))])
        async with asyncio.TaskGroup() as tasks:
            old = tasks.create_task(us.put(to(AccessKey(KEY, Secret(SECRET)))))
            await server.wait_for_calls(1)
            assert isinstance(await us.put(to(AccessKey("AKIACUSTOMER00000001", Secret("new-secret")))), Answered)
            assert not old.done()
        assert isinstance(old.result(), Answered), "what is under way ends as it began"
        assert isinstance(await us.put(to(ASSUME)), Answered)
        assert keys_used(server) == [KEY, "AKIACUSTOMER00000001", server.assumed[0].issued_key]


async def test_an_equal_document_keeps_the_session(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        await us.put(to(ASSUME))
        await us.put(to(replace(ASSUME)))
        assert len(server.assumed) == 1


async def test_a_discarded_destination_starts_afresh(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        await us.put(to(ASSUME))
        us.discard("dst_acme_1")
        us.discard("dst_nobody")
        await us.put(to(ASSUME))
        assert len(server.assumed) == 2


@pytest.mark.parametrize("external_id", ["acme-ext-wrong", "other"])
async def test_a_wrong_external_id_is_refused(base_credentials: tuple[str, str], external_id: str) -> None:
    async with world(base_credentials) as (us, server):
        reply = await us.put(to(AssumeRole(ROLE, external_id)))
        assert failed(reply) == ("AssumeRole", "AccessDenied", 403)
        assert isinstance(reply, CallFailed)
        assert reply.request_id
        assert not server.calls


async def test_an_external_id_that_cannot_be(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        assert failed(await us.put(to(AssumeRole(ROLE, "x")))) == ("AssumeRole", "ValidationError", None)
        assert not server.assumed


async def test_an_sts_region_that_cannot_be(base_credentials: tuple[str, str]) -> None:
    assert base_credentials
    async with EventBridge.open(EventBridgeOptions(sts_region="no region")) as us:
        assert failed(await us.put(to(ASSUME))) == ("AssumeRole", "InvalidRegionError", None)


@pytest.mark.parametrize("secret", [None, Secret("")])
async def test_without_the_destinations_secret_nothing_is_called(
    base_credentials: tuple[str, str], secret: Secret | None
) -> None:
    async with world(base_credentials) as (us, server):
        assert failed(await us.put(to(AccessKey(KEY, secret)))) == ("Credentials", CREDENTIALS_MISSING, None)
        assert server.counts()["connections"] == 0


async def test_without_base_credentials_nothing_is_called() -> None:
    async with world(None) as (us, server):
        assert failed(await us.put(to(ASSUME))) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        assert server.counts()["connections"] == 0


async def test_half_of_base_credentials_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE000000000000")
    async with world(None) as (us, server):
        assert failed(await us.put(to(ASSUME))) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        assert server.counts()["connections"] == 0


async def test_base_credentials_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    async with world(("AKIABASE000000000000", "base-secret"), clock) as (us, _):
        assert failed(await us.put(to(ASSUME))) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE000000000000")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")
        clock.epoch += 1
        assert isinstance(await us.put(to(ASSUME)), Answered)


async def test_our_own_credentials_refused_are_told_as_such(base_credentials: tuple[str, str]) -> None:
    async with world(None) as (us, _):
        assert failed(await us.put(to(ASSUME))) == ("AssumeRole", "InvalidClientTokenId", 403)
    assert base_credentials


@pytest.mark.parametrize(("effect", "code"), [(Hang(), "ReadTimeout"), (ResetBefore(), "ConnectionClosed")])
async def test_sts_without_an_answer(base_credentials: tuple[str, str], effect: Hang | ResetBefore, code: str) -> None:
    async with world(base_credentials) as (us, server):
        server.set_plan([Rule(effect, ON_ASSUME)])
        assert failed(await us.put(to(ASSUME))) == ("AssumeRole", code, None)


async def test_an_assumed_role_is_asked_for_once_more_after_a_refused_call(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        await us.put(to(ASSUME))
        expired = CallError(400, "ExpiredTokenException", "The security token included in the request is expired")
        server.set_plan([Rule(expired, Match(operation="PutEvents"), Times(1))])
        assert failed(await us.put(to(ASSUME))) == ("PutEvents", "ExpiredTokenException", 400)
        us.forget_credentials(to(ASSUME).destination)
        assert isinstance(await us.put(to(ASSUME)), Answered)
        assert len(server.assumed) == 2


async def at_once(us: EventBridge, one: Batch, times: int) -> list[Reply]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(us.put(one)) for _ in range(times)]
    return [task.result() for task in running]
