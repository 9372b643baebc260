from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pushrail_stream.core.outcome import (
    Blocked,
    Delivered,
    Outcome,
    Refresh,
    Rejected,
    Reply,
    Retryable,
    Split,
    Throttled,
    TooLarge,
)
from pushrail_stream.eventbridge.bus import EventBridge
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.faults import CALL_ERRORS, ENTRY_ERRORS, STAGES, Fault
from tests.simulation.aws.one_host import OneHost
from tests.support.eventbridge_world import ASSUME, GOOD_KEY, KEY, to

IS_ANSWERED = {"interim", "surplus"}
"""Kinds of fault that a good client does not notice."""
NOT_NOTICED_AT_ONCE = {"late", "drip"}
"""Kinds whose delay is drawn: some are in time."""


def put_with(fault: Fault, check: Callable[[Reply, Cloud], None], times: int = 1) -> None:
    """Calls of two entries, signed by the customer's key, with a fault each; ``check`` looks at each alone."""

    async def story(us: EventBridge, cloud: Cloud) -> None:
        for _ in range(times):
            cloud.calls.clear()
            cloud.arrivals.clear()
            cloud.faults.set([replace(fault)])
            check(await us.put(to(GOOD_KEY), refreshed=False), cloud)
            # A fault of one connection ends with it.
            cloud.faults.heal()
            again = await us.put(to(GOOD_KEY), refreshed=False)
            assert kinds(again) == [Delivered, Delivered], again
            assert len(cloud.arrivals) == sum(one.taken for call in cloud.calls for one in call.entries)

    world = OneHost()
    world.run(story)
    assert world.history.faults[fault.kind] >= times


def kinds(reply: Reply) -> list[type[Outcome]]:
    assert not isinstance(reply.verdict, Refresh | Split | TooLarge), reply
    return [type(one) for one in reply.verdict]


@pytest.mark.parametrize("kind", [kind for kind, stage in STAGES.items() if stage in {"resolve", "connect"}])
def test_no_connection_takes_no_entries(kind: str) -> None:
    def check(reply: Reply, cloud: Cloud) -> None:
        assert kinds(reply) == [Retryable, Retryable]
        assert cloud.calls == []

    put_with(Fault(kind), check)


@pytest.mark.parametrize("kind", ["hang", "closed_before", "reset_before", "garbled_before"])
def test_a_call_that_aws_never_got_takes_no_entries(kind: str) -> None:
    def check(reply: Reply, cloud: Cloud) -> None:
        assert Delivered not in kinds(reply)
        assert cloud.arrivals == []
        assert [one.taken for one in cloud.calls[0].entries] == [False, False]
        assert cloud.calls[0].blame == "aws"

    put_with(Fault(kind), check, 200 if kind.startswith("garbled") else 3)


@pytest.mark.parametrize("kind", [kind for kind, stage in STAGES.items() if stage == "after"])
def test_entries_of_a_call_whose_answer_suffers_have_arrived(kind: str) -> None:
    def check(reply: Reply, cloud: Cloud) -> None:
        assert len(cloud.arrivals) == 2
        call = cloud.calls[0]
        assert [one.taken for one in call.entries] == [True, True]
        assert bool(call.uncertain_keys) or kind in IS_ANSWERED | NOT_NOTICED_AT_ONCE
        if kind in IS_ANSWERED:
            assert kinds(reply) == [Delivered, Delivered]

    put_with(Fault(kind), check, 200 if kind.startswith("garbled") else 3)


@pytest.mark.parametrize("code", [code for code, error in CALL_ERRORS.items() if "PutEvents" in error.apis])
def test_a_refused_call_has_the_blame_that_the_product_gives(code: str) -> None:
    def check(reply: Reply, cloud: Cloud) -> None:
        blame = cloud.calls[0].blame
        match reply.verdict:
            case Split():
                assert blame == "event"
            case Refresh():
                assert blame in {"customer", "aws"}
            case (Blocked(), *_):
                assert blame == "customer"
            case (Retryable(is_our_fault=True), *_):
                assert blame == "ours"
            case (Retryable() | Throttled(), *_):
                assert blame == "aws"
            case other:
                raise AssertionError(f"{code}: {other}")

    put_with(Fault(f"call:{code}"), check)


def test_a_garbled_refusal_confirms_no_entry() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.accounts.delete_key(KEY)
        for _ in range(200):
            cloud.faults.set([Fault("garbled_after")])
            reply = await us.put(to(GOOD_KEY), refreshed=True)
            if not isinstance(reply.verdict, Refresh | Split | TooLarge):
                assert Delivered not in kinds(reply), cloud.calls[-1].fault

    OneHost().run(story)


def test_a_check_that_aws_did_not_carry_out_names_its_bus() -> None:
    destination = to(GOOD_KEY).destination

    async def story(us: EventBridge, cloud: Cloud) -> None:
        for kind in ("call:AccessDeniedException", "garbled_before"):
            cloud.faults.set([Fault(kind)])
            await us.check(destination)
        assert [call.bus for call in cloud.calls] == [destination.bus.arn] * len(cloud.calls)
        assert len(cloud.calls) >= 2

    OneHost().run(story)


@pytest.mark.parametrize("code", list(ENTRY_ERRORS))
def test_an_entry_that_fails_has_the_blame_that_the_product_gives(code: str) -> None:
    expected = {"event": Rejected, "customer": Blocked}

    def check(reply: Reply, cloud: Cloud) -> None:
        blame = cloud.calls[0].entries[0].blame
        first, second = kinds(reply)
        assert first in {expected.get(blame, Retryable), Throttled if blame == "aws" else first}
        assert second is Delivered
        assert [one.taken for one in cloud.calls[0].entries] == [False, True]

    put_with(Fault(f"entry:{code}", times=1), check)


@pytest.mark.parametrize("kind", ["garbled_before", "garbled_after"])
def test_a_garbled_answer_of_sts_gives_no_delivery_and_breaks_nothing(kind: str) -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        for number in range(200):
            cloud.faults.set([Fault(kind, api="AssumeRole", times=1)])
            reply = await us.put(to(ASSUME, f"dst_{number}"), refreshed=False)
            assert isinstance(reply.verdict, Refresh) or Blocked not in kinds(reply), (cloud.calls[-2:], reply)

    OneHost().run(story)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind of fault"):
        Fault("earthquake")


def test_rates_count_by_kind() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.faults.set_rates({"hang": 0.0, "call:InternalFailure": 0.5})
        for _ in range(40):
            await us.put(to(GOOD_KEY), refreshed=False)

    world = OneHost()
    world.run(story)
    assert 10 < world.history.faults["call:InternalFailure"] < 30
    assert world.history.faults["hang"] == 0
