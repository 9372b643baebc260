"""A denied AssumeRole is the fault of one role, or of our own identity when it lost its permission."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge import sign_in
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_DENIED, REFUSED_BEFORE_AWS, Answered, CallFailed
from pushrail_stream.eventbridge.sign_in import WITNESSES, Witnesses
from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule, Times
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole
from tests.support.builders import destination, with_access_key
from tests.support.eventbridge_world import KEY, ON_ASSUME, SECRET, START, Clock, to, world

DENIAL = CallError(403, "AccessDenied", "User: ... is not authorized to perform: sts:AssumeRole")
DENIED = Rule(DENIAL, ON_ASSUME)


def arn(number: int, account: int | None = None) -> str:
    return f"arn:aws:iam::{111111111111 * (1 + (number if account is None else account) % 8)}:role/writer-{number}"


def role(number: int, account: int | None = None) -> dict[str, str]:
    return {"RoleArn": arn(number, account)}


def asked(witnesses: Witnesses, known: Iterable[dict[str, str]] = (), denied: int = 0) -> list[str]:
    return [one["RoleArn"] for one in witnesses.against(role(denied), known)]


def test_the_role_that_was_granted_last_is_asked_first() -> None:
    witnesses = Witnesses()
    for number in (1, 2, 3, 1):
        witnesses.granted(role(number))
    assert asked(witnesses) == [arn(1), arn(3), arn(2)]


def test_roles_of_the_same_account_prove_nothing() -> None:
    witnesses = Witnesses()
    for number in (4, 5):
        witnesses.granted(role(number, account=0))
    assert asked(witnesses, [role(6, account=0), role(7, account=2), role(8, account=2)]) == [arn(7, account=2)]


def test_known_roles_are_asked_when_too_few_were_granted() -> None:
    witnesses = Witnesses()
    witnesses.granted(role(5))
    known = [role(number) for number in range(8)]
    assert asked(witnesses, known) == [arn(5), arn(1), arn(2)]
    witnesses.forget(arn(5))
    assert asked(witnesses, known) == [arn(1), arn(2), arn(3)]


def test_few_roles_are_remembered_and_enough_for_each() -> None:
    witnesses = Witnesses()
    for number in range(8):
        witnesses.granted(role(number))
    for denied in (0, 7):
        assert len(asked(witnesses, denied=denied)) == WITNESSES
    assert len(witnesses._granted) == WITNESSES + 1


async def signed_in(us: EventBridge, number: int) -> str:
    reply = await us.call(to(AssumeRole(arn(number), "acme-ext-7Pq2"), f"dst_{number}"))
    if isinstance(reply, CallFailed):
        return reply.code
    assert isinstance(reply, Answered)
    return "signed in"


def know(us: EventBridge, *numbers: int) -> None:
    """Let documents name these roles, and one destination with a key pair."""
    found = [destination(auth=AssumeRole(arn(number), "acme-ext-7Pq2"), id=f"dst_{number}") for number in numbers]
    us.destinations = lambda: [with_access_key("key"), *found]


async def test_an_identity_without_rights_is_our_fault(base_credentials: tuple[str, str]) -> None:
    """From the first denial on, also in a worker that has just started."""
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        for number in range(8):
            server.add_role(arn(number), external_id="acme-ext-7Pq2")
        know(us, *range(8))
        server.set_plan([DENIED])
        assert [await signed_in(us, number) for number in range(4)] == [BASE_CREDENTIALS_DENIED] * 4
        assert us.sign_ins.sts_calls == 1 + WITNESSES + 3, "the others are not asked again at once"
        server.set_plan([])
        assert await signed_in(us, 5) == "signed in"
        clock.epoch = START + 60
        server.set_plan([Rule(DENIAL, Match(operation="AssumeRole", role=arn(0)))])
        assert await signed_in(us, 0) == "AccessDenied", "another role is granted: this one's fault again"


async def test_a_role_that_is_denied_alone_is_at_fault(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        server.add_role(arn(1), external_id="acme-ext-7Pq2")
        know(us, 0, 1)
        assert await signed_in(us, 0) == "AccessDenied"
        assert us.sign_ins.sts_calls == 3, "denied, the other granted, denied again"


async def test_a_right_that_comes_back_between_two_answers_leads_to_a_session(
    base_credentials: tuple[str, str],
) -> None:
    async with world(base_credentials) as (us, server):
        for number in range(2):
            server.add_role(arn(number), external_id="acme-ext-7Pq2")
        know(us, 0, 1)
        server.set_plan([Rule(DENIAL, ON_ASSUME, Times(1))])
        assert await signed_in(us, 0) == "signed in"


async def test_a_role_without_another_is_at_fault(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, _):
        know(us, 0)
        assert await signed_in(us, 0) == "AccessDenied"
        assert us.sign_ins.sts_calls == 1


async def test_a_witness_without_an_answer_tells_nothing(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        know(us, 0, 1)
        busy = CallError(503, "ServiceUnavailable", "busy")
        server.set_plan([Rule(busy, Match(operation="AssumeRole", role=arn(1)))])
        assert await signed_in(us, 0) == "ServiceUnavailable", "the sign-in is tried again"
        server.add_role(arn(2), external_id="acme-ext-7Pq2")
        know(us, 1, 2, 3)
        assert await signed_in(us, 3) == "AccessDenied", "the next witness tells"


async def test_our_known_fault_holds_while_a_witness_does_not_answer(
    base_credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "_BELIEVED_SECS", 0.0)
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        for number in range(3):
            server.add_role(arn(number), external_id="acme-ext-7Pq2")
        know(us, 0, 1, 2)
        server.set_plan([DENIED])
        assert await signed_in(us, 0) == BASE_CREDENTIALS_DENIED
        clock.epoch = START + 60
        busy = Rule(CallError(503, "ServiceUnavailable", "busy"), Match(operation="AssumeRole", role=arn(1)))
        server.set_plan([busy, DENIED])
        assert await signed_in(us, 0) == BASE_CREDENTIALS_DENIED
        server.set_plan([])
        assert await signed_in(us, 1) == "signed in"
        clock.epoch = START + 120
        server.set_plan([busy, Rule(DENIAL, Match(operation="AssumeRole", role=arn(0)))])
        know(us, 0, 1)
        assert await signed_in(us, 0) == "ServiceUnavailable", "a role was granted since"


BARE_403 = Rule(CallError(403, body="html"), Match(operation="PutEvents"))
OWN_KEY = AccessKey(KEY, Secret(SECRET))


async def test_a_shared_proxy_refusal_is_our_fault() -> None:
    async with world(None) as (us, server):
        server.set_plan([BARE_403])
        alone = [await us.call(to(OWN_KEY, "dst_1")) for _ in range(3)]
        assert [reply.code for reply in alone if isinstance(reply, CallFailed)] == ["403"] * 3
        both = [await us.call(to(OWN_KEY, name)) for name in ("dst_2", "dst_1")]
        assert [reply.code for reply in both if isinstance(reply, CallFailed)] == [REFUSED_BEFORE_AWS] * 2
        server.set_plan([])
        assert isinstance(await us.call(to(OWN_KEY, "dst_3")), Answered)
        server.set_plan([BARE_403])
        again = await us.call(to(OWN_KEY, "dst_1"))
        assert isinstance(again, CallFailed)
        assert again.code == "403", "one destination alone"
