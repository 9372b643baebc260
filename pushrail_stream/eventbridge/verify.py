"""Verify: try a destination step by step, with the stock client, and say what each step found.

The negative steps matter most: a trust policy that does not ask for the external ID lets any customer of ours name this
customer's role as their own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError, ProxyConnectionError
from botocore.parsers import ResponseParserError

from pushrail_stream.core.destination import AccessKey, AssumeRole, Destination
from pushrail_stream.core.entry import render
from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.text import format_rfc3339, safe_message
from pushrail_stream.eventbridge.client import EventBridgeOptions
from pushrail_stream.eventbridge.credentials import session_name, session_policy

TEST_EVENT: Final = "pushrail.test"
"""``eventType`` of the event that is sent: a rule by tenant matches it, no rule for a type of real events does."""
_DENIED: Final = "AccessDenied"
_NOT_AWS: Final = "what answered is not AWS"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step found. ``unknown``: it could not be told, which is nobody's fault."""

    name: str
    result: Literal["ok", "warning", "failed", "unknown"]
    message: str
    event_id: str | None = None
    request_id: str | None = None


class _Refused(Exception):  # noqa: N818 - a step's end, not an error of ours
    """AWS or the network said no. ``code`` is AWS's, or None where nobody answered."""

    def __init__(self, error: Exception) -> None:
        self.code: str | None = None
        self.request_id: str | None = None
        code, text = type(error).__name__, str(error)
        if isinstance(error, ClientError):
            said = error.response.get("Error", {})
            code, text = said.get("Code", code), said.get("Message", text)
            self.code = code
            self.request_id = error.response.get("ResponseMetadata", {}).get("RequestId")
        # A proxy's URL may hold its password, and its errors repeat the URL.
        super().__init__(code if isinstance(error, ProxyConnectionError) else safe_message(f"{code}: {text}"))


async def verify(destination: Destination, options: EventBridgeOptions) -> AsyncIterator[Step]:
    """Each step as it ends; after one that failed only those follow that do not need it."""
    trial = _Trial(destination, options, get_session())
    match destination.auth:
        case AccessKey() as auth:
            signing = _sign_in_by_key(trial, auth)
        case AssumeRole() as auth:
            signing = _sign_in_by_role(trial, auth)
    async for step in signing:
        yield step
    if trial.keys is None:
        return
    bus = await trial.bus()
    yield bus
    if bus.result != "failed":
        yield await trial.send()


async def _sign_in_by_key(trial: _Trial, auth: AccessKey) -> AsyncIterator[Step]:
    if not auth.access_key_id or auth.secret is None or not auth.secret.reveal():
        yield Step("credentials", "failed", "the secret access key could not be read: nothing is sent")
        return
    keys = {"aws_access_key_id": auth.access_key_id, "aws_secret_access_key": auth.secret.reveal()}
    found = await trial.identify("credentials", keys)
    if found.result != "failed":
        trial.keys = keys
    yield found


async def _sign_in_by_role(trial: _Trial, auth: AssumeRole) -> AsyncIterator[Step]:
    own = await trial.identify("our credentials", {})
    yield own
    if own.result == "failed":
        return
    try:
        trial.keys = await trial.assume(auth, auth.external_id)
    except _Refused as refused:
        why = f"; {_TRUST}" if refused.code == _DENIED else ""
        yield Step("AssumeRole", "failed", f"{refused}{why}", request_id=refused.request_id)
        return
    yield Step("AssumeRole", "ok", f"signed in as {auth.role_arn}")
    yield await trial.must_be_refused("wrong external ID", auth, *_wrong_external_ids(auth, trial.vendor))
    yield await trial.must_be_refused("no external ID", auth, None)


def _wrong_external_ids(auth: AssumeRole, vendor: str) -> tuple[str, str]:
    """What other customers of ours have, and the right one but for its end: a condition by pattern takes those."""
    last = "x" if auth.external_id[-1] != "x" else "y"
    return f"{vendor}-{secrets.token_urlsafe(24)}", auth.external_id[:-1] + last


_TRUST: Final = (
    "the role does not exist, or its trust policy does not allow our account with this external ID, or we may not call "
    "sts:AssumeRole (a new role needs some seconds until every part of AWS knows it)"
)


