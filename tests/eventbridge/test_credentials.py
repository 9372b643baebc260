"""Only the destination's own credentials sign a call. Without them no call is made."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from dataclasses import replace

import pytest

from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.credentials import session_name
from pushrail_stream.eventbridge.error_codes import (
    AWS_SETTINGS_UNUSABLE,
    BASE_CREDENTIALS_MISSING,
    CREDENTIALS_MISSING,
    SEALING_KEY_MISSING,
    Answered,
    CallFailed,
)
from pushrail_stream.eventbridge.signing import Signer
from pushrail_stream.sandbox.bus.faults import Hang, Latency, Match, ResetBefore, Rule
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.builders import destination
from tests.support.eventbridge_world import (
    ASSUME,
    KEY,
    ON_ASSUME,
    ROLE,
    SECRET,
    START,
    Clock,
    failed,
    keys_used,
    to,
    world,
)


async def test_a_role_is_assumed_with_its_external_id(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        assert isinstance(await us.call(to(ASSUME, "dst acme/1")), Answered)
    (asked,) = server.assumed
    assert (asked.role_arn, asked.external_id) == (ROLE, "acme-ext-7Pq2")
    assert (asked.session_name, asked.duration_secs) == ("pushrail-dst-acme-1", 3600)
    assert asked.access_key == base_credentials[0]
    assert asked.policy is not None
    [statement] = json.loads(asked.policy)["Statement"]
    actions = ["events:PutEvents", "events:DescribeEventBus"]
    assert statement == {"Effect": "Allow", "Action": actions, "Resource": to(ASSUME).destination.bus.arn}
    assert keys_used(server) == [asked.issued_key]


async def test_session_policies_are_optional(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials, sts_session_policy=False) as (us, server):
        await us.call(to(ASSUME))
    assert [asked.policy for asked in server.assumed] == [None]


@pytest.mark.parametrize(("per_second", "roles"), [(100, 1000), (10, 60)])
async def test_many_roles_do_not_ask_sts_at_once(
    base_credentials: tuple[str, str], per_second: int, roles: int
) -> None:
    async with world(base_credentials, read_timeout_secs=2, sts_max_calls_per_second=per_second) as (us, server):
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(us.call(to(ASSUME, f"dst_{number}"))) for number in range(roles)]
        passed = asyncio.get_running_loop().time() - started
        assert len(server.assumed) <= per_second * passed + 1, "the rate of sign-ins is limited"
        failed = [call.result() for call in calls if not isinstance(call.result(), Answered)]
        assert failed, "the rest waits its turn elsewhere"
        assert "SignInsQueued" in {reply.code for reply in failed if isinstance(reply, CallFailed)}


async def test_patient_roles_wait_for_their_turn_and_leave_room_for_others(
    base_credentials: tuple[str, str],
) -> None:
    async with world(base_credentials, read_timeout_secs=2, sts_max_calls_per_second=200) as (us, server):
        async with asyncio.TaskGroup() as tasks:
            roles = [destination(number, auth=ASSUME) for number in range(700)]
            waits = [tasks.create_task(us.sign_in(one, patient=True)) for one in roles]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            assert isinstance(await us.call(to(ASSUME, "dst_other")), Answered)
            assert not waits[-1].done()
        assert all(wait.result() for wait in waits)
        assert len(server.assumed) == 701


async def test_patient_roles_open_few_connections_to_a_slow_sts(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials, sts_max_calls_per_second=40) as (us, server):
        server.set_plan([Rule(Latency(0.5), ON_ASSUME)])
        roles = [destination(number, auth=ASSUME) for number in range(30)]
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(us.sign_in(one, patient=True)) for one in roles]
        assert all(wait.result() for wait in waits)
        assert server.ledger.counter["connections"] == 10, "as many as the rate allows in a quarter of a second"


@pytest.mark.parametrize("identity", ["dst_acme_8K2zRq", "ü", "a" * 300, "x y/z", ""])
def test_every_session_name_is_valid_for_sts(identity: str) -> None:
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", session_name(identity), re.ASCII)
    assert session_name(identity) == session_name(identity)


async def test_a_changed_document_signs_the_next_call(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        server.add_key("AKIACUSTOMER00000001", "new-secret")
        server.set_plan([Rule(Latency(0.2), Match(access_key=KEY))])
        async with asyncio.TaskGroup() as tasks:
            old = tasks.create_task(us.call(to(AccessKey(KEY, Secret(SECRET)))))
            await server.wait_for_calls(1)
            assert isinstance(await us.call(to(AccessKey("AKIACUSTOMER00000001", Secret("new-secret")))), Answered)
            assert not old.done()
        assert isinstance(old.result(), Answered), "what is in flight ends as it began"
        assert isinstance(await us.call(to(ASSUME)), Answered)
        assert keys_used(server) == [KEY, "AKIACUSTOMER00000001", server.assumed[0].issued_key]


async def test_an_equal_document_keeps_the_session(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        await us.call(to(ASSUME))
        await us.call(to(replace(ASSUME)))
        assert len(server.assumed) == 1


def signers() -> int:
    gc.collect()
    return sum(type(one) is Signer for one in gc.get_objects())  # `isinstance` raises for a proxy of a dead object


async def test_unused_destinations_are_forgotten(base_credentials: tuple[str, str]) -> None:
    clock, before = Clock(), signers()
    async with world(base_credentials, clock) as (us, server):
        for number in range(20):
            await us.call(to(ASSUME, f"dst_gone_{number}"))
        for passed in range(0, 3 * 3600, 600):
            clock.epoch = START + passed
            assert isinstance(await us.call(to(ASSUME)), Answered)
        assert signers() - before == 1
        renewals = len(server.assumed) - 20
        assert renewals in {4, 5}, "the one in use: at 60 to 80 % of its hour, met at the next of six looks an hour"


@pytest.mark.parametrize("external_id", ["acme-ext-wrong", "other"])
async def test_a_wrong_external_id_is_refused(base_credentials: tuple[str, str], external_id: str) -> None:
    async with world(base_credentials) as (us, server):
        reply = await us.call(to(AssumeRole(ROLE, external_id)))
        assert failed(reply) == ("AssumeRole", "AccessDenied", 403)
        assert isinstance(reply, CallFailed)
        assert reply.request_id
        assert not server.calls


async def test_an_impossible_external_id_is_refused(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        assert failed(await us.call(to(AssumeRole(ROLE, "x")))) == ("AssumeRole", "ValidationError", 400)
        assert not server.calls


async def test_an_impossible_sts_region_is_our_fault(base_credentials: tuple[str, str]) -> None:
    assert base_credentials
    async with EventBridge.open(EventBridgeSettings(), StsSettings.model_construct(region="no region")) as us:
        assert failed(await us.call(to(ASSUME))) == ("Credentials", AWS_SETTINGS_UNUSABLE, None)


@pytest.mark.parametrize("secret", [None, Secret("")])
async def test_without_a_secret_nothing_is_called(base_credentials: tuple[str, str], secret: Secret | None) -> None:
    async with world(base_credentials) as (us, server):
        assert failed(await us.call(to(AccessKey(KEY, secret)))) == ("Credentials", CREDENTIALS_MISSING, None)
        assert server.counts()["connections"] == 0


@pytest.mark.parametrize("secret", ["caf\udce9", "wJalr\n", "two words", "größer"])
async def test_an_unusable_secret_blames_its_owner(secret: str) -> None:
    async with world(None) as (us, server):
        reply = await us.call(to(AccessKey(KEY, Secret(secret))))
        assert failed(reply) == ("Credentials", CREDENTIALS_MISSING, None)
        assert secret.strip() not in repr(reply)
        assert await us.check(to(AccessKey(KEY, Secret(secret))).destination) == "unknown"
        assert server.counts()["connections"] == 0


async def test_a_missing_sealing_key_is_our_fault(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        waiting = to(AccessKey(KEY, None, is_waiting=True))
        assert failed(await us.call(waiting)) == ("Credentials", SEALING_KEY_MISSING, None)
        assert server.counts()["connections"] == 0


async def test_without_own_credentials_no_call_is_made() -> None:
    async with world(None) as (us, server):
        assert failed(await us.call(to(ASSUME))) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        assert server.counts()["connections"] == 0


async def test_half_of_base_credentials_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE000000000000")
    async with world(None) as (us, server):
        assert failed(await us.call(to(ASSUME))) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        assert server.counts()["connections"] == 0


async def test_base_credentials_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    async with world(("AKIABASE000000000000", "base-secret"), clock) as (us, _):
        assert failed(await us.call(to(ASSUME))) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE000000000000")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")
        clock.epoch += 5
        assert isinstance(await us.call(to(ASSUME)), Answered)


async def test_refused_own_credentials_are_our_fault(base_credentials: tuple[str, str]) -> None:
    async with world(None) as (us, _):
        assert failed(await us.call(to(ASSUME))) == ("AssumeRole", "InvalidClientTokenId", 403)
    assert base_credentials


@pytest.mark.parametrize(("effect", "code"), [(Hang(), "ReadTimeout"), (ResetBefore(), "ConnectionClosed")])
async def test_sts_without_an_answer(base_credentials: tuple[str, str], effect: Hang | ResetBefore, code: str) -> None:
    async with world(base_credentials, read_timeout_secs=0.5) as (us, server):
        server.set_plan([Rule(effect, ON_ASSUME)])
        assert failed(await us.call(to(ASSUME))) == ("AssumeRole", code, None)
