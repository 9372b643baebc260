"""Errors of AWS, proxies and networks: they have the stock client's codes and never count as success."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import (
    AWS_SETTINGS_UNUSABLE,
    UNKNOWN_RESULT,
    Answered,
    CallFailed,
    CallReply,
    EntryResult,
    judge,
)
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from pushrail_stream.settings.eventbridge import AccessKey
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch, render_batch
from tests.support.builders import destination
from tests.support.recording_server import CLOSE, NEVER, RESET, Recorder, http
from tests.support.stock_client import stock_session

PATIENT_SECS = 20.0
"""For replies that come, however busy the machine is."""
IN_VAIN_SECS = 0.5
"""For those that never do."""
TARGET = destination(auth=AccessKey("AKIACUSTOMER00000000", Secret("customer-secret")))
HTML = b"<html><body><b>Http/1.1 Service Unavailable</b></body></html>"


def aws(status: str, code: str, message: str = "why", key: str = "message") -> bytes:
    return http(status, f'{{"__type":"{code}","{key}":"{message}"}}'.encode(), "x-amzn-RequestId: r-1")


REFUSALS = {
    "plain code": aws("400 Bad Request", "ThrottlingException"),
    "code with a namespace": aws("400 Bad Request", "com.amazonaws.events#AccessDeniedException"),
    "code with a URL": aws("400 Bad Request", "ValidationException:http://internal.amazon.com/coral/"),
    "capital Message": aws("400 Bad Request", "UnrecognizedClientException", key="Message"),
    "403 with JSON": aws("403 Forbidden", "AccessDeniedException"),
    "403 empty": http("403 Forbidden"),
    "403 HTML": http("403 Forbidden", HTML, "Content-Type: text/html"),
    "413 with JSON": aws("413 Payload Too Large", "RequestEntityTooLarge"),
    "413 empty": http("413 Payload Too Large"),
    "429 with JSON": aws("429 Too Many Requests", "TooManyRequestsException"),
    "429 empty": http("429 Too Many Requests"),
    "429 text": http("429 Too Many Requests", b"slow down"),
    "500 with JSON": aws("500 Internal Server Error", "com.amazonaws.events#InternalException"),
    "500 empty": http("500 Internal Server Error"),
    "500 HTML": http("500 Internal Server Error", HTML),
    "502 HTML with attributes": http("502 Bad Gateway", b'<!DOCTYPE html><html lang="en"></html>'),
    "503 with JSON": aws("503 Service Unavailable", "ServiceUnavailable"),
    "503 empty": http("503 Service Unavailable"),
    "504 spaces": http("504 Gateway Timeout", b"  \r\n"),
    "truncated JSON": http("400 Bad Request", b'{"__type":"Thrott'),
    "query error header": http(
        "400 Bad Request", b'{"__type":"A#B","message":"m"}', "x-amzn-query-error: ThrottlingException;Sender"
    ),
    "301 without location": http("301 Moved Permanently"),
}


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS)
async def test_codes_are_those_of_the_stock_client(reply: bytes) -> None:
    async with Recorder.serve(reply) as server:
        stock = await put_by_stock(server.url)
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert isinstance(stock, ClientError)
    status = stock.response["ResponseMetadata"]["HTTPStatusCode"]
    request_id = stock.response["ResponseMetadata"].get("RequestId")
    error = stock.response["Error"]
    assert ours._replace(message="") == CallFailed("PutEvents", error["Code"], "", status, request_id)
    if b'"__type"' in reply:
        assert ours.message == (error["Message"] or "")
    assert len(server.requests) == 2, "no call is repeated"


CODE_ELSEWHERE = {
    "header": http("400 Bad Request", b"{}", "x-amzn-ErrorType: ThrottlingException"),
    "header without a body": http("400 Bad Request", b"", "x-amzn-ErrorType: ThrottlingException"),
    "header with a URL": http("400 Bad Request", b"", "X-Amzn-Errortype: ThrottlingException:http://internal/coral/"),
    "code": http("400 Bad Request", b'{"code":"ThrottlingException"}'),
    "Code": http("400 Bad Request", b'{"Code":"com.amazonaws.events#ThrottlingException"}'),
    "header beside a type that is none": http(
        "400 Bad Request", b'{"__type":7}', "x-amzn-ErrorType: ThrottlingException"
    ),
    "type before the header": aws("400 Bad Request", "ThrottlingException").replace(
        b"x-amzn-RequestId: r-1", b"x-amzn-ErrorType: ValidationException"
    ),
}


@pytest.mark.parametrize("reply", CODE_ELSEWHERE.values(), ids=CODE_ELSEWHERE)
async def test_the_code_comes_from_the_type_first(reply: bytes) -> None:
    async with Recorder.serve(reply) as server:
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == ("ThrottlingException", 400)


# The reply, our code, and the stock client's error. Stock calls a reset an EndpointConnectionError, like a refused
# connection; ours tells the two apart, because after a reset the call may have been carried out.
NETWORK = {
    "closed": (CLOSE, "ConnectionClosed", "ConnectionClosedError"),
    "reset": (RESET, "ConnectionClosed", "EndpointConnectionError"),
    "closed within the reply": (http("200 OK", b'{"Ent', length=500), "ConnectionClosed", "ConnectionClosedError"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "ConnectionClosed", "HTTPClientError"),
    "no reply": (NEVER, "ReadTimeout", "ReadTimeoutError"),
}


@pytest.mark.parametrize(("reply", "code", "stock_raises"), NETWORK.values(), ids=NETWORK)
async def test_a_call_without_a_reply(reply: bytes | None, code: str, stock_raises: str) -> None:
    async with Recorder.serve(reply, closes=True) as server:
        read_secs = IN_VAIN_SECS if reply is NEVER else PATIENT_SECS
        stock = await put_by_stock(server.url, read_secs=read_secs)
        ours = await put_by_us(server.url, read_secs=read_secs)
    assert isinstance(ours, CallFailed)
    assert (ours.operation, ours.code, ours.http_status) == ("PutEvents", code, None)
    assert type(stock).__name__ == stock_raises


async def test_half_a_reply() -> None:
    async with Recorder.serve(http("200 OK", b'{"Ent', length=500)) as server:
        ours = await put_by_us(server.url, read_secs=IN_VAIN_SECS)
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == ("ReadTimeout", None)


async def test_an_address_without_a_listener() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        stock, ours = await put_by_stock(url), await put_by_us(url)
    assert type(stock).__name__ == "EndpointConnectionError"
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == ("ConnectionFailed", None)


async def test_a_name_that_does_not_resolve() -> None:
    url = "http://bus.invalid"
    stock, ours = await put_by_stock(url), await put_by_us(url)
    assert type(stock).__name__ == "EndpointConnectionError"
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == ("DnsFailed", None)


async def test_a_connection_that_is_not_accepted() -> None:
    async with full_backlog() as url:
        stock = await put_by_stock(url, connect_secs=IN_VAIN_SECS)
        ours = await put_by_us(url, connect_secs=IN_VAIN_SECS)
    assert type(stock).__name__ == "ConnectTimeoutError"
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == ("ConnectTimeout", None)


async def test_tls_is_verified_with_the_ca_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with FaultBus.serve(BusConfig(tls=True, open=True, ca_path=tmp_path / "ca.pem")) as server:
        untrusted = await put_by_us(server.url)
        assert isinstance(untrusted, CallFailed)
        assert (untrusted.code, untrusted.http_status) == ("TlsFailed", None)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        assert isinstance(await put_by_us(server.url), Answered)


async def test_a_missing_ca_bundle_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    ours = await put_by_us("https://127.0.0.1:1")
    assert isinstance(ours, CallFailed)
    assert (ours.operation, ours.code, ours.http_status) == ("Credentials", AWS_SETTINGS_UNUSABLE, None)


async def test_a_dripping_reply_ends_in_time() -> None:
    body = b'{"Entries":[' + b" " * 100_000
    async with Recorder.serve(http("200 OK", body), drip_secs=0.01) as server:
        async with asyncio.timeout(PATIENT_SECS):
            ours = await put_by_us(server.url, connect_secs=1, read_secs=1)
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == ("ReadTimeout", None)


UNUSABLE = {
    "empty": b"",
    "object": b"{}",
    "HTML": HTML,
    "truncated": b'{"Entries":[{"EventId":"e-1"}',
    "array": b"[]",
    "null": b"null",
    "entries is an object": b'{"Entries":{}}',
    "no UTF-8": b'{"Entries":"\xff"}',
}


@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_200_without_results_is_a_failure(body: bytes) -> None:
    async with Recorder.serve(http("200 OK", body, "x-amzn-RequestId: r-1")) as server:
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert (ours.operation, ours.code, ours.http_status, ours.request_id) == ("PutEvents", UNKNOWN_RESULT, 200, "r-1")


@pytest.mark.parametrize("status", ["201 Created", "204 No Content", "300 Multiple Choices"])
async def test_another_2xx_status_is_a_failure(status: str) -> None:
    async with Recorder.serve(http(status)) as server:
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == (UNKNOWN_RESULT, int(status[:3]))


ODD_ENTRIES = {
    "fewer than sent": (b'[{"EventId":"e-1"}]', [Delivered("e-1")]),
    "one failed": (
        b'[{"EventId":"e-1"},{"ErrorCode":"InternalFailure","ErrorMessage":"later"}]',
        [Delivered("e-1"), EntryResult(None, "InternalFailure", "later")],
    ),
    "neither": (b'[{},{"EventId":null}]', [EntryResult(None, None, None)] * 2),
    "a code without a message": (
        b'[{"ErrorCode":"MalformedDetail"},{"ErrorCode":"InternalFailure"}]',
        [EntryResult(None, "MalformedDetail", None), EntryResult(None, "InternalFailure", None)],
    ),
    "a code that is no code": (
        b'[{"EventId":"e-1","ErrorCode":7},{"EventId":"e-2","ErrorCode":"no code","ErrorMessage":"m"}]',
        [EntryResult("e-1", UNKNOWN_RESULT, None), EntryResult("e-2", UNKNOWN_RESULT, "m")],
    ),
    "other types": (b'[7,{"EventId":7,"ErrorCode":""}]', [EntryResult(None, None, None)] * 2),
}


@pytest.mark.parametrize(("entries", "expected"), ODD_ENTRIES.values(), ids=ODD_ENTRIES)
async def test_entries_are_handed_on_as_they_came(entries: bytes, expected: list[Delivered | EntryResult]) -> None:
    async with Recorder.serve(http("200 OK", b'{"Entries":' + entries + b"}")) as server:
        ours = await put_by_us(server.url)
    assert ours == Answered(tuple(expected), 200, None)
    outcomes = judge(ours, 2, assumed_role=False, refreshed=False)
    assert isinstance(outcomes, tuple)
    assert any(isinstance(outcome, Retryable) for outcome in outcomes)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_hands_nothing_to_another_host(status: str) -> None:
    ok = http("200 OK", b'{"FailedEntryCount":0,"Entries":[{"EventId":"e-1"},{"EventId":"e-2"}]}')
    async with (
        Recorder.serve(ok) as elsewhere,
        Recorder.serve(http(status, b"", f"Location: {elsewhere.url}/")) as server,
    ):
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert (ours.code, ours.http_status) == (status[:3], int(status[:3]))
    assert elsewhere.connections == 0


async def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    ok = http("200 OK", b'{"FailedEntryCount":0,"Entries":[{"EventId":"e-1"},{"EventId":"e-2"}]}')
    async with Recorder.serve(ok) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:proxy-password@"))
        await put_by_stock("http://bus.invalid")
        assert isinstance(await put_by_us("http://bus.invalid"), Answered)
    stock, ours = proxy.requests
    assert ours.start == stock.start
    for name in ("Host", "Proxy-Authorization"):
        assert ours.header(name) == stock.header(name)
    assert ours.header("Host") == "bus.invalid"


async def test_a_failing_proxy_hides_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Recorder.serve(http("407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:proxy-password@"))
        refused = await put_by_us("https://bus.invalid")
    gone = await put_by_us("https://bus.invalid")
    for ours in (refused, gone):
        assert isinstance(ours, CallFailed)
        assert (ours.code, ours.http_status) == ("ProxyFailed", None)
        assert "proxy-password" not in ours.message


async def test_unreadable_bodies_do_not_raise() -> None:
    for body in (b"[1]", b'"text"', b'{"__type":7}', b"\xff\xfe", b'{"message":{"a":1}}', b"null"):
        async with Recorder.serve(http("400 Bad Request", body)) as server:
            ours = await put_by_us(server.url)
        assert isinstance(ours, CallFailed), body
        assert (ours.code, ours.http_status) == ("400", 400), body


async def test_messages_hold_no_secrets() -> None:
    text = "Credential=AKIACUSTOMER00000000/20261101 Signature=" + "ab" * 32
    async with Recorder.serve(aws("403 Forbidden", "InvalidSignatureException", text)) as server:
        ours = await put_by_us(server.url)
    assert isinstance(ours, CallFailed)
    assert "CUSTOMER00000000" not in ours.message
    assert "ab" * 32 not in ours.message


async def test_an_impossible_region_is_a_failure() -> None:
    async with EventBridge.open(EventBridgeSettings(), StsSettings()) as bus:
        ours = await bus.call(batch(destination(auth=AccessKey("AKIA", Secret("s")), region="no region")))
    assert isinstance(ours, CallFailed)
    assert (ours.operation, ours.http_status) == ("PutEvents", None)


async def test_a_cancelled_call_stays_cancelled() -> None:
    async with Recorder.serve(NEVER) as server, opened(server.url) as bus:
        call = asyncio.current_task()
        assert call is not None
        asyncio.get_running_loop().call_later(0.05, call.cancel)
        with pytest.raises(asyncio.CancelledError):
            await bus.call(batch(TARGET))
        call.uncancel()


async def test_a_hanging_bus_leaves_others_connections() -> None:
    async with Recorder.serve(NEVER) as server, opened(server.url, read_secs=IN_VAIN_SECS) as bus:
        async with asyncio.TaskGroup() as calls:
            waiting = [calls.create_task(bus.call(batch(TARGET))) for _ in range(120)]
        assert {cast("CallFailed", task.result()).code for task in waiting} == {"ReadTimeout"}
        assert server.connections == 120


async def put_by_us(url: str, *, connect_secs: float = PATIENT_SECS, read_secs: float = PATIENT_SECS) -> CallReply:
    async with opened(url, connect_secs=connect_secs, read_secs=read_secs) as bus:
        return await bus.call(batch(TARGET))


@asynccontextmanager
async def opened(
    url: str, *, connect_secs: float = PATIENT_SECS, read_secs: float = PATIENT_SECS
) -> AsyncIterator[EventBridge]:
    options = EventBridgeSettings(endpoint_url=url, connect_timeout_secs=connect_secs, read_timeout_secs=read_secs)
    async with EventBridge.open(options, StsSettings()) as bus:
        yield bus


async def put_by_stock(url: str, *, connect_secs: float = PATIENT_SECS, read_secs: float = PATIENT_SECS) -> Any:
    config = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=connect_secs, read_timeout=read_secs)
    async with stock_session().create_client(
        "events",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIACUSTOMER00000000",
        aws_secret_access_key="customer-secret",
        config=config,
    ) as client:
        try:
            return await client.put_events(Entries=cast("Any", render_batch(batch(TARGET))))
        except (ClientError, BotoCoreError) as error:
            return error


@asynccontextmanager
async def full_backlog() -> AsyncIterator[str]:
    """A port whose queue of connections is full: the next one waits for ever."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            waiting.append(one)
        try:
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            for one in waiting:
                one.close()
