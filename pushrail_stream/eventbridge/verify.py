"""Trying a destination step by step, with the calls that a worker makes.

The negative steps matter most: a trust policy that does not require the external ID lets any other customer of ours
name this customer's role as their own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.text import format_rfc3339, safe_message
from pushrail_stream.eventbridge.bus import Endpoints
from pushrail_stream.eventbridge.credentials import session_name, session_policy
from pushrail_stream.eventbridge.endpoint import Endpoint
from pushrail_stream.eventbridge.endpoint_v2 import EndpointV2
from pushrail_stream.eventbridge.error_codes import BUS_KEY_DENIED, CallFailed, EntryResult, own_code
from pushrail_stream.eventbridge.http import StockClients
from pushrail_stream.eventbridge.own_identity import Ourselves, UnknownIdentity, find_ourselves
from pushrail_stream.eventbridge.signing import Keys, SigV4Clock, checked_keys
from pushrail_stream.eventbridge.sts import RoleSession, StsEndpoint, assume_role_request
from pushrail_stream.settings.eventbridge import FLAVOURS, AccessKey, AssumeRole, Auth, OwnIdentity, auth_of
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from pushrail_stream.settings.values import Arn

TEST_EVENT: Final = "pushrail.test"
"""``eventType`` of the test event: rules by tenant match it, rules for types of real events do not."""
_DENIED: Final = "AccessDenied"
_WRONG_ID: Final = "wrong external ID"
_NO_ID: Final = "no external ID"


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step. ``unknown``: the step gave no answer, and nobody is at fault."""

    name: str
    result: Literal["ok", "warning", "failed", "unknown"]
    message: str
    event_id: str | None = None
    request_id: str | None = None


def strictly(step: Step) -> Step:
    """The step as a failure when it is a warning, or leaves open whether the role requires the external ID."""
    is_open = step.result == "warning" or (step.result == "unknown" and step.name in {_WRONG_ID, _NO_ID})
    return replace(step, result="failed") if is_open else step


async def verify(destination: Destination, settings: EventBridgeSettings, sts: StsSettings) -> AsyncIterator[Step]:
    """Each step as it ends. After a failed step, only steps follow that do not depend on it."""
    async with AsyncExitStack() as stack:
        async for step in _DestinationTest(destination, settings, sts, stack).run():
            yield step


def _wrong_external_ids(auth: AssumeRole, vendor: str) -> tuple[str, str]:
    """Two external IDs that must be refused: one like those of other customers, and the right one with another end."""
    last = "x" if auth.external_id[-1] != "x" else "y"
    return f"{vendor}-{secrets.token_urlsafe(24)}", auth.external_id[:-1] + last


def _failed(name: str, failed: CallFailed, why: str = "", result: Literal["failed", "unknown"] = "failed") -> Step:
    return Step(name, result, f"{failed.code}: {failed.message}{why}", request_id=failed.request_id)


_TRUST: Final = (
    "the role does not exist, or its trust policy does not allow our account with this external ID, or we may not call "
    "sts:AssumeRole (a new role needs some seconds until every part of AWS knows it)"
)
_WHOM: Final[Mapping[type[Auth], str]] = {AssumeRole: "role", AccessKey: "user", OwnIdentity: "identity of ours"}
_KEY: Final = "the policy of the bus's KMS key must let whoever signs call kms:Decrypt, and the key must be enabled"


