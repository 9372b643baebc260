"""Calls to eventbridgev2 against the stock client: the same bytes on the wire, and the same reading of replies."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import botocore.session
import cbor2
import orjson
import pytest
from aiobotocore.config import AioConfig
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.outcome import BUS_NOT_FOUND, Blocked, Delivered, Refresh, Retryable, Split, Throttled
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.endpoint_v2 import EndpointV2
from pushrail_stream.eventbridge.entry_v2 import render
from pushrail_stream.eventbridge.error_codes import (
    BUS_KEY_DENIED,
    OUR_POLICY_DENIED,
    UNKNOWN_RESULT,
    Answered,
    CallFailed,
    EntryResult,
    judge,
)
from pushrail_stream.settings.eventbridge import V2, AccessKey
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch_of, value
from tests.support.builders import destination, v2_bus_arn
from tests.support.recording_server import Recorder, Request, http
from tests.support.stock_client import stock_session

ACCESS_KEY, SECRET = "AKIACUSTOMER00000000", "customer/secret+1"
ARN = v2_bus_arn("acme")
MODEL = botocore.session.get_session().get_service_model("eventbridgev2")
TARGET = destination(type="EVENTBRIDGE_V2", bus=ARN, auth=AccessKey(ACCESS_KEY, Secret(SECRET)))
BATCH = batch_of(TARGET, [value(1, note="Zoë ordered 2 🍣 \u2028\x7f"), value(2)])
DIFFERENT_ON_PURPOSE = {
    "x-amz-date": "two calls, two times",
    "authorization": "recomputed below",
    "user-agent": "ours is fixed per process; stock writes one per call",
    "amz-sdk-invocation-id": "names stock's retries, of which we make none",
    "amz-sdk-request": "counts stock's retries, of which we make none",
}


def cbor(status: str, fields: Any, *headers: str) -> bytes:
    return http(status, cbor2.dumps(fields), "x-amzn-RequestId: r-1", "Content-Type: application/cbor", *headers)


def results(*entries: Any) -> bytes:
    return cbor("200 OK", {"FailedEntryCount": 0, "Entries": list(entries)})


PUBLISHED = {"EventId": "e-1", "SuccessCode": "PUBLISHED", "SequenceNumber": "17"}
OK = results(PUBLISHED, {**PUBLISHED, "EventId": "e-2"})


def refused(status: str, code: str, message: str = "why", *headers: str) -> bytes:
    return cbor(status, {"__type": code, "Message": message}, *headers)


def test_our_limits_are_those_of_the_service_model() -> None:
    assert MODEL.shape_for("PutEventsRequestEntryList").metadata["max"] == V2.limits.max_entries
    assert re.fullmatch(MODEL.shape_for("EventBusArn").metadata["pattern"], V2.check_arn(ARN))
    assert set(MODEL.shape_for("SuccessCode").metadata["enum"]) == {"PUBLISHED", "DEDUPLICATED"}
    assert MODEL.resolved_protocol == "smithy-rpc-v2-cbor"
    assert MODEL.signing_name == "events"


async def test_our_call_has_the_stock_clients_bytes() -> None:
    async with Recorder.serve(OK) as server:
        await put_by_stock(server.url)
        ours = await put_by_us(server.url)
    stock, sent = server.requests
    assert ours == Answered((Delivered("e-1"), Delivered("e-2")), 200, "r-1")
    assert sent.start == stock.start == "POST /service/AWSEventsV2/operation/PutEvents HTTP/1.1"
    assert sent.body == stock.body
    assert comparable(sent) == comparable(stock)
    assert names(stock) - names(sent) <= {"amz-sdk-invocation-id", "amz-sdk-request"}
    assert names(sent) <= names(stock)
    for request in (stock, sent):
        assert request.header("authorization") == authorization(request, server.url)


async def test_the_detail_is_sent_byte_for_byte() -> None:
    raw = value(1, note="é").replace(b'"payload":', b'"payload" :  ')
    async with Recorder.serve(OK) as server, opened(server.url) as bus:
        await bus.call(batch_of(TARGET, [raw]))
    (entry,) = cbor2.loads(server.requests[0].body)["Entries"]
    assert entry["Detail"].encode() == raw
    assert entry["SystemMetadata"] == {"DeduplicationId": "key-1"}


async def test_a_session_signs_with_its_token() -> None:
    from pushrail_stream.eventbridge.signing import Keys, SigV4Clock  # noqa: PLC0415 - used here alone

    async with Recorder.serve(OK) as server, opened(server.url) as bus:
        endpoint = await bus._endpoints.of(TARGET.bus)
        assert isinstance(endpoint, EndpointV2)
        keys = Keys(ACCESS_KEY, Secret(SECRET), Secret("t0KeN/" * 140))
        events = [delivery.event for delivery in BATCH.deliveries]
        now = SigV4Clock(lambda: datetime.now(UTC)).read()[1]
        await endpoint.put_events(TARGET, events, endpoint.signer(keys), now)
        (request,) = server.requests
        assert request.header("authorization") == authorization(request, server.url, "t0KeN/" * 140)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "123456789012.eventsv2.us-east-1.amazonaws.com"),
        ("cn-north-1", "123456789012.eventsv2.cn-north-1.amazonaws.com.cn"),
    ],
)
async def test_each_account_has_its_own_endpoint(region: str, host: str) -> None:
    """No call is made: the endpoint was opened for this address."""
    arn = ARN.replace("us-east-1", region)
    async with opened(None) as bus:
        endpoint = await bus._endpoints.of(destination(type="EVENTBRIDGE_V2", bus=arn, region=region).bus)
        assert isinstance(endpoint, EndpointV2)
        assert endpoint.target[:3] == (region, host, "/service/AWSEventsV2/operation/PutEvents")
        again = await bus._endpoints.of(destination(type="EVENTBRIDGE_V2", bus=f"{arn[:-1]}x", region=region).bus)
        assert again is endpoint


async def test_an_endpoint_of_its_own_may_be_set() -> None:
    options = EventBridgeSettings(endpoint_url="http://classic", v2_endpoint_url="http://v2.{region}/vpc")
    async with EventBridge.open(options, StsSettings()) as bus:
        endpoint = await bus._endpoints.of(TARGET.bus)
        assert isinstance(endpoint, EndpointV2)
        assert endpoint.target[1:3] == ("v2.us-east-1", "/vpc/service/AWSEventsV2/operation/PutEvents")


REFUSALS = {
    "plain code": refused("429 Too Many Requests", "ThrottlingException"),
    "code with a namespace": refused("403 Forbidden", "com.amazonaws.eventbridgev2#AccessDeniedException"),
    "no bus": refused("404 Not Found", "ResourceNotFoundException"),
    "a bus being made": refused("409 Conflict", "InvalidStateException"),
    "invalid": refused("400 Bad Request", "InvalidInputException"),
    "500": refused("500 Internal Server Error", "InternalException"),
    "503 empty": http("503 Service Unavailable"),
    "413 empty": http("413 Payload Too Large"),
    "404 empty": http("404 Not Found"),
}


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS)
async def test_codes_are_those_of_the_stock_client(reply: bytes) -> None:
    async with Recorder.serve(reply) as server:
        ours = await put_by_us(server.url)
        if b"\xa2" not in reply:
            assert isinstance(ours, CallFailed)
            assert ours.code == str(ours.http_status)  # without a body the stock parser raises an AttributeError
            return
        stock = await put_by_stock(server.url)
    assert isinstance(ours, CallFailed)
    assert isinstance(stock, ClientError)
    code = stock.response["Error"]["Code"]
    assert ours.code == (BUS_NOT_FOUND if code == "ResourceNotFoundException" else code)
    assert ours.message == stock.response["Error"]["Message"]
    assert ours.http_status == stock.response["ResponseMetadata"]["HTTPStatusCode"]
    assert ours.request_id == "r-1"


@pytest.mark.parametrize(
    "reply",
    [
        http("403 Forbidden", b'{"__type":"AccessDeniedException","message":"why"}'),
        http("403 Forbidden", b"", "x-amzn-ErrorType: AccessDeniedException"),
        cbor("403 Forbidden", {}, "x-amzn-ErrorType: AccessDeniedException"),
    ],
    ids=["JSON of a front end", "header", "header beside an empty body"],
)
async def test_the_code_may_stand_elsewhere(reply: bytes) -> None:
    async with Recorder.serve(reply) as server:
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert ours.code == "AccessDeniedException"


RESULTS: dict[str, tuple[Any, Delivered | EntryResult]] = {
    "published": (PUBLISHED, Delivered("e-1")),
    "repeated": ({"EventId": "e-1", "SuccessCode": "DEDUPLICATED"}, Delivered("e-1", is_repeat=True)),
    "repeated without an id": ({"SuccessCode": "DEDUPLICATED"}, Delivered("", is_repeat=True)),
    "failed": (
        {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow"},
        EntryResult("", "ThrottlingException", "slow"),
    ),
    "failed in spite of an id": ({**PUBLISHED, "ErrorCode": "X"}, EntryResult("e-1", "X", None)),
    "unknown success": ({"SuccessCode": "MAYBE"}, EntryResult("", None, None)),
    "unknown success with an id": ({"SuccessCode": "MAYBE", "EventId": "e"}, EntryResult("e", None, None)),
    "nothing": ({}, EntryResult("", None, None)),
    "no map": (7, EntryResult(None, None, None)),
    "no text": ({"EventId": 7, "SuccessCode": "PUBLISHED"}, Delivered("")),
}


@pytest.mark.parametrize(("result", "meaning"), RESULTS.values(), ids=RESULTS)
async def test_each_result_of_an_entry(result: Any, meaning: Delivered | EntryResult) -> None:
    async with Recorder.serve(results(result, PUBLISHED)) as server:
        assert await put_by_us(server.url) == Answered((meaning, Delivered("e-1")), 200, "r-1")


@pytest.mark.parametrize(
    "reply",
    [
        http("200 OK"),
        http("200 OK", b"<html></html>"),
        cbor("200 OK", {}),
        cbor("200 OK", [1]),
        results(*[PUBLISHED] * 101),
    ],
)
async def test_a_200_without_results_is_no_success(reply: bytes) -> None:
    async with Recorder.serve(reply) as server:
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert ours.code == UNKNOWN_RESULT


KMS = "KMS_ACCESS_DENIED: The caller is not authorized to perform kms:Decrypt on the event bus's key"
OUR_SESSION = "not authorized to perform: kms:Decrypt because no session policy allows the kms:Decrypt action"
MEANINGS: dict[str, tuple[tuple[int, str, str], Any]] = {
    "missing bus": ((404, BUS_NOT_FOUND, "gone"), Blocked(BUS_NOT_FOUND, "gone")),
    "bus being made": ((409, "InvalidStateException", "wait"), Retryable("InvalidStateException", "wait")),
    "throttled": ((429, "ThrottlingException", "slow"), Throttled("ThrottlingException", "slow")),
    "internal": ((500, "InternalException", "oops"), Retryable("InternalException", "oops")),
    "invalid": ((400, "InvalidInputException", "bad"), Split("InvalidInputException", "bad")),
    "denied": ((403, "AccessDeniedException", "no"), Refresh("AccessDeniedException", "no")),
    "denied key": ((403, "AccessDeniedException", KMS), Blocked(BUS_KEY_DENIED, KMS)),
    "our session's policy": (
        (403, "AccessDeniedException", OUR_SESSION),
        Retryable(OUR_POLICY_DENIED, OUR_SESSION, is_our_fault=True),
    ),
}


@pytest.mark.parametrize(("failure", "meaning"), MEANINGS.values(), ids=MEANINGS)
def test_the_meaning_of_a_refused_call(failure: tuple[int, str, str], meaning: Any) -> None:
    status, code, message = failure
    verdict = judge(CallFailed("PutEvents", code, message, status), 2, assumed_role=True, refreshed=False)
    assert verdict == (meaning if isinstance(meaning, Split | Refresh) else (meaning, meaning))


def test_the_key_of_a_bus_may_be_denied_for_an_entry() -> None:
    denied = Answered((EntryResult(None, "AccessDeniedException", KMS),) * 2, 200, None)
    verdict = judge(denied, 2, assumed_role=True, refreshed=False)
    assert verdict == (Blocked(BUS_KEY_DENIED, KMS),) * 2, "no new session is asked for"


@pytest.mark.parametrize("message", ["no", KMS])
def test_a_denied_entry_leaves_its_neighbours(message: str) -> None:
    """They are delivered, and no new session is asked for: the present one may write to the bus."""
    denied = EntryResult(None, "AccessDeniedException", message)
    first, *others = judge(Answered((denied, *[Delivered("e")] * 2), 200, None), 3, assumed_role=True, refreshed=False)
    assert isinstance(first, Blocked)
    assert others == [Delivered("e")] * 2


async def test_no_call_is_needed_to_know_of_a_missing_bus() -> None:
    async with Recorder.serve(OK) as server, opened(server.url) as bus:
        assert await bus.check(TARGET) == "there"
        assert bus.quota(TARGET) == ARN
    assert server.requests == []


bodies = st.one_of(
    st.binary(max_size=100),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Entries", "__type"]), inner),
        max_leaves=5,
    ).map(cbor2.dumps),
    st.builds(lambda tag, content: cbor2.dumps(cbor2.CBORTag(tag, content)), st.integers(0, 300), st.text(max_size=5)),
    st.just(b"\x9f" * 5000),
    st.just(orjson.dumps({"__type": "X"})),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=bodies, status=st.sampled_from(["200 OK", "400 Bad Request", "500 Oops"]))
async def test_no_body_makes_the_port_raise(body: bytes, status: str) -> None:
    async with Recorder.serve(http(status, body), closes=True) as server:
        assert isinstance(await put_by_us(server.url), Answered | CallFailed)


@asynccontextmanager
async def opened(url: str | None) -> AsyncIterator[EventBridge]:
    async with EventBridge.open(EventBridgeSettings(endpoint_url=url), StsSettings()) as bus:
        yield bus


async def put_by_us(url: str) -> Answered | CallFailed:
    async with opened(url) as bus:
        return await bus.call(BATCH)


async def put_by_stock(url: str) -> Any:
    entries: list[Any] = []
    for delivery in BATCH.deliveries:
        entry = render(delivery.event, TARGET)
        entries.append({**entry, "Time": datetime.fromtimestamp(entry["Time"].value, UTC)})
    async with stock_session().create_client(
        "eventbridgev2",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        config=AioConfig(retries={"total_max_attempts": 1}),
    ) as client:
        try:
            return await client.put_events(EventBusArn=ARN, Entries=entries)
        except ClientError as error:
            return error


def names(request: Request) -> set[str]:
    return {name.lower() for name, _ in request.headers}


def comparable(request: Request) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in request.headers if name.lower() not in DIFFERENT_ON_PURPOSE)


def authorization(request: Request, url: str, token: str | None = None) -> str:
    """The header botocore's own signer computes for what arrived."""
    given_header = request.header("authorization")
    assert given_header is not None
    match = re.search(r"SignedHeaders=([a-z0-9;-]+)", given_header)
    assert match is not None
    signed = match[1].split(";")
    assert {"accept", "content-type", "host", "smithy-protocol", "x-amz-date"} <= set(signed)
    assert ("x-amz-security-token" in signed) == (token is not None)
    path = request.start.split(" ")[1]
    again = AWSRequest("POST", url + path, {name: request.header(name) for name in signed}, request.body)
    again.context["timestamp"] = request.header("x-amz-date")
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET, token), "events", "us-east-1")
    text = auth.string_to_sign(again, auth.canonical_request(again))
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(again)}, SignedHeaders={match[1]}, "
        f"Signature={auth.signature(text, again)}"
    )
