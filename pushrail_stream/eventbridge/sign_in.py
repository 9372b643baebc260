"""Signing in: AssumeRole with our own credentials, at a limited rate and with a deadline for each call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import chain
from typing import Final, final

from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.core.pacing import TokenBucket
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_DENIED, UNKNOWN_RESULT, CallFailed, is_our_fault
from pushrail_stream.eventbridge.http import StockClients, network_failure
from pushrail_stream.eventbridge.own_identity import OwnKeys
from pushrail_stream.eventbridge.signing import Keys
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.eventbridge.sts import Identity, RoleSession, StsEndpoint
from pushrail_stream.ports.pipeline import SignIns
from pushrail_stream.settings.model import StsSettings
from pushrail_stream.settings.values import Arn

WITNESSES: Final = 3
"""Roles of other accounts that must be denied, too, before our own identity is at fault; fewer when there are fewer."""
_BELIEVED_SECS: Final = 15.0
"""Seconds for which nothing is asked again after the denial of every role: as long as a failed sign-in may be kept."""
_STS_SECS: Final = 0.25
"""Seconds within which STS answers, except when it is slow or down. Patient callers make as many calls at once as the
rate allows in this time. With more, each call opens a connection of its own (40 KB, and 1 ms of CPU) as soon as STS
falls behind. It is far below the deadline, so patient callers never fill the queue of calls: no impatient one fails
because of them."""
_DENIED: Final = "AssumeRole is denied for every role, so it is our own identity's fault"
RoleRequest = Mapping[str, str]
"""The parameters of AssumeRole for one role."""


@final
class SignInService:
    """Opens sessions of customers' roles, for all destinations. It keeps none of them."""

    def __init__(
        self,
        settings: StsSettings,
        clients: StockClients,
        now: Callable[[], datetime],
        known: Callable[[], Iterable[RoleRequest]],
    ) -> None:
        """``now``: in UTC. ``known``: the requests for all roles that documents name."""
        self.now = now
        self._known = known
        self.has_session_policy = settings.session_policy
        self._settings = settings
        self._clients = clients
        self._deadline_secs = clients.settings.call_secs
        self.own_keys = OwnKeys(now)
        """Our own credentials."""
        self._rate = TokenBucket(settings.max_calls_per_second)
        self._patient = asyncio.Semaphore(max(1, int(settings.max_calls_per_second * _STS_SECS)))
        """Bounds the sign-ins of patient callers that are in progress together. The others wait in order of arrival."""
        self._opening = SingleFlight[StsEndpoint | CallFailed](keep=StsEndpoint)
        self._witnesses = Witnesses()
        self._doubting = SingleFlight[CallFailed | None]()
        self._is_denied = False
        """Whether every role that was asked for was denied, and none was granted since."""
        self._believed_until = float("-inf")
        self._fault: CallFailed | None = None
        self.refreshed = self.failed = self.kept = self._calls = self._refusals = 0

    @property
    def sign_ins(self) -> SignIns:
        """The sign-ins so far, counted by outcome."""
        return SignIns(self.refreshed, self.failed, self.kept, self._calls, self._refusals)

    async def assume_role(self, request: RoleRequest, *, patient: bool = False) -> RoleSession | CallFailed:
        """A new session, or why there is none. Ends within the deadline, waiting for a turn included.

        ``patient``: wait for a turn first, for any time, and then until the deadline. A caller without patience gets
        `SIGN_INS_QUEUED` when too many sign-ins are due.
        """
        if patient:
            async with self._patient:
                return await self._assume_role(request)
        return await self._assume_role(request)

    async def _assume_role(self, request: RoleRequest) -> RoleSession | CallFailed:
        until = asyncio.get_running_loop().time() + self._deadline_secs
        keys = await self.own_keys.keys()
        if isinstance(keys, CallFailed):
            return keys
        answer = await self._ask(keys, request, until)
        is_denied = isinstance(answer, CallFailed) and answer.code == "AccessDenied"
        if not is_denied or not (witnesses := self._witnesses.against(request, self._known())):
            return answer
        doubt = await self._doubting.run(lambda: self._doubt(keys, witnesses, until))
        # Our identity may have got its right back between the two answers.
        return doubt or await self._ask(keys, request, until)

    async def check(self) -> CallFailed | None:
        """Our own fault for which no role can be assumed, if any: the last known one while STS does not answer."""
        keys = await self.own_keys.keys()
        answer = keys if isinstance(keys, CallFailed) else await self._who_are_we(keys)
        if isinstance(answer, Identity):
            self._fault = CallFailed("AssumeRole", BASE_CREDENTIALS_DENIED, _DENIED) if self._is_denied else None
        elif is_our_fault(answer.code):
            self._fault = answer
        return self._fault

    def forget(self, role_arn: str) -> None:
        """No document names this role any more."""
        self._witnesses.forget(role_arn)

    async def _ask(self, keys: Keys, request: RoleRequest, until: float) -> RoleSession | CallFailed:
        """Ask for a session when the rate allows it, and learn from the answer."""
        now = asyncio.get_running_loop().time()
        turn_at = now + self._rate.wait_secs(now)
        if turn_at - now > self._deadline_secs / 2:
            limit = self._settings.max_calls_per_second
            message = f"more than {limit:.0f} sign-ins a second are due (sts.max_calls_per_second)"
            return CallFailed("AssumeRole", SIGN_INS_QUEUED, message)
        self._rate.spend(now)
        self._calls += 1
        answer = await self._call(keys, request, turn_at, until)
        if isinstance(answer, RoleSession):
            self._witnesses.granted(request)
            self._is_denied, self._believed_until = False, float("-inf")
        else:
            self._refusals += 1
            if is_our_fault(answer.code):
                self.own_keys.refused(keys)
        return answer

    async def _doubt(self, keys: Keys, witnesses: list[RoleRequest], until: float) -> CallFailed | None:
        """Why the denial of a role says nothing about that role; None when our identity may assume another one.

        While roles give no clear answer, the last known fault of ours holds.
        """
        ours = CallFailed("AssumeRole", BASE_CREDENTIALS_DENIED, _DENIED)
        if asyncio.get_running_loop().time() < self._believed_until:
            return ours
        undecided: CallFailed | None = None
        for witness in witnesses:
            answer = await self._ask(keys, witness, until)
            if isinstance(answer, RoleSession):
                return None
            if answer.code != "AccessDenied":
                undecided = answer
        if undecided is not None:
            return ours if self._is_denied else undecided
        self._is_denied, self._believed_until = True, asyncio.get_running_loop().time() + _BELIEVED_SECS
        return ours

    async def _who_are_we(self, keys: Keys) -> Identity | CallFailed:
        try:
            async with asyncio.timeout(self._deadline_secs):
                endpoint = await self._endpoint()
                answer = endpoint if isinstance(endpoint, CallFailed) else await endpoint.caller_identity(keys)
        except TimeoutError as error:
            return network_failure("GetCallerIdentity", error)
        if isinstance(answer, CallFailed) and is_our_fault(answer.code):
            self.own_keys.refused(keys)
        return answer

    async def _endpoint(self) -> StsEndpoint | CallFailed:
        return await self._opening.run(lambda: StsEndpoint.open(self._settings, self._clients))

    async def _call(self, keys: Keys, request: RoleRequest, turn_at: float, until: float) -> RoleSession | CallFailed:
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
class Witnesses:
    """Roles that tell whether the denial of another role is that role's fault or our own identity's.

    STS answers AccessDenied both for a trust policy that does not admit us and for an identity of ours that may not
    call AssumeRole. One role does not show which. Roles of other accounts do: when one of them is granted just then,
    our identity may call AssumeRole.
    """

    __slots__ = ("_granted",)

    def __init__(self) -> None:
        self._granted: dict[str, RoleRequest] = {}
        """By account the roles that were granted, the last one last. There are enough for each role."""

    def granted(self, request: RoleRequest) -> None:
        """This role was assumed."""
        account = _account_of(request)
        self._granted.pop(account, None)
        self._granted[account] = request
        if len(self._granted) > WITNESSES + 1:
            del self._granted[next(iter(self._granted))]

    def forget(self, role_arn: str) -> None:
        """No document names this role any more."""
        self._granted = {account: one for account, one in self._granted.items() if one["RoleArn"] != role_arn}

    def against(self, denied: RoleRequest, known: Iterable[RoleRequest]) -> list[RoleRequest]:
        """The roles of other accounts to ask for, at most one of each: first those that were granted last."""
        found: dict[str, RoleRequest] = {}
        for one in chain(reversed(self._granted.values()), known):
            if len(found) == WITNESSES:
                break
            if (account := _account_of(one)) != _account_of(denied):
                found.setdefault(account, one)
        return list(found.values())


def _account_of(request: RoleRequest) -> str:
    return Arn.of(request["RoleArn"]).account
