from __future__ import annotations

from random import Random

from pushrail_stream.core.outcome import Blocked, Delivered, Refresh, Reply, Retryable, Throttled
from pushrail_stream.eventbridge.bus import EventBridge
from tests.simulation.aws.accounts import Accounts
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.one_host import OneHost
from tests.simulation.aws.policies import PUT_EVENTS, Statement, allow, decide, deny
from tests.support.batches import BUS
from tests.support.builders import destination
from tests.support.eventbridge_world import ASSUME, GOOD_KEY, ROLE, to

CUSTOMER = "123456789012"


async def put(us: EventBridge, auth: object = ASSUME) -> Reply:
    """As the dispatcher does: once more with a new session when the bus asks for it."""
    reply = await us.put(to(auth), refreshed=False)  # type: ignore[arg-type]
    return await us.put(to(auth), refreshed=True) if isinstance(reply.verdict, Refresh) else reply  # type: ignore[arg-type]


def names(reply: Reply) -> list[str]:
    return [type(one).__name__ for one in reply.outcomes(2)]


def test_a_role_that_is_made_again_denies_its_old_sessions() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        assert names(await put(us)) == ["Delivered"] * 2
        cloud.accounts.create_role(ROLE, "999999999999", ASSUME.external_id, BUS)
        first = await us.put(to(ASSUME), refreshed=False)
        assert isinstance(first.verdict, Refresh)
        assert cloud.calls[-1].blame == "customer"
        assert names(await put(us)) == ["Delivered"] * 2

    OneHost().run(story)


def test_revoked_sessions_are_denied_and_new_ones_are_not() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        assert names(await put(us)) == ["Delivered"] * 2
        cloud.accounts.revoke_sessions(ROLE, cloud.state.clock())
        first = (await us.put(to(ASSUME), refreshed=False)).verdict
        assert isinstance(first, Refresh)
        assert "explicit deny in an identity-based policy" in first.message
        assert names(await put(us)) == ["Delivered"] * 2

    OneHost().run(story)


def test_a_deleted_role_denies_its_sessions_and_cannot_be_assumed() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        assert names(await put(us)) == ["Delivered"] * 2
        cloud.accounts.delete_role(ROLE)
        assert names(await put(us)) == ["Blocked"] * 2
        assert [call.blame for call in cloud.calls if call.code] == ["customer", "customer"]

    OneHost().run(story)


def test_a_resource_policy_may_deny_everybody() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.accounts.buses[BUS].policy = [deny(PUT_EVENTS)]
        reply = await put(us, GOOD_KEY)
        assert names(reply) == ["Blocked"] * 2
        assert "resource-based policy" in str(reply)
        assert await us.check(destination(auth=GOOD_KEY, bus=BUS)) == "there"
        assert (cloud.calls[0].blame, cloud.arrivals) == ("customer", [])

    OneHost().run(story)


def test_a_resource_policy_may_refuse_sources_and_detail_types() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        bus = cloud.accounts.buses[BUS]
        bus.refused_sources = frozenset({"pushrail.acme"})
        assert {one.code for one in (await put(us, GOOD_KEY)).outcomes(2) if isinstance(one, Blocked)} == {
            "NotAuthorizedForSourceException"
        }
        bus.refused_sources, bus.refused_detail_types = frozenset(), frozenset({"order.completed"})
        assert {one.code for one in (await put(us, GOOD_KEY)).outcomes(2) if isinstance(one, Blocked)} == {
            "NotAuthorizedForDetailTypeException"
        }
        assert {one.blame for call in cloud.calls for one in call.entries} == {"customer"}

    OneHost().run(story)


def test_within_an_account_the_resource_policy_suffices() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.accounts.roles[ROLE].permissions = []
        assert names(await put(us)) == ["Blocked"] * 2
        cloud.accounts.buses[BUS].policy = [allow(PUT_EVENTS, BUS, CUSTOMER)]
        assert names(await put(us)) == ["Delivered"] * 2

    OneHost().run(story)


def test_a_bus_of_another_account_needs_both_policies() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        foreign = "arn:aws:iam::555555555555:user/elsewhere"
        cloud.accounts.create_customer_key(foreign, GOOD_KEY.access_key_id, GOOD_KEY.secret.reveal())  # type: ignore[union-attr]
        reply = await put(us, GOOD_KEY)
        assert names(reply) == ["Blocked"] * 2
        assert "no resource-based policy" in str(reply)
        cloud.accounts.buses[BUS].policy = [allow(PUT_EVENTS, BUS, "555555555555")]
        assert names(await put(us, GOOD_KEY)) == ["Delivered"] * 2
        cloud.accounts.create_user(foreign, [])
        assert names(await put(us, GOOD_KEY)) == ["Blocked"] * 2

    OneHost().run(story)


