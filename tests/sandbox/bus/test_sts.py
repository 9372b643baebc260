"""The bus issues sessions as STS does, and PutEvents accepts them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    ExpireTokens,
    Garbage,
    Hang,
    Latency,
    Match,
    ResetAfter,
    ResetBefore,
    Rule,
    Times,
)
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus, wall_clock
from tests.support.bus_clients import ACCOUNT, KEY, OTHER_BUS, ROLE, client, declare, entry, refusal

if TYPE_CHECKING:
    from pushrail_stream.sandbox.bus.faults import Effect

ASK: dict[str, Any] = {"RoleArn": ROLE, "RoleSessionName": "pushrail-acme", "ExternalId": "acme-ext-7Pq2"}


def session(credentials: dict[str, Any]) -> dict[str, str]:
    return {
        "key": credentials["AccessKeyId"],
        "secret": credentials["SecretAccessKey"],
        "token": credentials["SessionToken"],
    }


async def test_an_assumed_role_serves_its_bus_only() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.add_bus(OTHER_BUS)
        async with client("sts", bus) as sts:
            reply = await sts.assume_role(**ASK, DurationSeconds=1800, Policy='{"Version":"2012-10-17"}')
        issued = reply["Credentials"]
        async with client("events", bus, **session(issued)) as events:
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0
            denied = await refusal(events.put_events(Entries=[entry(EventBusName=OTHER_BUS)]))
        async with client("sts", bus, **session(issued)) as sts:
            identity = await sts.get_caller_identity()
        (assumed,) = bus.assumed
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/PushrailEventBridgeWriter/pushrail-acme"
        assert issued["AccessKeyId"].startswith("ASIA")
        assert abs((issued["Expiration"] - datetime.fromtimestamp(assumed.at, UTC)).total_seconds() - 1800) <= 1
        assert reply["AssumedRoleUser"]["Arn"] == arn == identity["Arn"]
        assert identity["Account"] == ACCOUNT
        assert denied[:2] == (400, "AccessDeniedException")
        assert arn in denied[2]
        assert bus.arrivals[0].access_key == issued["AccessKeyId"] == assumed.issued_key
        assert assumed[1:9] == (
            *(200, "", ROLE, "acme-ext-7Pq2", "pushrail-acme", 1800, '{"Version":"2012-10-17"}'),
            KEY,
        )


async def test_a_session_needs_its_own_token_and_expires() -> None:
    later = 0.0
    async with FaultBus.serve(BusConfig(clock=lambda: wall_clock() + later)) as bus:
        declare(bus)
        async with client("sts", bus) as sts:
            issued = session((await sts.assume_role(**ASK, DurationSeconds=900))["Credentials"])
        for token in ("wrong", None):
            async with client("events", bus, key=issued["key"], secret=issued["secret"], token=token) as events:
                assert (await refusal(events.put_events(Entries=[entry()])))[1] == "UnrecognizedClientException"
        async with client("events", bus, **issued) as events, client("sts", bus, **issued) as sts:
            await events.put_events(Entries=[entry()])
            later = 901.0
            expired = (400, "ExpiredTokenException", "The security token included in the request is expired")
            assert await refusal(events.put_events(Entries=[entry()])) == expired
            assert (await refusal(sts.get_caller_identity()))[:2] == (403, "ExpiredToken")


@pytest.mark.parametrize(
    "changes", [{"ExternalId": None}, {"ExternalId": "wrong"}, {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/Missing"}]
)
async def test_a_missing_role_looks_like_a_wrong_id(changes: dict[str, Any]) -> None:
    asked = {name: value for name, value in {**ASK, **changes}.items() if value is not None}
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("sts", bus) as sts:
            status, code, message = await refusal(sts.assume_role(**asked))
        user = f"arn:aws:iam::{ACCOUNT}:user/{KEY}"
        assert (status, code) == (403, "AccessDenied")
        assert message == f"User: {user} is not authorized to perform: sts:AssumeRole on resource: {asked['RoleArn']}"
        assert [(one.status, one.code, one.issued_key) for one in bus.assumed] == [(403, "AccessDenied", None)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RoleSessionName": "no spaces"}, "roleSessionName"),
        ({"ExternalId": "no spaces"}, "externalId"),
        ({"DurationSeconds": 43201}, "durationSeconds"),
        ({"DurationSeconds": 3601}, "exceeds the MaxSessionDuration set for this role"),
        ({"RoleArn": "arn:aws:iam::1:user/nobody"}, "is invalid"),
    ],
)
async def test_parameters_are_validated(changes: dict[str, Any], said: str) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("sts", bus) as sts:
            status, code, message = await refusal(sts.assume_role(**{**ASK, **changes}))
        assert (status, code) == (400, "ValidationError")
        assert said in message


async def test_role_chaining_is_capped_at_an_hour() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.add_role(ROLE, max_session_secs=43200)
        async with client("sts", bus) as sts:
            issued = (await sts.assume_role(**ASK, DurationSeconds=7200))["Credentials"]
        async with client("sts", bus, **session(issued)) as sts:
            assert "role chaining" in (await refusal(sts.assume_role(**ASK, DurationSeconds=7200)))[2]
            await sts.assume_role(**ASK, DurationSeconds=3600)


@pytest.mark.parametrize(
    ("key", "secret", "code"), [("AKIAUNKNOWN", "s", "InvalidClientTokenId"), (KEY, "s", "SignatureDoesNotMatch")]
)
async def test_bad_base_credentials_have_distinct_errors(key: str, secret: str, code: str) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("sts", bus, key=key, secret=secret) as sts:
            assert (await refusal(sts.assume_role(**ASK)))[:2] == (403, code)
            assert (await refusal(sts.get_caller_identity()))[:2] == (403, code)
            assert (await refusal(sts.get_session_token()))[:2] == (400, "InvalidAction")
        assert [one.code for one in bus.assumed] == [code]


async def test_an_open_bus_lets_any_role_be_assumed() -> None:
    role = "arn:aws:iam::210987654321:role/path/Any"
    async with FaultBus.serve(BusConfig(open=True)) as bus:
        async with client("sts", bus, key="AKIAANY", secret="any") as sts:
            issued = (await sts.assume_role(**{**ASK, "RoleArn": role}))["Credentials"]
        async with client("events", bus, **session(issued)) as events:
            await events.put_events(Entries=[entry(EventBusName="theirs")])
        assert bus.arrivals[0].bus_arn == "arn:aws:events:us-east-1:210987654321:event-bus/theirs"


@pytest.mark.parametrize(
    ("effect", "status", "code"),
    [
        (CallError(400, "Throttling", "Rate exceeded"), 400, "Throttling"),
        (CallError(403, "AccessDenied", "<no>"), 403, "AccessDenied"),
        (CallError(503, body="empty"), 503, "503"),
        (ExpireTokens(), 403, "ExpiredToken"),
    ],
)
async def test_assume_role_follows_the_plan(effect: Effect, status: int, code: str) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(effect, Match(operation="AssumeRole", role="*:role/Pushrail*"), Times(1), name="planned")])
        async with client("sts", bus) as sts:
            assert (await refusal(sts.assume_role(**ASK)))[:2] == (status, code)
            await sts.assume_role(**ASK)
        assert [(one.status, one.code, one.fault) for one in bus.assumed] == [
            (status, code, "planned"),
            (200, "", None),
        ]
        assert bus.counts()["faults"] == 1


@pytest.mark.parametrize(
    ("effect", "error", "issued"),
    [
        (Hang(), ReadTimeoutError, 0),
        (Latency(30.0), ReadTimeoutError, 1),
        (ResetBefore(), EndpointConnectionError, 0),
        (ResetAfter(), EndpointConnectionError, 1),
    ],
)
async def test_assume_role_gets_no_answer_by_plan(effect: Effect, error: type[Exception], issued: int) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(effect)])
        async with client("sts", bus) as sts:
            with pytest.raises(error):
                await sts.assume_role(**ASK)
        assert len([one for one in bus.assumed if one.issued_key is not None]) == issued


@pytest.mark.parametrize(
    ("body", "error"), [("empty", ResponseParserError), ("object", ResponseParserError), ("html", KeyError)]
)
async def test_garbage_issues_nothing(body: Literal["empty", "object", "html"], error: type[Exception]) -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(Garbage(body), Match(operation="AssumeRole"), Times(1))])
        async with client("sts", bus) as sts:
            with pytest.raises(error):
                (await sts.assume_role(**ASK))["Credentials"]
        assert bus.assumed[0].issued_key is None


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov"])
async def test_a_session_has_the_partition_of_its_role(partition: str) -> None:
    role = f"arn:{partition}:iam::{ACCOUNT}:role/Writer"
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.add_role(role, external_id="acme-ext-7Pq2")
        async with client("sts", bus) as sts:
            reply = await sts.assume_role(**{**ASK, "RoleArn": role})
        assert reply["AssumedRoleUser"]["Arn"] == f"arn:{partition}:sts::{ACCOUNT}:assumed-role/Writer/pushrail-acme"
