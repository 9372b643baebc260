"""Calls to partner event sources against the stock client: the same bytes, and the same reading of replies."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from aiobotocore.config import AioConfig
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pushrail_stream.core.outcome import Delivered
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.endpoint_partner import PartnerEndpoint, render_partner
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, Answered, CallFailed, EntryResult
from pushrail_stream.settings.eventbridge import PARTNER
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch_of, value
from tests.support.builders import destination, partner_destination
from tests.support.recording_server import Recorder, Request, http
from tests.support.stock_client import stock_session

MODEL = botocore.session.get_session().get_service_model("events")
TARGET = partner_destination()
TRACED = (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
BATCH = batch_of(TARGET, [value(1, note="Zo\u00eb ordered 2 \u2028\x7f"), value(2)], TRACED, limits=PARTNER.limits)
DIFFERENT_ON_PURPOSE = {
    "content-length": "stock writes JSON with spaces, and escapes what is not ASCII",
    "x-amz-date": "two calls, two times",
    "authorization": "recomputed below",
    "user-agent": "ours is fixed per process; stock writes one per call",
    "amz-sdk-invocation-id": "names stock's retries, of which we make none",
    "amz-sdk-request": "counts stock's retries, of which we make none",
    "x-amzn-query-mode": "stock asks for codes of the old protocol",
}


def replied(fields: Any, status: str = "200 OK") -> bytes:
    return http(status, json.dumps(fields).encode(), "x-amzn-RequestId: r-1")


OK = replied({"FailedEntryCount": 0, "Entries": [{"EventId": "e-1"}, {"EventId": "e-2"}]})


def test_our_limits_are_those_of_the_service_model() -> None:
    assert MODEL.shape_for("PutPartnerEventsRequestEntryList").metadata["max"] == PARTNER.limits.max_entries == 20
    assert re.fullmatch(MODEL.shape_for("EventSourceName").metadata["pattern"], TARGET.source)
    entry: Any = MODEL.shape_for("PutPartnerEventsRequestEntry")
    assert render_partner(BATCH.deliveries[0].event, TARGET).keys() == entry.members.keys()
    states = MODEL.shape_for("EventSourceState").metadata["enum"]
    assert set(states) == {"PENDING", "ACTIVE", "DELETED"}


async def test_our_call_has_the_stock_clients_bytes(base_credentials: tuple[str, str]) -> None:
    async with Recorder.serve(OK) as server:
        async with stock(server.url, base_credentials) as client:
            entries = [render_partner(delivery.event, TARGET) for delivery in BATCH.deliveries]
            times = [{**entry, "Time": datetime.fromtimestamp(entry["Time"], UTC)} for entry in entries]
            await client.put_partner_events(Entries=times)
        async with opened(server.url) as bus:
            ours = await bus.call(BATCH)
    theirs, sent = server.requests
    assert ours == Answered((Delivered("e-1"), Delivered("e-2")), 200, "r-1")
    agree(sent, theirs, server.url, base_credentials)
    assert sent.header("x-amz-target") == "AWSEvents.PutPartnerEvents"
    assert json.loads(sent.body)["Entries"][0]["Detail"].encode() == BATCH.deliveries[0].event.value


async def test_the_check_has_the_stock_clients_bytes(base_credentials: tuple[str, str]) -> None:
    answer = replied({"PartnerEventSourceAccounts": [{"Account": "123456789012", "State": "ACTIVE"}]})
    async with Recorder.serve(answer) as server:
        async with stock(server.url, base_credentials) as client:
            await client.list_partner_event_source_accounts(EventSourceName=TARGET.source)
        async with opened(server.url) as bus:
            assert await bus.check(TARGET) == "there"
    theirs, sent = server.requests
    agree(sent, theirs, server.url, base_credentials)


def account(state: object, number: object = "123456789012") -> dict[str, object]:
    return {"Account": number, "State": state}


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (replied({"PartnerEventSourceAccounts": [account("PENDING")]}), "gone"),
        (replied({"PartnerEventSourceAccounts": [account("DELETED"), account("ACTIVE")]}), "there"),
        (replied({"PartnerEventSourceAccounts": [account("DELETED")]}), "gone"),
        (replied({"PartnerEventSourceAccounts": [account("ACTIVE", "210987654321"), 7]}), "gone"),
        (replied({"PartnerEventSourceAccounts": []}), "gone"),
        (replied({"PartnerEventSourceAccounts": [], "NextToken": "more"}), "unknown"),
        (replied({}), "unknown"),
        (replied({"__type": "ResourceNotFoundException"}, "400 Bad Request"), "gone"),
        (replied({"__type": "AccessDeniedException"}, "400 Bad Request"), "denied"),
        (replied({"__type": "OperationDisabledException"}, "400 Bad Request"), "unknown"),
        (http("200 OK", b"<html></html>"), "unknown"),
    ],
)
@pytest.mark.usefixtures("base_credentials")
async def test_a_source_is_there_when_the_account_has_made_a_bus(reply: bytes, meaning: str) -> None:
    async with Recorder.serve(reply) as server, opened(server.url) as bus:
        assert await bus.check(TARGET) == meaning


@pytest.mark.usefixtures("base_credentials")
async def test_results_are_read_as_those_of_put_events() -> None:
    failed = {"ErrorCode": "NotAuthorizedForSourceException"}
    async with Recorder.serve(replied({"Entries": [{"EventId": "e"}, failed]})) as server, opened(server.url) as bus:
        expected = (Delivered("e"), EntryResult(None, "NotAuthorizedForSourceException", None))
        assert await bus.call(BATCH) == Answered(expected, 200, "r-1")
    for count, is_read in ((20, True), (21, False)):
        reply = replied({"Entries": [{"EventId": "e"}] * count})
        async with Recorder.serve(reply) as server, opened(server.url) as bus:
            answer = await bus.call(BATCH)
        assert isinstance(answer, Answered) is is_read
        assert is_read or (isinstance(answer, CallFailed) and answer.code == UNKNOWN_RESULT)


async def test_a_region_has_one_endpoint_for_each_operation() -> None:
    async with EventBridge.open(EventBridgeSettings(), StsSettings()) as bus:
        classic, partner = await bus._endpoints.of(destination().bus), await bus._endpoints.of(TARGET.bus)
        assert isinstance(partner, PartnerEndpoint)
        assert not isinstance(classic, PartnerEndpoint | CallFailed)
        assert partner.target == classic.target
        assert partner.target.host == "events.us-east-1.amazonaws.com"
        assert bus.quota(TARGET) == bus.quota(partner_destination("other")) != bus.quota(destination())


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[EventBridge]:
    async with EventBridge.open(EventBridgeSettings(endpoint_url=url), StsSettings()) as bus:
        yield bus


@asynccontextmanager
async def stock(url: str, pair: tuple[str, str]) -> AsyncIterator[Any]:
    async with stock_session().create_client(
        "events",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=pair[0],
        aws_secret_access_key=pair[1],
        config=AioConfig(retries={"total_max_attempts": 1}),
    ) as client:
        yield client


def agree(sent: Request, theirs: Request, url: str, pair: tuple[str, str]) -> None:
    """Our request is the stock client's, and both are signed by what botocore's own signer computes."""
    assert sent.start == theirs.start
    assert json.loads(sent.body, object_pairs_hook=list) == json.loads(theirs.body, object_pairs_hook=list)
    assert comparable(sent) == comparable(theirs)
    for request in (theirs, sent):
        assert request.header("authorization") == authorization(request, url, pair)


def comparable(request: Request) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in request.headers if name.lower() not in DIFFERENT_ON_PURPOSE)


def authorization(request: Request, url: str, pair: tuple[str, str]) -> str:
    match = re.search(r"SignedHeaders=([a-z0-9;-]+)", request.header("authorization") or "")
    assert match is not None
    again = AWSRequest("POST", f"{url}/", {name: request.header(name) for name in match[1].split(";")}, request.body)
    again.context["timestamp"] = request.header("x-amz-date")
    auth = SigV4Auth(Credentials(*pair), "events", "us-east-1")
    text = auth.string_to_sign(again, auth.canonical_request(again))
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(again)}, SignedHeaders={match[1]}, "
        f"Signature={auth.signature(text, again)}"
    )