def test_a_session_may_do_no_more_than_its_own_policy() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        await put(us)
        session = cloud.accounts.credential(cloud.calls[0].issued_key)
        assert session is not None
        assert session.policy is not None
        assert decide(session.policy, PUT_EVENTS, BUS) == "allow"
        assert decide(session.policy, PUT_EVENTS, BUS + "-other") == "none"
        assert decide(session.policy, "events:PutRule", BUS) == "none"

    OneHost().run(story)


def test_an_explicit_denial_wins() -> None:
    statements = [allow("events:*", "arn:*"), deny("events:Put*", "*:bus-*")]
    assert decide(statements, "events:PutEvents", "arn:x:bus-1") == "deny"
    assert decide(statements, "events:DescribeEventBus", "arn:x:bus-1") == "allow"
    assert decide(statements, "sts:AssumeRole", "arn:x") == "none"
    only_one = [Statement("Allow", ("*",), ("*",), ("arn:aws:iam::111111111111:root",))]
    assert decide(only_one, "a", "b", "arn:aws:iam::111111111111:user/x") == "allow"
    assert decide(only_one, "a", "b", "arn:aws:iam::222222222222:user/x") == "none"


def test_a_quota_counts_all_callers_of_an_account_and_region() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.quotas.set_limit(CUSTOMER, "us-east-1", "PutEvents", 2)
        replies = [await put(us, GOOD_KEY) for _ in range(200)]
        outcomes = [one for reply in replies for one in reply.outcomes(2)]
        assert {type(one) for one in outcomes} == {Delivered, Throttled}
        # Both ways of AWS: the whole call, and single entries.
        assert {reply.http_status for reply in replies if "Throttled" in names(reply)} == {200, 400}
        assert any(set(names(reply)) == {"Delivered", "Throttled"} for reply in replies)
        assert len(cloud.arrivals) == sum(isinstance(one, Delivered) for one in outcomes)
        assert {one.blame for call in cloud.calls for one in call.entries if one.code} == {"aws"}
        cloud.quotas.set_limit(CUSTOMER, "us-east-1", "PutEvents", 400)
        assert names(await put(us, GOOD_KEY)) == ["Delivered"] * 2

    world = OneHost()
    world.run(story)
    assert world.history.faults["quota:PutEvents"] > 0


def test_a_bus_that_is_made_again_is_another_generation() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        await put(us, GOOD_KEY)
        cloud.accounts.delete_bus(BUS)
        assert names(await put(us, GOOD_KEY)) == ["Delivered"] * 2
        cloud.accounts.create_bus(BUS)
        await put(us, GOOD_KEY)
        assert [one.generation for one in cloud.arrivals] == [1, 1, 2, 2]
        vanished = cloud.calls[1].entries
        assert [(one.taken, one.confirmed, one.blame) for one in vanished] == [(False, True, "customer")] * 2

    OneHost().run(story)


def test_a_clock_that_differs_by_more_than_five_minutes_is_our_own_fault() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        for secs, ours in ((301.0, True), (-301.0, True), (299.0, False), (-299.0, False)):
            cloud.state.epoch += secs
            first = (await put(us, GOOD_KEY)).outcomes(2)[0]
            assert (isinstance(first, Retryable) and first.is_our_fault) == ours, (secs, first)
            assert (cloud.calls[-1].blame == "ours") == ours
            cloud.state.epoch -= secs

    OneHost().run(story)


def test_a_host_with_a_wrong_clock_is_told_so() -> None:
    world = OneHost()

    async def story(us: EventBridge, cloud: Cloud) -> None:
        world.host.clock_offset = 3_600.0
        first = (await put(us, GOOD_KEY)).outcomes(2)[0]
        assert isinstance(first, Retryable)
        assert first.message.startswith("Signature not yet current")
        assert cloud.calls[-1].blame == "ours"

    world.run(story)


def test_every_secret_that_was_issued_is_known() -> None:
    accounts = Accounts(Random(1))
    accounts.create_our_key("arn:aws:iam::999999999999:user/we", "AKIAWE", "our-secret")
    role = accounts.create_role("arn:aws:iam::111111111111:role/r", "999999999999", None)
    session = accounts.issue(role, "name", 0.0, 3600, None)
    accounts.delete_key("AKIAWE")
    assert accounts.secrets == {"our-secret", session.secret, session.session_token}
