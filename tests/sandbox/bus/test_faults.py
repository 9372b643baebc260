"""The bus fails as its plan says, and records it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    EntryError,
    ExpireTokens,
    FieldError,
    Garbage,
    Hang,
    Latency,
    Match,
    Probability,
    RateAbove,
    ResetAfter,
    ResetBefore,
    Rule,
    Sequence,
    Times,
    rules_from_json,
    rules_to_json,
)
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.bus_clients import BUS, KEY, OTHER_BUS, ROLE, client, declare, entry, refusal

if TYPE_CHECKING:
    from pushrail_stream.sandbox.bus.faults import Effect

THROTTLED = EntryError("ThrottlingException", "Rate exceeded")


async def outcomes(events: Any, number: int) -> list[str]:
    """Make calls of one entry each; give "" for success or the call's error code."""
    found = []
    for _ in range(number):
        try:
            await events.put_events(Entries=[entry()])
            found.append("")
        except events.exceptions.ClientError as error:
            found.append(error.response["Error"]["Code"])
    return found


async def test_an_entry_error_fails_only_matching_entries() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(THROTTLED, Match(detail_contains=("order_2", "order_9")), name="throttle")])
        sent = [entry(Detail=f'{{"idempotencyKey":"order_{number}"}}') for number in range(1, 4)]
        async with client("events", bus) as events:
            reply = await events.put_events(Entries=sent)
            await events.put_events(Entries=sent[:1])
        assert reply["FailedEntryCount"] == 1
        assert reply["Entries"][1] == {"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}
        assert [(arrival.call, arrival.entry_index) for arrival in bus.arrivals] == [(1, 0), (1, 2), (2, 0)]
        assert [(call.failed, call.fault) for call in bus.calls] == [(1, "throttle"), (0, None)]
        assert bus.counts()["failedEntries"] == 1


@pytest.mark.parametrize(
    ("match", "failed"),
    [
        (Match(), [0, 1]),
        (Match(bus=BUS), [0]),
        (Match(bus="arn:*:event-bus/oth*"), [1]),
        (Match(event_type="order.*"), [0]),
        (Match(event_type="refund.*", bus=BUS), []),
        (Match(access_key=KEY), [0, 1]),
        (Match(access_key="AKIAOTHER"), []),
        (Match(role=ROLE), []),
        (Match(operation="PutEvents"), [0, 1]),
        (Match(operation="DescribeEventBus"), []),
    ],
)
async def test_a_rule_fails_the_entries_it_matches(match: Match, failed: list[int]) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        sent = [entry(), entry(EventBusName=OTHER_BUS, DetailType="refund.made")]
        async with client("events", bus) as events:
            bus.set_plan([Rule(THROTTLED, match)])
            reply = await events.put_events(Entries=sent)
            assert [index for index, one in enumerate(reply["Entries"]) if "ErrorCode" in one] == failed
            bus.set_plan([Rule(CallError(500, "InternalFailure"), match)])
            if failed:
                assert (await refusal(events.put_events(Entries=sent)))[1] == "InternalFailure"
            else:
                await events.put_events(Entries=sent)


async def test_a_rule_matches_the_role_of_a_session() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("sts", bus) as sts:
            asked = {"RoleArn": ROLE, "RoleSessionName": "ab", "ExternalId": "acme-ext-7Pq2"}
            issued = (await sts.assume_role(**asked))["Credentials"]
        bus.set_plan([Rule(ExpireTokens(), Match(role=ROLE, operation="PutEvents"))])
        keys = {"secret": issued["SecretAccessKey"], "token": issued["SessionToken"]}
        async with client("events", bus, key=issued["AccessKeyId"], **keys) as events:
            expired = (400, "ExpiredTokenException", "The security token included in the request is expired")
            assert await refusal(events.put_events(Entries=[entry()])) == expired
        async with client("events", bus) as events:
            await events.put_events(Entries=[entry()])


async def test_the_first_matching_rule_decides() -> None:
    first, second = CallError(500, "First"), CallError(400, "Second")
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events:
            bus.set_plan([Rule(first, when=Times(2)), Rule(second, when=Times(1))])
            assert await outcomes(events, 4) == ["First", "First", "Second", ""]
            bus.set_plan([Rule(first, when=Sequence(2, 3))])
            assert await outcomes(events, 4) == ["", "First", "First", ""]
            bus.set_plan([Rule(first)])
            assert await outcomes(events, 2) == ["First", "First"]
            bus.set_plan([])
            assert await outcomes(events, 1) == [""]


async def test_probability_repeats_with_the_seed() -> None:
    async def draw(seed: int) -> list[str]:
        async with FaultBus.serve(BusConfig(seed=seed)) as bus:
            declare(bus)
            bus.set_plan([Rule(CallError(500, "Unlucky"), when=Probability(0.5))])
            async with client("events", bus) as events:
                return await outcomes(events, 24)

    once = await draw(7)
    assert set(once) == {"", "Unlucky"}
    assert await draw(7) == once
    assert await draw(8) != once


async def test_calls_above_a_rate_are_throttled() -> None:
    now = 1_790_000_000.0
    async with FaultBus.serve(BusConfig(clock=lambda: now, check_signatures=False)) as bus:
        declare(bus)
        bus.set_plan([Rule(CallError(400, "ThrottlingException", "Rate exceeded"), when=RateAbove(2.0))])
        async with client("events", bus) as events:
            assert await outcomes(events, 3) == ["", "", "ThrottlingException"]
            now += 0.5
            assert await outcomes(events, 2) == ["", "ThrottlingException"]
            now += 60
            assert await outcomes(events, 3) == ["", "", "ThrottlingException"]
            now -= 60
            assert await outcomes(events, 1) == ["ThrottlingException"]


@pytest.mark.parametrize(
    ("effect", "wanted"),
    [
        (CallError(400, "ThrottlingException", "Rate exceeded"), (400, "ThrottlingException", "Rate exceeded")),
        (CallError(503, "ServiceUnavailable", "later"), (503, "ServiceUnavailable", "later")),
        (CallError(403, body="empty"), (403, "403", "Forbidden")),
        (CallError(429, body="html"), (429, "429", "")),
    ],
)
async def test_a_call_error_takes_no_entry(effect: Effect, wanted: tuple[int, str, str]) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(effect)])
        async with client("events", bus) as events:
            status, code, message = await refusal(events.put_events(Entries=[entry()]))
        assert (status, code) == wanted[:2]
        if isinstance(effect, CallError) and effect.body == "aws":
            assert message == wanted[2]
        assert bus.arrivals == []
        assert [(call.status, call.entries, call.fault) for call in bus.calls] == [(status, 1, "callError")]


