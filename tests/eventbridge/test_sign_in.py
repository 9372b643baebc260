"""A denied AssumeRole is the fault of one role, or of our own identity when it lost its permission."""

from __future__ import annotations

from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_DENIED, REFUSED_BEFORE_AWS, Answered, CallFailed
from pushrail_stream.eventbridge.sign_in import ROLES, DeniedRoles
from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole
from tests.support.eventbridge_world import KEY, ON_ASSUME, SECRET, START, Clock, to, world

DENIED = Rule(CallError(403, "AccessDenied", "User: ... is not authorized to perform: sts:AssumeRole"), ON_ASSUME)


def arn(number: int, account: int | None = None) -> str:
    return f"arn:aws:iam::{111111111111 * (1 + (number if account is None else account) % 8)}:role/writer-{number}"


def test_many_denials_without_a_grant_are_ours() -> None:
    denials = DeniedRoles()
    assert [denials.denied(arn(number)) for number in range(ROLES)] == [False] * (ROLES - 1) + [True]
    assert denials.denied(arn(0)), "until one is granted"
    denials.granted(arn(7))
    assert not denials.denied(arn(0))


def test_roles_of_one_account_may_all_be_wrong() -> None:
    denials = DeniedRoles()
    assert not any(denials.denied(arn(number, account=3)) for number in range(3 * ROLES))
    assert denials.denied(arn(0, account=4))


def test_repeated_denials_add_nothing() -> None:
    denials = DeniedRoles()
    for number in range(ROLES - 1):
        denials.denied(arn(number))
    denials.granted(arn(100))
    for _ in range(10):
        assert not any(denials.denied(arn(number)) for number in range(ROLES - 1))
    denials.granted(arn(0))
    assert not denials.denied(arn(0)), "it worked in between, so it is news, but one role's alone"


def test_a_role_without_a_document_is_forgotten() -> None:
    denials = DeniedRoles()
    for number in range(ROLES - 1):
        denials.denied(arn(number))
        denials.forget(arn(number))
    denials.forget(arn(99))
    assert not denials.denied(arn(ROLES))
    denials.granted(arn(100))
    assert not denials.denied(arn(0)), "one role's denial alone, although it is news"


async def signed_in(us: EventBridge, number: int) -> str:
    reply = await us.call(to(AssumeRole(arn(number), "acme-ext-7Pq2"), f"dst_{number}"))
    if isinstance(reply, CallFailed):
        return reply.code
    assert isinstance(reply, Answered)
    return "signed in"


async def test_an_identity_without_rights_is_our_fault(
    base_credentials: tuple[str, str],
) -> None:
    clock = Clock()
    async with world(base_credentials, clock) as (us, server):
        for number in range(20):
            server.add_role(arn(number), external_id="acme-ext-7Pq2")
        server.set_plan([DENIED])
        codes = [await signed_in(us, number) for number in range(10)]
        assert codes == ["AccessDenied"] * (ROLES - 1) + [BASE_CREDENTIALS_DENIED] * (11 - ROLES)
        server.set_plan([])
        assert await signed_in(us, 15) == "signed in"
        clock.epoch = START + 60
        server.set_plan([DENIED])
        assert await signed_in(us, 0) == "AccessDenied", "others can be assumed: this one's fault again"


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
