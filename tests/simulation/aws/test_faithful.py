"""The simulated AWS and the fault-injecting bus answer the same scripts alike, through the real EventBridge adapter.

Where they differ, AWS's documentation decides, and the difference is named here.
"""

from __future__ import annotations

import pytest

from pushrail_stream.core.batch import Batch
from pushrail_stream.eventbridge.error_codes import CallFailed
from pushrail_stream.settings.eventbridge import V2
from tests.simulation.aws.two_worlds import Script, Story, in_the_simulation, on_the_bus
from tests.support.batches import BUS, batch, batch_of, value
from tests.support.builders import destination, event, v2_bus_arn
from tests.support.eventbridge_world import ASSUME, GOOD_KEY, KEY, SECRET, to

OTHER_BUS = BUS + "-other"
V2_BUS = v2_bus_arn("acme")
STORIES: list[Story] = []


def to_v2(*numbers: int) -> Batch:
    """Events for a bus of eventbridgev2."""
    target = destination(type="EVENTBRIDGE_V2", bus=V2_BUS, auth=GOOD_KEY)
    return batch_of(target, [value(number) for number in numbers], limits=V2.limits)


def story(function: Story) -> Story:
    """Add a script that runs in both worlds."""
    STORIES.append(function)
    return function


@story
async def entries_of_a_role_arrive(script: Script) -> None:
    await script.put(to(ASSUME))
    await script.put(to(ASSUME))


@story
async def entries_of_a_key_arrive_ten_at_once(script: Script) -> None:
    await script.put(batch(destination(auth=GOOD_KEY), 10))
    await script.put(batch_of(destination(auth=GOOD_KEY), [value(7, note='"\\ Zoë 日本 \U0001f600')]))


@story
async def a_deleted_bus_swallows_entries_until_it_is_made_again(script: Script) -> None:
    await script.put(to(GOOD_KEY))
    script.aws.delete_bus(BUS)
    await script.put(to(GOOD_KEY))
    script.note(await script.us.check(destination(auth=GOOD_KEY, bus=BUS)))
    script.aws.create_bus(BUS)
    script.note(await script.us.check(destination(auth=GOOD_KEY, bus=BUS)))
    await script.put(to(GOOD_KEY))


@story
async def a_wrong_external_id_blocks_until_it_is_right(script: Script) -> None:
    script.aws.set_role("another-id")
    await script.put(to(ASSUME))
    script.aws.set_role(ASSUME.external_id)
    script.us.forget(to(ASSUME).destination.id)
    await script.put(to(ASSUME))


@story
async def a_role_without_external_id_admits_us(script: Script) -> None:
    script.aws.set_role(None)
    await script.put(to(ASSUME))


@story
async def a_missing_role_blocks(script: Script) -> None:
    script.aws.delete_role()
    await script.put(to(ASSUME))


@story
async def a_role_that_may_not_put_on_the_bus_is_denied(script: Script) -> None:
    await script.put(to(ASSUME))
    script.aws.set_role(ASSUME.external_id, OTHER_BUS)
    await script.put(to(ASSUME))
    await script.put(to(ASSUME), refreshed=True)
    script.note(await script.us.check(destination(auth=ASSUME, bus=BUS)))


@story
async def a_bus_of_eventbridgev2_keeps_an_entry_once(script: Script) -> None:
    script.aws.create_bus(V2_BUS)
    script.aws.set_key(SECRET, V2_BUS)
    await script.put(to_v2(1, 2))
    script.aws.fail("reset_after")
    await script.put(to_v2(3))
    await script.put(to_v2(1, 3, 4))
    await script.put(to_v2(*range(5, 105)))


@story
async def a_bus_of_eventbridgev2_tells_each_refusal(script: Script) -> None:
    script.aws.set_key(SECRET, V2_BUS)
    await script.put(to_v2(1))
    script.aws.create_bus(V2_BUS)
    for code, status in (("ThrottlingException", 400), ("InvalidStateException", 409), ("InternalException", 500)):
        script.aws.refuse(code, status)
        await script.put(to_v2(1))
    for code in ("ThrottlingException", "InternalException", "MalformedDetail", "AccessDeniedException"):
        script.aws.refuse_entries(code)
        await script.put(to_v2(1, 2))
    script.aws.set_key(SECRET, BUS)
    await script.put(to_v2(1))
    script.aws.delete_key(KEY)
    await script.put(to_v2(1))


@story
async def a_key_that_may_not_put_on_the_bus_is_denied(script: Script) -> None:
    script.aws.set_key(SECRET, OTHER_BUS)
    await script.put(to(GOOD_KEY))
    script.note(await script.us.check(destination(auth=GOOD_KEY, bus=BUS)))


@story
async def a_wrong_secret_is_refused(script: Script) -> None:
    script.aws.set_key("rotated")
    await script.put(to(GOOD_KEY))


@story
async def a_deleted_key_is_refused(script: Script) -> None:
    script.aws.delete_key(KEY)
    await script.put(to(GOOD_KEY))


@story
async def an_expired_session_is_replaced(script: Script) -> None:
    await script.put(to(ASSUME))
    script.aws.end_sessions()
    await script.put(to(ASSUME))
    await script.put(to(ASSUME), refreshed=True)