class _DestinationTest:
    """Calls AWS for one destination."""

    def __init__(
        self, destination: Destination, settings: EventBridgeSettings, sts: StsSettings, stack: AsyncExitStack
    ) -> None:
        self._destination = destination
        self._flavour = FLAVOURS[destination.bus.type]
        self._sts_settings = sts
        self._clients = StockClients(stack, settings)
        self._endpoints = Endpoints(settings, self._clients)
        self._clock = SigV4Clock(lambda: datetime.now(UTC))
        self._keys: Keys | None = None
        """The customer's keys, set by signing in."""

    async def run(self) -> AsyncIterator[Step]:
        """Sign in, look for the bus and send an event."""
        async for step in self._sign_in(auth_of(self._destination)):
            yield step
        if self._keys is None:
            return
        endpoint = await self._endpoints.of(self._destination.bus)
        if isinstance(endpoint, CallFailed):
            yield _failed("bus", endpoint)
            return
        bus = await self._find_bus(endpoint, self._keys)
        yield bus
        if bus.result != "failed":
            yield await self._send(endpoint, self._keys)

    def _sign_in(self, auth: Auth) -> AsyncIterator[Step]:
        match auth:
            case AccessKey():
                return self._sign_in_by_key(auth)
            case AssumeRole():
                return self._sign_in_by_role(auth)
            case OwnIdentity():  # pragma: no branch - mypy proves that there is no fourth case
                return self._sign_in_as_us()

    async def _sign_in_as_us(self) -> AsyncIterator[Step]:
        try:
            us = await find_ourselves(self._sts_settings, self._clients)
        except UnknownIdentity as error:
            yield Step("our credentials", "failed", str(error), request_id=error.request_id)
            return
        self._keys = us.keys
        yield Step("our credentials", "ok", f"{safe_message(us.identity.arn)}, which sign the calls")

    async def _sign_in_by_key(self, auth: AccessKey) -> AsyncIterator[Step]:
        if not auth.access_key_id or auth.secret is None or not auth.secret.reveal():
            yield Step("credentials", "failed", "the secret access key could not be read: nothing is sent")
            return
        keys = checked_keys(auth.access_key_id, auth.secret.reveal(), None)
        if isinstance(keys, str):
            yield Step("credentials", "failed", f"{keys}: nothing is sent")
            return
        found = await self._identify(keys)
        if found.result != "failed":
            self._keys = keys
        yield found

    async def _identify(self, keys: Keys) -> Step:
        """Ask for the identity of the customer's key."""
        is_operators = self._sts_settings.endpoint_url is not None
        # Only the STS of its partition knows a customer's own key.
        region = self._sts_settings.region if is_operators else self._destination.bus.region
        sts = await StsEndpoint.open(self._sts_settings.model_copy(update={"region": region}), self._clients)
        identity = sts if isinstance(sts, CallFailed) else await sts.caller_identity(keys)
        if isinstance(identity, CallFailed):
            # Without STS we cannot work, but a customer's own key can: the bus will say more. The operator's endpoint
            # of STS may serve our own principals alone, or know nothing of the customer's partition.
            is_unknown = identity.http_status is None or is_operators
            return _failed("credentials", identity, result="unknown" if is_unknown else "failed")
        wanted = Arn.of(self._destination.bus.arn).account
        arn = safe_message(identity.arn)
        if identity.account != wanted:
            return Step("credentials", "warning", f"{arn} is of another account than the bus ({wanted})")
        return Step("credentials", "ok", arn)

    async def _sign_in_by_role(self, auth: AssumeRole) -> AsyncIterator[Step]:
        try:
            us = await find_ourselves(self._sts_settings, self._clients)
        except UnknownIdentity as error:
            yield Step("our credentials", "failed", str(error), request_id=error.request_id)
            return
        yield Step("our credentials", "ok", safe_message(us.identity.arn))
        session = await self._assume(us, auth, auth.external_id)
        if isinstance(session, CallFailed):
            yield _failed("AssumeRole", session, f"; {_TRUST}" if session.code == _DENIED else "")
            return
        self._keys = session.keys
        yield Step("AssumeRole", "ok", f"signed in as {auth.role_arn}")
        wrong = _wrong_external_ids(auth, self._destination.vendor)
        yield await self._must_be_refused(_WRONG_ID, us, auth, *wrong)
        yield await self._must_be_refused(_NO_ID, us, auth, None)

    async def _assume(self, us: Ourselves, auth: AssumeRole, external_id: str | None) -> RoleSession | CallFailed:
        """A session of the role, confined as a worker's is."""
        policy = session_policy(self._destination) if self._sts_settings.session_policy else None
        request = assume_role_request(auth.role_arn, external_id, session_name(self._destination.id), policy)
        return await us.sts.assume_role(us.keys, request)

    async def _must_be_refused(self, name: str, us: Ourselves, auth: AssumeRole, *external_ids: str | None) -> Step:
        """Check that signing in with any of these external IDs is refused."""
        step = Step(name, "ok", "refused, as it must be")
        for external_id in external_ids:
            session = await self._assume(us, auth, external_id)
            if isinstance(session, RoleSession):
                condition = json.dumps({"StringEquals": {"sts:ExternalId": auth.external_id}})
                return Step(name, "warning", f'was accepted: the trust policy lacks the "Condition": {condition}')
            if session.code != _DENIED:
                problem = f"refused for another reason: {session.code}: {session.message}"
                step = Step(name, "unknown", problem, request_id=session.request_id)
        return step

    async def _find_bus(self, endpoint: Endpoint | EndpointV2, keys: Keys) -> Step:
        """Whether the bus exists."""
        arn = self._destination.bus.arn
        failed = await endpoint.describe_bus(arn, keys, self._clock.read()[1])
        if failed is None:
            return Step("bus", "ok", f"{arn} exists")
        match failed.code:
            case "ResourceNotFoundException":
                fate = "be refused" if self._flavour.tells_missing else "vanish"
                why = f" ({failed.message})" if self._flavour.signs_as_us else ""
                problem = f"{arn} does not exist{why}: events sent there would {fate} (EventBusNotFound)"
                return Step("bus", "failed", problem, request_id=failed.request_id)
            case "AccessDeniedException":
                whom = _WHOM[type(auth_of(self._destination))]
                resource = arn
                if self._flavour.signs_as_us:
                    resource = self._flavour.permissions(arn)[1]["Resource"]
                statement = {"Effect": "Allow", "Action": self._flavour.actions[1], "Resource": resource}
                why = f"; to let us tell, add this statement to the {whom}: {json.dumps(statement)}"
                return _failed("bus", failed, why, "unknown")
            case _:
                return _failed("bus", failed)

    async def _send(self, endpoint: Endpoint | EndpointV2, keys: Keys) -> Step:
        """Send one test event."""
        nonce = secrets.token_hex(8)
        event = _test_event(self._destination, nonce)
        reply = await endpoint.put_events(self._destination, [event], endpoint.signer(keys), self._clock.read()[1])
        if isinstance(reply, CallFailed):
            is_of_key = own_code(reply.code, reply.message) == BUS_KEY_DENIED
            return _failed("test event", reply, f"; {_KEY}" if is_of_key else "")
        result = reply.entries[0] if reply.entries else EntryResult(None, None, "the reply has no result")
        if isinstance(result, EntryResult) and (result.code or not result.event_id):
            parts = (result.code, result.message) if result.code or result.message else ("no result",)
            text = safe_message(": ".join(filter(None, parts)))
            return Step("test event", "failed", text, request_id=reply.request_id)
        message = f"{TEST_EVENT} with nonce {nonce} was taken"
        return Step("test event", "ok", message, event_id=result.event_id, request_id=reply.request_id)


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
