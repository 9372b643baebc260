"""A check finds a bus, or finds it missing, only when AWS itself says so."""

from __future__ import annotations

import json

import pytest

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.outcome import BusStatus
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered
from pushrail_stream.sandbox.bus.faults import CallError, Effect, ExpireTokens, Garbage, Match, ResetBefore, Rule
from pushrail_stream.settings.eventbridge import AccessKey, Auth
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import BUS
from tests.support.builders import destination
from tests.support.eventbridge_world import ASSUME, KEY, ON_ASSUME, SECRET, to, world
from tests.support.recording_server import Recorder, http

OWN_KEY = AccessKey(KEY, Secret(SECRET))
ON_LOOK = Match(operation="DescribeEventBus")


@pytest.mark.parametrize("auth", [ASSUME, OWN_KEY], ids=["role", "key"])
async def test_a_bus_is_there_until_it_is_deleted(base_credentials: tuple[str, str], auth: Auth) -> None:
    async with world(base_credentials) as (us, server):
        target = destination(auth=auth)
        assert await us.check(target) == "there"
        server.directory.buses.clear()
        assert await us.check(target) == "gone"
        assert isinstance(await us.call(to(auth)), Answered), "PutEvents does not tell"
        assert server.arrivals == []
        server.add_bus(BUS)
        assert await us.check(target) == "there"


async def test_a_key_without_permission_is_denied(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        server.add_key(KEY, SECRET, buses=[])
        assert await us.check(destination(auth=OWN_KEY)) == "denied"


@pytest.mark.parametrize(
    ("effect", "bus_status"),
    [
        (CallError(400, "AccessDeniedException"), "denied"),
        (CallError(400, "ThrottlingException"), "busy"),
        (CallError(500, "InternalException"), "unknown"),
        (CallError(404, body="html"), "unknown"),
        (CallError(403, body="empty"), "unknown"),
        (ExpireTokens(), "unknown"),
        (ResetBefore(), "unknown"),
        (Garbage("empty"), "unknown"),
        (Garbage("html"), "unknown"),
        (Garbage("object"), "unknown"),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_failed_check_decides_nothing(
    base_credentials: tuple[str, str], effect: Effect, bus_status: BusStatus, *, is_there: bool
) -> None:
    async with world(base_credentials) as (us, server):
        if not is_there:
            server.directory.buses.clear()
        server.set_plan([Rule(effect, ON_LOOK)])
        assert await us.check(destination(auth=ASSUME)) == bus_status


@pytest.mark.parametrize("arn", ["arn:aws:events:us-east-1:123456789012:event-bus/default", None, [BUS]])
async def test_another_buss_description_is_ignored(arn: object) -> None:
    reply = http("200 OK", json.dumps({"Arn": arn, "Name": "pushrail-events"}).encode())
    async with (
        Recorder.serve(reply) as server,
        EventBridge.open(EventBridgeSettings(endpoint_url=server.url), StsSettings()) as us,
    ):
        assert await us.check(destination(auth=OWN_KEY)) == "unknown"
        server.reply = http("200 OK", json.dumps({"Arn": BUS}).encode())
        assert await us.check(destination(auth=OWN_KEY)) == "there"


async def test_a_session_is_opened_before_the_check(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        assert await us.sign_in(destination(auth=OWN_KEY))
        assert await us.sign_in(destination(auth=ASSUME))
        assert server.counts()["assumeRole"] == 1
        assert await us.check(destination(auth=ASSUME)) == "there"
        assert server.counts()["assumeRole"] == 1


async def test_without_a_session_no_check_is_made(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        server.set_plan([Rule(CallError(403, "AccessDenied"), ON_ASSUME)])
        assert not await us.sign_in(destination(auth=ASSUME))
        assert await us.check(destination(auth=ASSUME)) == "unknown"
        assert server.counts()["describeEventBus"] == 0