@story
async def our_own_key_is_deleted(script: Script) -> None:
    script.aws.delete_key("AKIABASE000000000000")
    await script.put(to(ASSUME))
    found = await script.us.check_own_credentials()
    assert isinstance(found, CallFailed)
    script.note(found.code)


@story
async def our_own_key_works(script: Script) -> None:
    script.note(await script.us.check_own_credentials())


@story
async def a_clock_ahead_is_our_own_fault(script: Script) -> None:
    script.aws.set_clock_ahead(600)
    await script.put(to(GOOD_KEY))
    await script.put(to(ASSUME))


@story
async def a_clock_behind_is_our_own_fault(script: Script) -> None:
    script.aws.set_clock_ahead(-600)
    await script.put(to(GOOD_KEY))
    await script.put(to(ASSUME))


@story
async def a_clock_within_five_minutes_is_right(script: Script) -> None:
    script.aws.set_clock_ahead(240)
    await script.put(to(GOOD_KEY))
    await script.put(to(ASSUME))


@story
async def a_malformed_detail_fails_alone(script: Script) -> None:
    huge = event(number=1, payload={"number": 2**64})
    await script.put(batch_of(destination(auth=GOOD_KEY), [event(), huge, event(number=2)]))


@story
async def a_source_of_aws_is_refused(script: Script) -> None:
    await script.put(batch(destination(auth=GOOD_KEY, source="aws.acme")))


@story
async def entries_up_to_the_limit_of_a_call_are_taken(script: Script) -> None:
    target = destination(auth=GOOD_KEY)
    await script.put(batch_of(target, [value(number, padding=523_900) for number in range(2)]))


@story
async def the_answer_is_lost_after_the_entries_were_taken(script: Script) -> None:
    script.aws.fail("reset_after")
    await script.put(to(GOOD_KEY))
    await script.put(to(GOOD_KEY))


@story
async def the_connection_is_reset_before_the_call(script: Script) -> None:
    script.aws.fail("reset_before")
    await script.put(to(GOOD_KEY))
    await script.put(to(GOOD_KEY))


@story
async def a_call_hangs(script: Script) -> None:
    await script.put(to(GOOD_KEY))
    script.aws.fail("hang")
    await script.put(to(GOOD_KEY))
    await script.put(to(GOOD_KEY))


@story
async def an_answer_is_too_late(script: Script) -> None:
    script.aws.fail("late")
    await script.put(to(GOOD_KEY))
    await script.put(to(GOOD_KEY))


@story
async def answers_confirm_nothing(script: Script) -> None:
    for name in ("empty", "html", "object"):
        script.aws.fail(name)
        await script.put(to(GOOD_KEY))
    await script.put(to(GOOD_KEY))


@story
async def sts_answers_nothing_readable(script: Script) -> None:
    for name in ("empty", "html", "object"):
        script.aws.fail(name, "AssumeRole")
        await script.put(to(ASSUME, f"dst_{name}"))


@story
async def sts_hangs_and_resets(script: Script) -> None:
    for name in ("hang", "reset_before", "reset_after"):
        script.aws.fail(name, "AssumeRole")
        await script.put(to(ASSUME, f"dst_{name}"))


@story
async def sts_is_throttled_and_fails(script: Script) -> None:
    for code, status in (("Throttling", 400), ("InternalFailure", 500), ("ServiceUnavailable", 503)):
        script.aws.refuse(code, status, "AssumeRole")
        await script.put(to(ASSUME, f"dst_{code}"))


@story
async def whole_calls_are_refused(script: Script) -> None:
    for code, status in (
        ("ThrottlingException", 400),
        ("InternalFailure", 500),
        ("ServiceUnavailable", 503),
        ("AccessDeniedException", 400),
        ("RequestExpired", 400),
        ("UnknownOperationException", 404),
        ("TooManyRequestsException", 429),
        ("ValidationException", 400),
    ):
        script.aws.refuse(code, status)
        await script.put(to(GOOD_KEY))
    await script.put(to(GOOD_KEY))


@story
async def single_entries_fail(script: Script) -> None:
    for code in ("ThrottlingException", "InternalFailure", "NotAuthorizedForDetailTypeException", "RedactionFailure"):
        script.aws.refuse_entries(code)
        await script.put(to(GOOD_KEY))


@story
async def every_entry_of_a_session_is_denied(script: Script) -> None:
    script.aws.refuse_entries("AccessDeniedException", times=2)
    await script.put(to(ASSUME))
    await script.put(to(ASSUME), refreshed=True)


@story
async def the_check_of_a_bus_fails(script: Script) -> None:
    target = destination(auth=GOOD_KEY, bus=BUS)
    for code, status in (("ThrottlingException", 400), ("InternalException", 500), ("AccessDeniedException", 400)):
        script.aws.refuse(code, status, "DescribeEventBus")
        script.note(await script.us.check(target))
    script.aws.fail("html", "DescribeEventBus")
    script.note(await script.us.check(target))
    script.note(await script.us.check(target))


@pytest.mark.parametrize("one", STORIES, ids=[one.__name__ for one in STORIES])
def test_both_worlds_tell_the_same(one: Story) -> None:
    simulated, injected = in_the_simulation(one), on_the_bus(one)
    for name, ours, theirs in zip(("outcomes", "arrivals", "calls"), simulated, injected, strict=True):
        assert ours == theirs, name
