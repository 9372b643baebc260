"""Our client and a faulty bus with partner event sources: our own identity signs, and its faults are ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pushrail_stream.core.outcome import Blocked, Delivered, Outcome, Rejected, Retryable, Throttled
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import (
    BASE_CREDENTIALS_MISSING,
    CREDENTIALS_MISSING,
    OWN_IDENTITY_DENIED,
    is_our_fault,
)
from pushrail_stream.sandbox.bus.faults import CallError, EntryError, Garbage, Match, ResetAfter, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.eventbridge import PARTNER
from tests.support.batches import batch_of, value
from tests.support.builders import destination, modified, partner_bus_arn, partner_destination
from tests.support.eventbridge_world import Clock, world

ARN = partner_bus_arn("acme")
TARGET = partner_destination()
OURS = is_our_fault(OWN_IDENTITY_DENIED)
DENIED = "AccessDeniedException: not you"


@asynccontextmanager
async def opened(
    base: tuple[str, str] | None, clock: Clock | None = None
) -> AsyncIterator[tuple[EventBridge, FaultBus]]:
    async with world(base, clock) as (us, server):
        server.add_bus(ARN)
        yield us, server


async def put(us: EventBridge, *numbers: int) -> tuple[Outcome, ...]:
    batch = batch_of(TARGET, [value(number) for number in numbers], limits=PARTNER.limits)
    return (await us.put(batch, refreshed=False)).outcomes(len(numbers))


async def test_our_own_credentials_sign(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        assert {type(one) for one in await put(us, *range(20))} == {Delivered}
        assert len(server.calls) == 1
        assert {arrival.access_key for arrival in server.arrivals} == {base_credentials[0]}
        assert {(arrival.bus_arn, arrival.source) for arrival in server.arrivals} == {(ARN, TARGET.source)}
        assert [arrival.detail.encode() for arrival in server.arrivals] == [value(number) for number in range(20)]
        assert server.assumed == []
        assert not us.must_sign_in(TARGET), "the keys are at hand"


async def test_our_own_credentials_sign_for_no_other_type(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        for kind in ("EVENTBRIDGE", "EVENTBRIDGE_V2"):
            batch = batch_of(modified(TARGET, type=kind), [value(1)])
            (outcome,) = (await us.put(batch, refreshed=False)).outcomes(1)
            assert isinstance(outcome, Blocked)
            assert outcome.code == CREDENTIALS_MISSING
        assert server.calls == []


async def test_missing_credentials_are_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with opened(None) as (us, server):
        (outcome,) = await put(us, 1)
        assert isinstance(outcome, Retryable)
        assert (outcome.code, outcome.is_our_fault) == (BASE_CREDENTIALS_MISSING, True)
        assert server.calls == []


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "NotAuthorized", "OptInRequired", "OperationDisabledException", "RegionDisabled"]
)
async def test_a_denial_of_our_identity_is_our_fault(code: str, base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        server.set_plan([Rule(CallError(400, code, "not you"), Match(operation="PutPartnerEvents"))])
        assert OURS
        assert await put(us, 1, 2) == (Retryable(OWN_IDENTITY_DENIED, f"{code}: not you", is_our_fault=True),) * 2
        server.set_plan([Rule(EntryError("AccessDeniedException", "not you"), Match(detail_contains=('"key-1"',)))])
        denied, taken = await put(us, 1, 2)
        assert denied == Retryable(OWN_IDENTITY_DENIED, DENIED, is_our_fault=True)
        assert isinstance(taken, Delivered)


async def test_our_identity_without_the_right_is_denied(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        server.add_key(*base_credentials, buses=[ARN])
        (outcome,) = await put(us, 1)
        assert isinstance(outcome, Retryable)
        assert outcome.is_our_fault
        assert (
            "events:PutPartnerEvents on resource: arn:aws:events:us-east-1::event-source/aws.partner/"
            in outcome.message
        )
        assert await us.check(TARGET) == "denied"


async def test_keys_that_aws_refuses_are_read_again(
    base_credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with opened(base_credentials, clock) as (us, server):
        assert [type(one) for one in await put(us, 1)] == [Delivered]
        server.directory._keys.clear()
        (outcome,) = await put(us, 2)
        assert outcome == Retryable("UnrecognizedClientException", outcome.message, is_our_fault=True)  # type: ignore[union-attr]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAROTATED000000000")
        server.add_key("AKIAROTATED000000000", base_credentials[1])
        clock.epoch += 6
        assert us.must_sign_in(TARGET)
        assert await us.sign_in(TARGET)
        assert [type(one) for one in await put(us, 2)] == [Delivered]
        assert server.arrivals[-1].access_key == "AKIAROTATED000000000"


async def test_faults_of_aws_are_told_as_those_of_put_events(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        server.set_plan(
            [
                Rule(ResetAfter(), Match(operation="PutPartnerEvents"), Times(1)),
                Rule(CallError(400, "ThrottlingException"), Match(operation="PutPartnerEvents"), Times(1)),
                Rule(CallError(500, "InternalException"), Match(bus=ARN), Times(1)),
                Rule(Garbage("short"), when=Times(1)),
            ]
        )
        kinds = [[type(one) for one in await put(us, 1, 2)] for _ in range(5)]
        assert kinds == [
            [Retryable, Retryable],
            [Throttled, Throttled],
            [Retryable, Retryable],
            [Delivered, Retryable],
            [Delivered, Delivered],
        ]
        server.set_plan([Rule(EntryError("NotAuthorizedForSourceException"), Match(detail_contains=('"key-1"',)))])
        assert [type(one) for one in await put(us, 1, 2)] == [Blocked, Delivered]
        server.set_plan([Rule(EntryError("MalformedDetail"), when=Times(1))])
        assert [type(one) for one in await put(us, 1, 2)] == [Rejected, Delivered]


async def test_a_source_without_a_bus_discards_events(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        assert await us.check(TARGET) == "there"
        server.directory.buses.remove(ARN)
        assert await us.check(TARGET) == "gone"
        server.offer_source(ARN)
        assert await us.check(TARGET) == "gone"
        assert [type(one) for one in await put(us, 1)] == [Delivered]
        assert (server.arrivals, server.counts()["discarded"]) == ([], 1)


async def test_a_classic_bus_is_called_as_before(base_credentials: tuple[str, str]) -> None:
    async with opened(base_credentials) as (us, server):
        await put(us, 1)
        batch = batch_of(destination(auth=TARGET.bus.auth), [value(1)])
        assert isinstance((await us.put(batch, refreshed=False)).outcomes(1)[0], Blocked)
        assert len(server.calls) == 1
