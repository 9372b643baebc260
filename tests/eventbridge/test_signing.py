"""The hot path against the stock client: the same call on the wire in every proven version."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import orjson
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Secret
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.eventbridge import signing
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.endpoint import Endpoint
from pushrail_stream.eventbridge.error_codes import Answered
from pushrail_stream.eventbridge.http import StockClients
from pushrail_stream.eventbridge.signing import Keys
from pushrail_stream.settings.eventbridge import AccessKey
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch_of, render_batch, value
from tests.support.builders import destination
from tests.support.recording_server import Recorder, Request, http
from tests.support.stock_client import stock_session

PROVEN_WITH = {"aiobotocore": "3.10", "botocore": "1.43", "aiohttp": "3.14"}
ACCESS_KEY, SECRET = "AKIACUSTOMER00000000", "customer/secret+1"
TOKEN = "FwoGZXIvYXdzEBYaD/" * 40
OK = http("200 OK", b'{"FailedEntryCount":0,"Entries":[{"EventId":"e-1"},{"EventId":"e-2"}]}', "x-amzn-RequestId: r-1")
TRACEPARENT = b"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"

DIFFERENT_ON_PURPOSE = {
    "x-amz-date": "two calls, two times",
    "authorization": "recomputed below",
    "user-agent": "ours is fixed per process; stock writes one per call",
    "content-length": "orjson writes UTF-8 without spaces; the bodies are compared as parsed",
    "amz-sdk-invocation-id": "names stock's retries, of which we make none",
    "amz-sdk-request": "counts stock's retries, of which we make none",
}


@pytest.mark.parametrize("library", PROVEN_WITH)
def test_the_hot_paths_libraries_are_proven(library: str) -> None:
    installed = ".".join(version(library).split(".")[:2])
    assert installed == PROVEN_WITH[library], (
        f"{library} {version(library)} is installed; eventbridge/endpoint.py was proven with {PROVEN_WITH[library]}. "
        "Run all of tests/eventbridge and its benchmark, check the private names that the heads of endpoint.py, "
        "http.py and proxied.py list, and then change PROVEN_WITH."
    )


async def test_the_hot_paths_private_names_exist() -> None:
    async with stock_session().create_client("events", region_name="eu-west-1") as client:
        model = client.meta.service_model
        session = client._endpoint.http_session  # type: ignore[attr-defined]
        assert type(session) is AIOHTTPSession
        assert client.meta.endpoint_url == "https://events.eu-west-1.amazonaws.com"
        assert model.resolved_protocol == "json"
        assert model.signing_name == "events"
        assert f"application/x-amz-json-{model.metadata['jsonVersion']}" == signing.CONTENT_TYPE
        assert model.metadata["targetPrefix"] == signing.TARGET_PREFIX
        assert model.operation_model("PutEvents").http == {"method": "POST", "requestUri": "/"}


@pytest.mark.parametrize("token", [None, TOKEN], ids=["access key", "session"])
@pytest.mark.parametrize("headers", [(), (("traceparent", TRACEPARENT),)], ids=["untraced", "traced"])
@pytest.mark.parametrize("note", ["plain", "Zoë ordered 2 🍣 \u2028\x7f"], ids=["ascii", "unicode"])
async def test_our_call_equals_the_stock_clients(token: str | None, headers: Any, note: str) -> None:
    target = destination(auth=AccessKey(ACCESS_KEY, Secret(SECRET)))
    batch = batch_of(target, [value(1, note=note), value(2, note=note)], headers)
    async with Recorder.serve(OK) as server:
        await _put_by_stock(server.url, batch, token)
        await _put_by_us(server.url, batch, token)
    stock, ours = server.requests
    assert ours.start == stock.start == "POST / HTTP/1.1"
    assert orjson.loads(ours.body) == orjson.loads(stock.body)
    assert ("TraceHeader" in orjson.loads(ours.body)["Entries"][0]) == bool(headers)
    assert _comparable(ours) == _comparable(stock)
    assert _names(stock) - _names(ours) <= {"amz-sdk-invocation-id", "amz-sdk-request"}
    assert _names(ours) <= _names(stock)
    for request in (stock, ours):
        assert request.header("x-amz-security-token") == token
        assert request.header("authorization") == _authorization(request, server.url, token)


async def test_detail_is_sent_byte_for_byte() -> None:
    target = destination(auth=AccessKey(ACCESS_KEY, Secret(SECRET)))
    raw = value(1, note="é").replace(b'"payload":', b'"payload" :  ')
    async with Recorder.serve(OK) as server:
        await _put_by_us(server.url, batch_of(target, [raw]), None)
    assert orjson.loads(server.requests[0].body)["Entries"][0]["Detail"].encode() == raw


async def test_a_body_longer_than_a_mebibyte() -> None:
    target = destination(auth=AccessKey(ACCESS_KEY, Secret(SECRET)))
    # Each quote in Detail takes two bytes on the wire.
    batch = batch_of(target, [value(1, note='"' * 220_000), value(2, note='"' * 220_000)])
    async with Recorder.serve(OK) as server:
        await _put_by_us(server.url, batch, None)
    assert len(server.requests[0].body) > 1 << 20
    assert server.requests[0].header("authorization") == _authorization(server.requests[0], server.url, None)


@pytest.mark.parametrize("path", ["", "/", "/vpc/bus", "/vpc/bus/", "/a%20b~c"])
async def test_an_endpoint_with_a_path_is_signed_with_it(path: str) -> None:
    target = destination(auth=AccessKey(ACCESS_KEY, Secret(SECRET)))
    async with Recorder.serve(OK) as server:
        url = server.url + path
        await _put_by_stock(url, batch_of(target, [value(1)]), None)
        await _put_by_us(url, batch_of(target, [value(1)]), None)
    stock, ours = server.requests
    assert ours.start == stock.start
    assert stock.header("authorization") == _authorization(stock, server.url, None)
    assert ours.header("authorization") == _authorization(ours, server.url, None)


async def test_the_signing_key_changes_with_the_day() -> None:
    days = [datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)]
    now = days[0]
    batch = batch_of(destination(auth=AccessKey(ACCESS_KEY, Secret(SECRET))), [value(1)])
    async with Recorder.serve(OK) as server:
        options = EventBridgeSettings(endpoint_url=server.url)
        async with EventBridge.open(options, StsSettings(), now=lambda: now) as bus:
            await bus.call(batch)
            now = days[1]
            await bus.call(batch)
    assert [request.header("x-amz-date") for request in server.requests] == ["20261231T235959Z", "20270101T000000Z"]
    for request in server.requests:
        assert request.header("authorization") == _authorization(request, server.url, None)


async def test_each_region_has_its_own_signature() -> None:
    async with (
        Recorder.serve(OK) as server,
        EventBridge.open(EventBridgeSettings(endpoint_url=server.url), StsSettings()) as bus,
    ):
        auth = AccessKey(ACCESS_KEY, Secret(SECRET))
        for region in ("us-east-1", "eu-central-1"):
            await bus.call(batch_of(destination(auth=auth, region=region), [value(1)]))
    for request, region in zip(server.requests, ("us-east-1", "eu-central-1"), strict=True):
        assert request.header("authorization") == _authorization(request, server.url, None, region)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-north-1", "events.eu-north-1.amazonaws.com"),
        ("cn-north-1", "events.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "events.us-gov-west-1.amazonaws.com"),
    ],
)
async def test_each_partition_has_its_own_endpoint(region: str, host: str) -> None:
    """No call is made: the endpoint was opened for this address."""
    async with EventBridge.open(EventBridgeSettings(), StsSettings()) as us:
        endpoint = await us._endpoints.of(destination(region=region).bus)
        assert isinstance(endpoint, Endpoint)
        assert (endpoint.target.host, endpoint.target.region) == (host, region)


async def test_an_endpoint_may_differ_by_region() -> None:
    async with EventBridge.open(
        EventBridgeSettings(endpoint_url="https://events.{region}.example.com"), StsSettings()
    ) as us:
        for region in ("eu-north-1", "us-east-1"):
            endpoint = await us._endpoints.of(destination(region=region).bus)
            assert isinstance(endpoint, Endpoint)
            assert (endpoint.target.host, endpoint.target.region) == (f"events.{region}.example.com", region)


def test_secrets_do_not_show() -> None:
    keys = Keys(ACCESS_KEY, Secret(SECRET), Secret(TOKEN))
    assert SECRET not in repr(keys)
    assert TOKEN not in repr(keys)


async def _put_by_us(url: str, batch: Batch, token: str | None) -> None:
    async with AsyncExitStack() as stack:
        clients = StockClients(stack, EventBridgeSettings())
        client = await clients.open("events", "us-east-1", url)
        endpoint = await Endpoint.of(client, clients)
        keys = Keys(ACCESS_KEY, Secret(SECRET), None if token is None else Secret(token))
        stamp = signing.SigV4Clock(lambda: datetime.now(UTC)).read()[1]
        events = [delivery.event for delivery in batch.deliveries]
        reply = await endpoint.put_events(batch.destination, events, endpoint.signer(keys), stamp)
    results = (Delivered("e-1"), Delivered("e-2"))
    assert reply == Answered(results, 200, "r-1")


async def _put_by_stock(url: str, batch: Batch, token: str | None) -> None:
    entries: list[Any] = [
        {**entry, "Time": datetime.fromtimestamp(entry["Time"], UTC)} for entry in render_batch(batch)
    ]
    async with stock_session().create_client(
        "events",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        aws_session_token=token,
        config=AioConfig(retries={"total_max_attempts": 1}),
    ) as client:
        reply = await client.put_events(Entries=entries)
    assert [entry.get("EventId") for entry in reply["Entries"]] == ["e-1", "e-2"]


def _names(request: Request) -> set[str]:
    return {name.lower() for name, _ in request.headers}


def _comparable(request: Request) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in request.headers if name.lower() not in DIFFERENT_ON_PURPOSE)


def _authorization(request: Request, url: str, token: str | None, region: str = "us-east-1") -> str:
    """The header botocore's own signer computes for what arrived."""
    given = request.header("authorization")
    assert given is not None
    match = re.search(r"SignedHeaders=([a-z0-9;-]+)", given)
    assert match is not None
    signed = match[1].split(";")
    must = {"content-type", "host", "x-amz-date", "x-amz-target"} | ({"x-amz-security-token"} if token else set())
    assert must <= set(signed)
    path = request.start.split(" ")[1]
    again = AWSRequest("POST", url + path, {name: request.header(name) for name in signed}, request.body)
    again.context["timestamp"] = request.header("x-amz-date")
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET, token), "events", region)
    text = auth.string_to_sign(again, auth.canonical_request(again))
    scope = auth.scope(again)
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={match[1]}, Signature={auth.signature(text, again)}"
