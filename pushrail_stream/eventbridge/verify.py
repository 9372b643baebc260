"""Verify: try a destination step by step, with the stock client, and say what each step found.

The negative steps matter most: a trust policy that does not ask for the external ID lets any customer of ours name this
customer's role as their own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError

from pushrail_stream.core.destination import AccessKey, AssumeRole, Destination
from pushrail_stream.core.entry import render
from pushrail_stream.core.event import Undecodable, decode
from pushrail_stream.core.text import format_rfc3339, safe_message
from pushrail_stream.eventbridge.client import EventBridgeOptions
from pushrail_stream.eventbridge.credentials import session_name

TEST_EVENT: Final = "pushrail.test"
"""``eventType`` of the event that is sent, so that no rule for real events matches it by accident."""
_GONE: Final = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step found. ``unknown``: it could not be told, which is nobody's fault."""

    name: str
    result: Literal["ok", "warning", "failed", "unknown"]
    message: str
    event_id: str | None = None
    request_id: str | None = None


class _Refused(Exception):  # noqa: N818 - a step's end, not an error of ours
    """AWS or the network said no."""

    def __init__(self, error: Exception) -> None:
        self.code = type(error).__name__
        text = str(error)
        if isinstance(error, ClientError):
            known = error.response.get("Error", {})
            self.code, text = known.get("Code", self.code), known.get("Message", text)
        super().__init__(safe_message(f"{self.code}: {text}"))


async def verify(destination: Destination, options: EventBridgeOptions) -> AsyncIterator[Step]:
    """Each step as it ends; after one that failed only those follow that do not need it."""
    async with AsyncExitStack() as stack:
        trial = _Trial(destination, options, get_session(), stack)
        keys: dict[str, Any] | None = None
        match destination.auth:
            case AccessKey(key_id, secret):
                if not key_id or secret is None or not secret.reveal():
                    yield Step("credentials", "failed", "the secret access key could not be read: nothing is sent")
                    return
                keys = {"aws_access_key_id": key_id, "aws_secret_access_key": secret.reveal()}
                yield await trial.identify("credentials", keys)
            case AssumeRole():
                yield await trial.identify("our credentials", {})
                try:
                    keys = await trial.assume(destination.auth, destination.auth.external_id)
                except _Refused as refused:
                    yield Step("AssumeRole", "failed", f"{refused}; {_TRUST}")
                    return
                yield Step("AssumeRole", "ok", f"signed in as {destination.auth.role_arn}")
                wrong = secrets.token_urlsafe(24)
                yield await trial.must_be_refused("wrong external ID", destination.auth, wrong)
                yield await trial.must_be_refused("no external ID", destination.auth, None)
        bus = await trial.bus(keys)
        yield bus
        if bus.result != "failed":
            yield await trial.send(keys)


_TRUST: Final = (
    "the role does not exist, or its trust policy does not allow our account with this external ID "
    "(a new role needs some seconds until every part of AWS knows it)"
)


class _Trial:
    def __init__(
        self, destination: Destination, options: EventBridgeOptions, session: AioSession, stack: AsyncExitStack
    ) -> None:
        self._destination = destination
        self._options = options
        self._session = session
        self._stack = stack
        self._config = AioConfig(
            connect_timeout=options.connect_timeout_secs,
            read_timeout=options.read_timeout_secs,
            retries={"total_max_attempts": 1},
        )

    async def identify(self, name: str, keys: dict[str, Any]) -> Step:
        """Whose credentials these are."""
        try:
            identity = await self._call("sts", "get_caller_identity", keys)
        except _Refused as refused:
            return Step(name, "failed", str(refused))
        account = self._destination.bus_arn.split(":")[4]
        if keys and identity["Account"] != account:
            return Step(name, "warning", f"{identity['Arn']} is of another account than the bus ({account})")
        return Step(name, "ok", str(identity["Arn"]))

    async def assume(self, auth: AssumeRole, external_id: str | None) -> dict[str, Any]:
        """Keys of a session of the role; raises `_Refused`."""
        wanted = {"RoleArn": auth.role_arn, "RoleSessionName": session_name(self._destination.id)}
        if external_id is not None:
            wanted["ExternalId"] = external_id
        given = (await self._call("sts", "assume_role", {}, **wanted))["Credentials"]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }

    async def must_be_refused(self, name: str, auth: AssumeRole, external_id: str | None) -> Step:
        """Signing in like this must not work."""
        try:
            await self.assume(auth, external_id)
        except _Refused as refused:
            if refused.code == "AccessDenied":
                return Step(name, "ok", "refused, as it must be")
            return Step(name, "unknown", f"refused for another reason: {refused}")
        missing = 'the trust policy lacks the condition {"StringEquals": {"sts:ExternalId": "<this external ID>"}}'
        return Step(name, "warning", f"was accepted: {missing}")

    async def bus(self, keys: dict[str, Any]) -> Step:
        """Whether the bus exists."""
        arn = self._destination.bus_arn
        try:
            await self._call("events", "describe_event_bus", keys, Name=arn)
        except _Refused as refused:
            if refused.code == _GONE:
                return Step("bus", "failed", f"{arn} does not exist: events sent there would vanish (EventBusNotFound)")
            statement = {"Effect": "Allow", "Action": "events:DescribeEventBus", "Resource": arn}
            return Step(
                "bus", "unknown", f"{refused}; to let us tell, add this statement to the role: {json.dumps(statement)}"
            )
        return Step("bus", "ok", f"{arn} exists")

    async def send(self, keys: dict[str, Any]) -> Step:
        """Send one event that says what it is."""
        nonce = secrets.token_hex(8)
        event = _test_event(self._destination, nonce)
        try:
            reply = await self._call("events", "put_events", keys, Entries=[render(event, self._destination)])
        except _Refused as refused:
            return Step("test event", "failed", str(refused))
        request_id = reply["ResponseMetadata"].get("RequestId")
        [result] = reply["Entries"]
        if "EventId" not in result:
            problem = safe_message(f"{result.get('ErrorCode')}: {result.get('ErrorMessage')}")
            return Step("test event", "failed", problem, request_id=request_id)
        message = f"{TEST_EVENT} with nonce {nonce} was taken"
        return Step("test event", "ok", message, event_id=result["EventId"], request_id=request_id)

    async def _call(
        self, service: Literal["sts", "events"], operation: str, keys: dict[str, Any], **request: Any
    ) -> Any:
        if service == "events" and not keys:
            raise TypeError("a customer's bus is never called with our own credentials")
        options = self._options
        region, endpoint = (
            (options.sts_region, options.sts_endpoint_url)
            if service == "sts"
            else (self._destination.region, options.endpoint_url)
        )
        try:
            async with self._session.create_client(
                service, region_name=region, endpoint_url=endpoint, config=self._config, **keys
            ) as client:
                return await getattr(client, operation)(**request)
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise _Refused(error) from error


def _test_event(destination: Destination, nonce: str) -> Any:
    now = datetime.now(UTC)
    body = {
        "eventType": TEST_EVENT,
        "occurredAt": format_rfc3339(int(now.timestamp() * 1000)),
        "source": "pushrail-stream",
        "customerExternalId": destination.customer_external_id,
        "idempotencyKey": f"pushrail-test-{nonce}",
        "payload": {"nonce": nonce, "destinationId": destination.id},
    }
    event = decode(json.dumps(body).encode(), (), destination.vendor)
    if isinstance(event, Undecodable):
        raise TypeError(f"the test event is no event: {event}")
    return event