@pytest.mark.parametrize(
    ("effect", "error", "taken", "status"),
    [
        (Hang(), ReadTimeoutError, 0, 0),
        (Latency(30.0), ReadTimeoutError, 1, 200),
        (ResetBefore(), EndpointConnectionError, 0, 0),
        (ResetAfter(), EndpointConnectionError, 1, 0),
    ],
)
async def test_an_unanswered_call(effect: Effect, error: type[Exception], taken: int, status: int) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(effect, when=Times(1))])
        async with client("events", bus) as events:
            with pytest.raises(error):
                await events.put_events(Entries=[entry()])
            await bus.wait_for_calls(1)
            assert len(bus.arrivals) == taken
            assert (bus.calls[0].status, bus.calls[0].fault) == (status, effect.kind)
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0


async def test_latency_adds_to_other_faults() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan(
            [Rule(Latency(0.01)), Rule(Latency(0.02), name="slow"), Rule(CallError(500, "Broken"), when=Times(1))]
        )
        async with client("events", bus) as events:
            assert await outcomes(events, 2) == ["Broken", ""]
        assert [call.fault for call in bus.calls] == ["latency+slow+callError", "latency+slow"]


@pytest.mark.parametrize("body", ["empty", "html", "object"])
async def test_a_garbage_200_confirms_and_takes_nothing(body: Any) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(Garbage(body))])
        async with client("events", bus) as events:
            reply = await events.put_events(Entries=[entry()])
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert "Entries" not in reply
        assert bus.arrivals == []


async def test_a_short_200_leaves_out_the_last_entry() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(Garbage("short"))])
        async with client("events", bus) as events:
            reply = await events.put_events(Entries=[entry(), entry()])
        assert [one["EventId"] for one in reply["Entries"]] == [arrival.event_id for arrival in bus.arrivals]
        assert len(bus.arrivals) == 1


async def test_every_operation_follows_the_plan() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events, client("sts", bus) as sts:
            bus.set_plan([Rule(CallError(400, "AccessDeniedException"), Match(operation="DescribeEventBus", bus=BUS))])
            assert (await refusal(events.describe_event_bus(Name=BUS)))[1] == "AccessDeniedException"
            await events.describe_event_bus(Name="default")
            bus.set_plan([Rule(CallError(500, "InternalFailure"), Match(operation="GetCallerIdentity"))])
            assert (await refusal(sts.get_caller_identity()))[:2] == (500, "InternalFailure")
            bus.set_plan([Rule(ResetAfter())])
            with pytest.raises(EndpointConnectionError):
                await events.describe_event_bus(Name=BUS)
            with pytest.raises(EndpointConnectionError):
                await sts.get_caller_identity()


def test_a_plan_survives_json() -> None:
    plan = [
        Rule(THROTTLED, Match(detail_contains=("a", "b"), event_type="x.*"), Probability(0.25), "named"),
        Rule(CallError(503, body="html"), Match(bus=BUS, access_key=KEY, role=ROLE, operation="AssumeRole"), Times(3)),
        Rule(Latency(1.5), when=Sequence(2, 4)),
        Rule(CallError(400, "ThrottlingException"), when=RateAbove(50.0, 10.0)),
        *(Rule(effect) for effect in (Hang(), ResetBefore(), ResetAfter(), Garbage("short"), ExpireTokens())),
    ]
    document = rules_to_json(plan)
    assert rules_from_json(document) == plan
    assert document["rules"][3]["when"] == {"ratePerSecond": 50.0, "burst": 10.0, "kind": "ratePerSecond"}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "rules: "),
        ({"rules": 1}, "rules: "),
        ({"rules": [{}]}, "rules.0.effect: "),
        ({"rules": [{"effect": {"kind": "explode"}}]}, "rules.0.effect: "),
        ({"rules": [{"effect": {"kind": "latency", "secs": -1}}]}, "rules.0.effect.latency.secs: "),
        ({"rules": [{"effect": {"kind": "latency", "secs": "1"}}]}, "rules.0.effect.latency.secs: "),
        ({"rules": [{"effect": {"kind": "callError", "status": 200}}]}, "rules.0.effect.callError.status: "),
        (
            {"rules": [{"effect": {"kind": "hang"}, "match": {"detail_contains": []}}]},
            "rules.0.match.detail_contains: ",
        ),
        ({"rules": [{"effect": {"kind": "hang"}, "match": {"operation": "X"}}]}, "rules.0.match.operation: "),
        (
            {"rules": [{"effect": {"kind": "hang"}, "when": {"kind": "sequence", "first": 3, "last": 2}}]},
            "rules.0.when.sequence: Value error, last must not be below first",
        ),
    ],
)
def test_a_wrong_plan_names_the_field(document: Any, field: str) -> None:
    with pytest.raises(FieldError) as error:
        rules_from_json(document)
    assert str(error.value).startswith(field)