class _Trial:
    """Calls AWS for one destination. ``keys`` are the customer's, once signed in: a client's arguments."""

    def __init__(self, destination: Destination, options: EventBridgeOptions, session: AioSession) -> None:
        self._destination = destination
        self._options = options
        self._session = session
        self._config = AioConfig(
            connect_timeout=options.connect_timeout_secs,
            read_timeout=options.read_timeout_secs,
            retries={"total_max_attempts": 1},
        )
        self.vendor = destination.vendor
        self.keys: dict[str, str] | None = None

    async def identify(self, name: str, keys: dict[str, str]) -> Step:
        """Whose credentials these are; no keys are our own."""
        try:
            identity = await self._sts("get_caller_identity", keys)
            account, arn = identity["Account"], safe_message(identity["Arn"])
        except _Refused as refused:
            # Without STS we cannot work, but a customer's own key can: the bus will say more. The operator's endpoint
            # of STS may serve our own principals alone, or know nothing of the customer's partition.
            is_unknown = keys and (refused.code is None or self._options.sts_endpoint_url is not None)
            return Step(name, "unknown" if is_unknown else "failed", str(refused), request_id=refused.request_id)
        except KeyError:
            return Step(name, "failed", _NOT_AWS)
        wanted = self._destination.bus_arn.split(":")[4]
        if keys and account != wanted:
            return Step(name, "warning", f"{arn} is of another account than the bus ({wanted})")
        return Step(name, "ok", arn)

    async def assume(self, auth: AssumeRole, external_id: str | None) -> dict[str, str]:
        """Keys of a session of the role, confined as a worker's is; raises `_Refused`."""
        wanted = {"RoleArn": auth.role_arn, "RoleSessionName": session_name(self._destination.id)}
        if external_id is not None:
            wanted["ExternalId"] = external_id
        if self._options.sts_session_policy:
            wanted["Policy"] = session_policy(self._destination.bus_arn)
        try:
            given = (await self._sts("assume_role", {}, **wanted))["Credentials"]
            return {
                "aws_access_key_id": given["AccessKeyId"],
                "aws_secret_access_key": given["SecretAccessKey"],
                "aws_session_token": given["SessionToken"],
            }
        except KeyError:
            raise _Refused(ResponseParserError(_NOT_AWS)) from None

    async def must_be_refused(self, name: str, auth: AssumeRole, *external_ids: str | None) -> Step:
        """Signing in with any of these must not work."""
        step = Step(name, "ok", "refused, as it must be")
        for external_id in external_ids:
            try:
                await self.assume(auth, external_id)
            except _Refused as refused:
                if refused.code != _DENIED:
                    problem = f"refused for another reason: {refused}"
                    step = Step(name, "unknown", problem, request_id=refused.request_id)
            else:
                condition = json.dumps({"StringEquals": {"sts:ExternalId": auth.external_id}})
                return Step(name, "warning", f'was accepted: the trust policy lacks the "Condition": {condition}')
        return step

    async def bus(self) -> Step:
        """Whether the bus exists."""
        arn = self._destination.bus_arn
        try:
            await self._events("describe_event_bus", Name=arn)
        except _Refused as refused:
            return self._no_bus(arn, refused)
        return Step("bus", "ok", f"{arn} exists")

    def _no_bus(self, arn: str, refused: _Refused) -> Step:
        match refused.code:
            case "ResourceNotFoundException":
                problem = f"{arn} does not exist: events sent there would vanish (EventBusNotFound)"
                return Step("bus", "failed", problem, request_id=refused.request_id)
            case "AccessDeniedException":
                whom = "role" if isinstance(self._destination.auth, AssumeRole) else "user"
                statement = {"Effect": "Allow", "Action": "events:DescribeEventBus", "Resource": arn}
                problem = f"{refused}; to let us tell, add this statement to the {whom}: {json.dumps(statement)}"
                return Step("bus", "unknown", problem, request_id=refused.request_id)
            case _:
                return Step("bus", "failed", str(refused), request_id=refused.request_id)

    async def send(self) -> Step:
        """Send one event that says what it is."""
        nonce = secrets.token_hex(8)
        event = _test_event(self._destination, nonce)
        try:
            reply = await self._events("put_events", Entries=[render(event, self._destination)])
        except _Refused as refused:
            return Step("test event", "failed", str(refused), request_id=refused.request_id)
        request_id = reply.get("ResponseMetadata", {}).get("RequestId")
        results = reply.get("Entries") or [{"ErrorMessage": _NOT_AWS}]
        if not results[0].get("EventId"):
            parts = (results[0].get("ErrorCode"), results[0].get("ErrorMessage"))
            return Step("test event", "failed", safe_message(": ".join(filter(None, parts))), request_id=request_id)
        message = f"{TEST_EVENT} with nonce {nonce} was taken"
        return Step("test event", "ok", message, event_id=results[0]["EventId"], request_id=request_id)

    async def _sts(self, operation: str, keys: dict[str, str], **request: Any) -> Any:
        endpoint_url, region = self._options.sts_endpoint_url, self._options.sts_region
        if keys and endpoint_url is None:
            # A customer's own key is known only to the STS of its partition.
            region = self._destination.region
        return await self._call("sts", operation, region, endpoint_url, keys, **request)

    async def _events(self, operation: str, **request: Any) -> Any:
        if not self.keys:
            raise TypeError("a customer's bus is never called with our own credentials")
        region = self._destination.region
        return await self._call("events", operation, region, self._options.endpoint_of(region), self.keys, **request)

    async def _call(
        self,
        service: Literal["sts", "events"],
        operation: str,
        region: str,
        endpoint_url: str | None,
        keys: dict[str, str],
        **request: Any,
    ) -> Any:
        try:
            async with self._session.create_client(
                service,
                region_name=region,
                endpoint_url=endpoint_url,
                config=self._config,
                aws_access_key_id=keys.get("aws_access_key_id"),
                aws_secret_access_key=keys.get("aws_secret_access_key"),
                aws_session_token=keys.get("aws_session_token"),
            ) as client:
                return await getattr(client, operation)(**request)
        except (BotoCoreError, ClientError, ResponseParserError, OSError, ValueError) as error:
            raise _Refused(error) from error


def _test_event(destination: Destination, nonce: str) -> Event:
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
