"""Stock clients and raw requests with which the tests drive the fault-injecting bus."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from pushrail_stream.sandbox.bus.faults import (
    EntryError,
)
from pushrail_stream.sandbox.bus.server import FaultBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from ssl import SSLContext

    from pushrail_stream.sandbox.bus.server import FaultBus

ACCOUNT = "123456789012"
BUS = f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/pushrail-events"
OTHER_BUS = "arn:aws:events:us-east-1:210987654321:event-bus/other"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/PushrailEventBridgeWriter"
KEY, SECRET = "AKIATEST00000001", "the-secret-of-tests"


def declare(bus: FaultBus) -> None:
    """Declare the bus, key and role that most tests use."""
    bus.add_bus(BUS)
    bus.add_key(KEY, SECRET)
    bus.add_role(ROLE, external_id="acme-ext-7Pq2", buses=[BUS])


@cache
def _session() -> Any:
    # One for all: a session reads the service models anew. Any, since the stubs want the service as a literal.
    return get_session()


@asynccontextmanager
async def client(
    service: str, bus: FaultBus, *, key: str = KEY, secret: str = SECRET, token: str | None = None, verify: Any = None
) -> AsyncIterator[Any]:
    """Open a stock client that never retries and waits one second for a reply."""
    config = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=1)
    async with _session().create_client(
        service,
        region_name="us-east-1",
        endpoint_url=bus.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        verify=verify,
        config=config,
    ) as made:
        yield made


def entry(**changes: Any) -> dict[str, Any]:
    """Make an entry AWS takes, apart from the changes; a change to None leaves the field out."""
    whole = {
        "Source": "pushrail.acme",
        "DetailType": "order.completed",
        "Detail": '{"idempotencyKey":"order_1"}',
        "EventBusName": BUS,
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def entry_v2(key: str | None = None, **changes: Any) -> dict[str, Any]:
    """Make an entry that eventbridgev2 takes, with this deduplication id."""
    metadata = {} if key is None else {"SystemMetadata": {"DeduplicationId": key}}
    return {"Source": "pushrail.acme", "DetailType": "order.completed", "Detail": '{"a":1}'} | metadata | changes


async def refusal(call: Awaitable[Any]) -> tuple[int, str, str]:
    """Give status, code and message of a call that must fail."""
    try:
        await call
    except ClientError as error:
        answer = error.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]
    raise AssertionError("the call was not refused")


def signed(
    bus: FaultBus,
    document: Any,
    *,
    key: str = KEY,
    secret: str = SECRET,
    service: str = "events",
    target: str = "AWSEvents.PutEvents",
) -> tuple[dict[str, str], bytes]:
    """Sign a JSON 1.1 request with botocore's signer: headers and body, which the test may alter."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"{bus.url}/", data=body, headers=headers)
    SigV4Auth(Credentials(key, secret), service, "us-east-1").add_auth(request)
    return {**dict(request.headers.items()), "Host": bus.url.partition("://")[2]}, body


def head(headers: dict[str, str], line: str = "POST / HTTP/1.1") -> bytes:
    """Write a request's head."""
    return "".join([f"{line}\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]).encode()


def whole(headers: dict[str, str], body: bytes) -> bytes:
    """Write a request with Content-Length."""
    return head({**headers, "Content-Length": str(len(body))}) + body


@asynccontextmanager
async def connection(
    bus: FaultBus, trusted: SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a bare connection to the bus."""
    host, _, port = bus.url.partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=trusted)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """Read one reply: status, headers (lower case), decoded body (None when empty)."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(lines[0].split()[1]), headers, orjson.loads(body) if body else None


async def send(bus: FaultBus, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Send one raw request on a connection of its own."""
    async with connection(bus) as (reader, writer):
        writer.write(request)
        return await read_reply(reader)


async def control(bus: FaultBus, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    """Make one request to the bus's control."""
    body = b"" if document is None else document if isinstance(document, bytes) else orjson.dumps(document)
    headers = {"Host": "bus", "Content-Length": str(len(body))}
    status, _, answer = await send(bus, head(headers, f"{method} /_bus/{path} HTTP/1.1") + body)
    return status, answer


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


THROTTLED = EntryError("ThrottlingException", "Rate exceeded")


def put(bus: FaultBus, name: str) -> tuple[dict[str, str], bytes]:
    return signed(bus, {"Entries": [entry(Detail=f'{{"name":"{name}"}}')]})
