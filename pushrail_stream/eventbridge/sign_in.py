"""Signing in: AssumeRole with our own credentials, at a limited rate and with a deadline for each call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, final

from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_DENIED, UNKNOWN_RESULT, CallFailed, is_ours
from pushrail_stream.eventbridge.http import StockClients, network_failure
from pushrail_stream.eventbridge.own_identity import OwnKeys
from pushrail_stream.eventbridge.signing import Keys
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.eventbridge.sts import Identity, RoleSession, StsEndpoint, assume_role_request
from pushrail_stream.ports.pipeline import SignIns
from pushrail_stream.settings.eventbridge import AssumeRole
from pushrail_stream.settings.model import StsSettings
from pushrail_stream.settings.values import Arn

ROLES: Final = 5
"""Roles that must be denied one after the other, with none granted in between, before our own identity is at fault."""
ACCOUNTS: Final = 2
"""Accounts that these roles must belong to: one customer's trust policies may all be wrong."""
_DENIED: Final = "AssumeRole is denied for every role, so it is our own identity's fault"


@final
class SignInService:
    """Opens sessions of customers' roles, for all destinations. It keeps none of them."""

    def __init__(self, settings: StsSettings, clients: StockClients, now: Callable[[], datetime]) -> None:
        """``now``: in UTC."""
        self.now = now
        self.has_session_policy = settings.session_policy
        self._settings = settings
        self._clients = clients
        self._deadline_secs = clients.settings.call_secs
        self._own_keys = OwnKeys(now)
        self._rate = TokenBucket(settings.max_calls_per_second)
        self._opening = SingleFlight[StsEndpoint | CallFailed](keep=StsEndpoint)
        self._denials = DeniedRoles()
        self._fault: CallFailed | None = None
        self.refreshed = self.failed = self.kept = self._calls = self._refusals = 0

    @property
    def sign_ins(self) -> SignIns:
        """The sign-ins so far, counted by outcome."""
        return SignIns(self.refreshed, self.failed, self.kept, self._calls, self._refusals)

    async def assume_role(self, auth: AssumeRole, name: str, policy: str | None) -> RoleSession | CallFailed:
        """A new session, or why there is none. Ends within the deadline, waiting for a turn included."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._deadline_secs
        keys = await self._own_keys.keys()
        if isinstance(keys, CallFailed):
            return keys
        now = loop.time()
        turn_at = now + self._rate.wait_secs(now)
        if turn_at - now > self._deadline_secs / 2:
            limit = self._settings.max_calls_per_second
            message = f"more than {limit:.0f} sign-ins a second are due (sts.max_calls_per_second)"
            return CallFailed("AssumeRole", SIGN_INS_QUEUED, message)
        self._rate.spend(now)
        self._calls += 1
        request = assume_role_request(auth.role_arn, auth.external_id, name, policy)
        answer = await self._call(keys, request, turn_at, until)
        if isinstance(answer, RoleSession):
            self._denials.granted(auth.role_arn)
            return answer
        self._refusals += 1
        return self._blame(answer, keys, auth.role_arn)

    async def check(self) -> CallFailed | None:
        """Our own fault for which no role can be assumed, if any: the last known one while STS does not answer."""
        keys = await self._own_keys.keys()
        answer = keys if isinstance(keys, CallFailed) else await self._who_are_we(keys)
        if isinstance(answer, Identity):
            self._fault = CallFailed("AssumeRole", BASE_CREDENTIALS_DENIED, _DENIED) if self._denials.are_ours else None
        elif is_ours(answer.code):
            self._fault = answer
        return self._fault

    def forget(self, role_arn: str) -> None:
        """No document names this role any more."""
        self._denials.forget(role_arn)

    def _blame(self, answer: CallFailed, keys: Keys, role_arn: str) -> CallFailed:
        """The failure, with the code for our own identity if that is at fault."""
        if is_ours(answer.code):
            self._own_keys.refused(keys)
        if answer.code == "AccessDenied" and self._denials.denied(role_arn):
            return answer._replace(code=BASE_CREDENTIALS_DENIED, message=safe_message(f"{_DENIED}: {answer.message}"))
        return answer

    async def _who_are_we(self, keys: Keys) -> Identity | CallFailed:
        try:
            async with asyncio.timeout(self._deadline_secs):
                endpoint = await self._endpoint()
                answer = endpoint if isinstance(endpoint, CallFailed) else await endpoint.caller_identity(keys)
        except TimeoutError as error:
            return network_failure("GetCallerIdentity", error)
        if isinstance(answer, CallFailed) and is_ours(answer.code):
            self._own_keys.refused(keys)
        return answer

    async def _endpoint(self) -> StsEndpoint | CallFailed:
        return await self._opening.run(lambda: StsEndpoint.open(self._settings, self._clients))

    async def _call(
        self, keys: Keys, request: dict[str, str], turn_at: float, until: float
    ) -> RoleSession | CallFailed:
        try:
            async with asyncio.timeout_at(until):
                await asyncio.sleep(turn_at - asyncio.get_running_loop().time())
                endpoint = await self._endpoint()
                if isinstance(endpoint, CallFailed):
                    return endpoint
                answer = await endpoint.assume_role(keys, request)
        except TimeoutError as error:
            return network_failure("AssumeRole", error)
        if isinstance(answer, RoleSession) and answer.expires_at <= self.now().timestamp():
            # Using it would cost a sign-in per call.
            return CallFailed("AssumeRole", UNKNOWN_RESULT, "STS gave a session that has already ended")
        return answer


@final
class DeniedRoles:
    """Tells whether denials of AssumeRole are the roles' fault or our own identity's.

    STS answers AccessDenied both for a trust policy that does not admit us and for an identity of ours that may not
    call AssumeRole. One role does not show which; several do. When the last roles that were denied for the first time
    belong to several accounts, and none was granted in between, the fault counts as ours until one is granted.
    """

    __slots__ = ("_denied", "_lately")

    def __init__(self) -> None:
        self._denied: set[str] = set()
        """Roles whose last answer was a denial."""
        self._lately: set[str] = set()
        """Roles that were first denied since a role was last granted. A broken role that is probed again and again
        counts once."""

    def granted(self, role_arn: str) -> None:
        """This role was assumed: our identity may call AssumeRole."""
        self._denied.discard(role_arn)
        self._lately.clear()

    def forget(self, role_arn: str) -> None:
        """No document names this role any more, or another one does: its next denial counts as new."""
        self._denied.discard(role_arn)
        self._lately.discard(role_arn)

    @property
    def are_ours(self) -> bool:
        """Whether our own identity may not call AssumeRole."""
        return len(self._lately) >= ROLES and len({Arn.of(arn).account for arn in self._lately}) >= ACCOUNTS

    def denied(self, role_arn: str) -> bool:
        """Note that this role was denied; return whether that is our own fault."""
        if role_arn not in self._denied:
            self._denied.add(role_arn)
            self._lately.add(role_arn)
        return self.are_ours
