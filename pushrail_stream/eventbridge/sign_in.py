"""Signing in: AssumeRole with our own credentials, at a limited rate and with a deadline for each call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import final

from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import (
    BASE_CREDENTIALS_DENIED,
    UNKNOWN_RESULT,
    CallFailed,
    is_ours,
)
from pushrail_stream.eventbridge.http import StockClients, network_failure
from pushrail_stream.eventbridge.own_identity import DeniedRoles, OwnKeys
from pushrail_stream.eventbridge.signing import Keys
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.eventbridge.sts import RoleSession, StsEndpoint, assume_role_request
from pushrail_stream.ports.pipeline import SignIns
from pushrail_stream.settings.eventbridge import AssumeRole
from pushrail_stream.settings.model import StsSettings


@final
class SignInService:
    """Opens sessions of customers' roles, for all destinations. It keeps none of them."""

    def __init__(self, settings: StsSettings, clients: StockClients, now: Callable[[], datetime]) -> None:
        """``now``: in UTC."""
        self.now = now
        self.has_session_policy = settings.session_policy
        self._settings = settings
        self._clients = clients
        self._deadline_secs = clients.timeouts.total_secs
        self._own_keys = OwnKeys(now)
        self._gap_secs = 1 / settings.max_calls_per_second
        self._next_at = 0.0
        self._opening = SingleFlight[StsEndpoint | CallFailed]()
        self._endpoint: StsEndpoint | None = None
        self._denials = DeniedRoles()
        self.refreshed = self.failed = self.kept = self._calls = self._refusals = 0

    @property
    def sign_ins(self) -> SignIns:
        """The sign-ins so far, counted by outcome."""
        return SignIns(self.refreshed, self.failed, self.kept, self._calls, self._refusals)

    async def assume_role(self, auth: AssumeRole, name: str, policy: str | None) -> RoleSession | CallFailed:
        """A new session, or why there is none. Ends within the deadline, waiting for a turn included."""
        until = asyncio.get_running_loop().time() + self._deadline_secs
        keys = await self._own_keys.keys()
        if isinstance(keys, CallFailed):
            return keys
        wait_secs = self._turn()
        if wait_secs > self._deadline_secs / 2:
            message = f"more than {1 / self._gap_secs:.0f} sign-ins a second are due (sts.max_calls_per_second)"
            return CallFailed("AssumeRole", SIGN_INS_QUEUED, message)
        self._next_at += self._gap_secs
        request = assume_role_request(auth.role_arn, auth.external_id, name, policy)
        self._calls += 1
        answer = await self._call(keys, request, wait_secs, until)
        if isinstance(answer, RoleSession):
            self._denials.granted(auth.role_arn)
            return answer
        self._refusals += 1
        return self._refused(answer, keys, auth.role_arn)

    def forget(self, role_arn: str) -> None:
        """Nobody signs in as this role any more."""
        self._denials.forget(role_arn)

    def _refused(self, answer: CallFailed, keys: Keys, role_arn: str) -> CallFailed:
        if is_ours(answer.code):
            self._own_keys.refused(keys)
        if answer.code == "AccessDenied" and self._denials.denied(role_arn):
            message = f"AssumeRole is denied for every role, so it is our own identity's fault: {answer.message}"
            return answer._replace(code=BASE_CREDENTIALS_DENIED, message=safe_message(message))
        return answer

    async def _call(
        self, keys: Keys, request: dict[str, str], wait_secs: float, until: float
    ) -> RoleSession | CallFailed:
        try:
            async with asyncio.timeout_at(until):
                await asyncio.sleep(wait_secs)
                endpoint = self._endpoint or await self._opening.run(self._open)
                if isinstance(endpoint, CallFailed):
                    return endpoint
                answer = await endpoint.assume_role(keys, request)
        except TimeoutError as error:
            return network_failure("AssumeRole", error)
        if isinstance(answer, RoleSession) and answer.expires_at <= self.now().timestamp():
            # Using it would cost a sign-in per call.
            return CallFailed("AssumeRole", UNKNOWN_RESULT, "STS gave a session that is over already")
        return answer

    def _turn(self) -> float:
        """Seconds until the next sign-in may be made."""
        now = asyncio.get_running_loop().time()
        self._next_at = max(self._next_at, now)
        return self._next_at - now

    async def _open(self) -> StsEndpoint | CallFailed:
        if self._endpoint is not None:
            return self._endpoint
        endpoint = await StsEndpoint.open(self._settings, self._clients)
        if isinstance(endpoint, StsEndpoint):
            self._endpoint = endpoint
        return endpoint
