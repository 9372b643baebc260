"""The rules of a fault plan decide which calls and entries fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    ExpireTokens,
    Match,
    Probability,
    RateAbove,
    Rule,
    Sequence,
    Times,
)
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from tests.support.bus_clients import BUS, KEY, OTHER_BUS, ROLE, client, declare, entry, refusal

if TYPE_CHECKING:
    pass
from tests.support.bus_clients import THROTTLED, outcomes


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
