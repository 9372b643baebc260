"""Credentials of a destination: its own access key, or a session of its role got with our base credentials.

A destination without usable credentials makes no call. The process's standard chain (environment, profile, container,
instance) is used for one thing only: to call AssumeRole.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from pushrail_stream.core.destination import AccessKey, AssumeRole, Destination, Secret
from pushrail_stream.core.outcome import (
    BASE_CREDENTIALS_DENIED,
    BASE_CREDENTIALS_MISSING,
    CREDENTIALS_MISSING,
    SEALING_KEY_MISSING,
    SIGN_INS_QUEUED,
    CallFailed,
)
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.denials import Denials
from pushrail_stream.eventbridge.failures import no_reply
from pushrail_stream.eventbridge.shared import Shared
from pushrail_stream.ports import SignIns

if TYPE_CHECKING:
    from types_aiobotocore_sts.client import STSClient
    from types_aiobotocore_sts.type_defs import AssumeRoleRequestTypeDef

SESSION_SECS: Final = 3600
"""Life of a role's session. Role chaining allows no more; 900 would ask STS for every call (facts 1.4)."""
_RENEW_FROM: Final = 0.6
_RENEW_TO: Final = 0.8
"""The part of a session's life after which it is renewed ahead is drawn between these: sessions that began together,
when a worker started, are renewed over twelve minutes. A destination without calls renews nothing."""
SESSION_ACTIONS: Final = ("events:PutEvents", "events:DescribeEventBus")
"""What a session may do at most, and on its destination's bus alone, whatever else the role allows."""
_RENEW_PAUSE_SECS: Final = 30.0
"""After a failed renewal the session is used on, and STS left alone for as long."""
_FIRST_PAUSE_SECS: Final = 1.0
_LONGEST_PAUSE_SECS: Final = 15.0
"""A failed sign-in answers for 1 s, then 2, 4, 8 and 15: a thousand destinations in an outage of STS ask it 67 times a
second, of 600 an account may. Less than half of the 30 s after which a suspended lane probes: each probe asks anew."""
_STS_CONNECTIONS: Final = 0
"""No limit: the rate of sign-ins bounds them, and roles whose sign-in hangs must not use up the others' share."""
_REPLACEMENT_KEPT_SECS: Final = 15.0
"""A session that took the place of a refused one is kept for as long, were it refused too: a bus that takes none of
our sessions must not cost a sign-in per call. AWS may also need seconds to know a new session everywhere."""
_NEVER: Final = -math.inf
_NOT_IN_SESSION_NAME: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)
_SESSION_NAME_MAX: Final = 64
_BASE_MISSING: Final = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound)


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs a call. Keys are told apart by identity: each sign-in makes new ones."""

    access_key_id: str
    secret: Secret
    token: Secret | None
    """Session token; None for a user's own access key."""


class RoleSession(NamedTuple):
    """What AssumeRole gave."""

    keys: Keys
    expires_at: float
    """Epoch seconds."""


class KeySource(Protocol):
    """Where a destination's keys come from."""

    async def keys(self, now: float) -> Keys | CallFailed:
        """The keys to sign with at ``now`` (epoch seconds), or why there are none."""

    def forget(self, refused: Keys, now: float) -> None:
        """These keys were refused: sign in anew where that is possible, unless it has been done since."""


class FixedKeys:
    """An access key pair of the customer: there for good, or missing for good."""

    __slots__ = ("_keys",)

    def __init__(self, auth: AccessKey) -> None:
        self._keys: Keys | CallFailed
        if auth.access_key_id and auth.secret is not None and auth.secret.reveal():
            self._keys = Keys(auth.access_key_id, auth.secret, None)
        elif auth.is_waiting:
            message = "the key that opens the destination's sealed secret is not at hand"
            self._keys = CallFailed("Credentials", SEALING_KEY_MISSING, message)
        else:
            message = "the secret of the destination's access key cannot be read, or its document is refused"
            self._keys = CallFailed("Credentials", CREDENTIALS_MISSING, message)

    async def keys(self, now: float) -> Keys | CallFailed:  # noqa: ARG002 - they do not age
        """The pair, or that its secret could not be had."""
        return self._keys

    def forget(self, refused: Keys, now: float) -> None:
        """There is nothing to get anew: only a changed document brings other keys."""


class RoleKeys:
    """Sessions of a customer's role: got when first needed, renewed ahead of their end, one sign-in at a time."""

    __slots__ = (
        "_answered_at",
        "_auth",
        "_bus_arn",
        "_expires_at",
        "_failure",
        "_forgot_at",
        "_keys",
        "_name",
        "_pause_secs",
        "_sign_in",
        "_sts",
    )

    def __init__(self, sts: Sts, auth: AssumeRole, destination: Destination) -> None:
        self._sts = sts
        self._auth = auth
        self._name = session_name(destination.id)
        self._bus_arn = destination.bus_arn
        self._sign_in = Shared[Keys | CallFailed]()
        self._keys: Keys | None = None
        self._failure: CallFailed | None = None
        self._expires_at = 0.0
        self._answered_at = 0.0
        self._pause_secs = 0.0
        """How long what STS said at ``_answered_at`` answers, before it is asked again."""
        self._forgot_at = _NEVER

    async def keys(self, now: float) -> Keys | CallFailed:
        """The session's keys. Ahead of its end one caller renews it while the others use it on."""
        # From both sides: a clock that was set back must not make a failure last.
        if 0 <= now - self._answered_at < self._pause_secs:
            known = self._keys or self._failure
            if known is not None:
                return known
        if self._sign_in.busy and self._keys is not None and now < self._expires_at:
            return self._keys
        return await self._sign_in.run(self._renew)

    def forget(self, refused: Keys, now: float) -> None:
        """Drop the session these keys belong to, unless it has just taken the place of a refused one itself.

        A sign-in under way is new enough: all refused calls of the old session share it.
        """
        if refused is self._keys and not 0 <= now - self._forgot_at < _REPLACEMENT_KEPT_SECS:
            self._keys = None
            self._forgot_at = now

    async def _renew(self) -> Keys | CallFailed:
        session = await self._sts.assume_role(self._auth, self._name, self._bus_arn)
        # The time of the answer: an STS that took seconds to fail would otherwise be asked again at once.
        now = self._answered_at = self._sts.now().timestamp()
        if isinstance(session, RoleSession):
            self._keys, self._failure, self._expires_at = session.keys, None, session.expires_at
            part = _RENEW_FROM + (_RENEW_TO - _RENEW_FROM) * random.random()  # noqa: S311 - it only spreads renewals
            self._pause_secs = part * (session.expires_at - now)
            self._sts.refreshed += 1
            return session.keys
        if self._keys is not None and now < self._expires_at:
            self._pause_secs = min(_RENEW_PAUSE_SECS, self._expires_at - now)
            self._sts.kept += 1
            return self._keys
        is_queued = session.code == SIGN_INS_QUEUED
        self._sts.failed += not is_queued
        failed_before = self._failure is not None and not is_queued
        self._pause_secs = min(2 * self._pause_secs, _LONGEST_PAUSE_SECS) if failed_before else _FIRST_PAUSE_SECS
        self._keys, self._failure = None, session
        return session


class Sts:
    """AssumeRole with the process's base credentials."""

    def __init__(
        self,
        session: AioSession,
        stack: AsyncExitStack,
        config: AioConfig,
        *,
        region: str,
        endpoint_url: str | None,
        deadline_secs: float,
        narrow: bool,
        now: Callable[[], datetime],
        max_calls_per_second: float,
    ) -> None:
        """``narrow``: each session is confined to its destination's bus by a session policy. ``now``: in UTC."""
        self.now = now
        self._session = session
        self._stack = stack
        self._config = config.merge(AioConfig(max_pool_connections=_STS_CONNECTIONS))
        self._region = region
        self._endpoint_url = endpoint_url
        self._deadline_secs = deadline_secs
        self._narrow = narrow
        self._gap_secs = 1 / max_calls_per_second
        self._next_at = 0.0
        self._opening = Shared["STSClient | CallFailed"]()
        self._client: STSClient | None = None
        self._denials = Denials()
        self.refreshed = self.failed = self.kept = self._calls = self._refusals = 0

    @property
    def sign_ins(self) -> SignIns:
        """What became of sign-ins so far."""
        return SignIns(self.refreshed, self.failed, self.kept, self._calls, self._refusals)

    async def assume_role(self, auth: AssumeRole, name: str, bus_arn: str) -> RoleSession | CallFailed:
        """A new session for this bus, or why there is none. Ends within the deadline, waiting for a turn included."""
        wait_secs = self._turn()
        if wait_secs > self._deadline_secs / 2:
            message = f"more than {1 / self._gap_secs:.0f} sign-ins a second are due (sts.max_calls_per_second)"
            return CallFailed("AssumeRole", SIGN_INS_QUEUED, message)
        self._next_at += self._gap_secs
        request: AssumeRoleRequestTypeDef = {
            "RoleArn": auth.role_arn,
            "RoleSessionName": name,
            "ExternalId": auth.external_id,
            "DurationSeconds": SESSION_SECS,
        }
        if self._narrow:
            request["Policy"] = session_policy(bus_arn)
        self._calls += 1
        answer = await self._call(request, wait_secs)
        if isinstance(answer, RoleSession):
            self._denials.granted(auth.role_arn)
            return answer
        self._refusals += 1
        if answer.code == "AccessDenied" and self._denials.denied(auth.role_arn):
            message = f"AssumeRole is denied for every role, so it is our own identity's fault: {answer.message}"
            return answer._replace(code=BASE_CREDENTIALS_DENIED, message=safe_message(message))
        return answer

    async def _call(self, request: AssumeRoleRequestTypeDef, wait_secs: float) -> RoleSession | CallFailed:
        try:
            async with asyncio.timeout(self._deadline_secs):
                await asyncio.sleep(wait_secs)
                return await self._ask(request)
        except ClientError as error:
            return _refused(error)
        except _BASE_MISSING as error:
            return _base_missing(error)
        except ParamValidationError as error:
            # STS would say the same of it.
            return CallFailed("AssumeRole", "ValidationError", safe_message(str(error)))
        except (HTTPClientError, BotoConnectionError, OSError) as error:
            return no_reply("AssumeRole", error)
        except (BotoCoreError, ValueError) as error:
            # A setting or a reply that botocore cannot use.
            return CallFailed("AssumeRole", type(error).__name__, safe_message(str(error)))

    async def _ask(self, request: AssumeRoleRequestTypeDef) -> RoleSession | CallFailed:
        client = self._client or await self._opening.run(self._open)
        if isinstance(client, CallFailed):
            return client
        given = (await client.assume_role(**request))["Credentials"]
        keys = Keys(given["AccessKeyId"], Secret(given["SecretAccessKey"]), Secret(given["SessionToken"]))
        return RoleSession(keys, given["Expiration"].timestamp())

    def _turn(self) -> float:
        """Seconds until the next sign-in may be made."""
        now = asyncio.get_running_loop().time()
        self._next_at = max(self._next_at, now)
        return self._next_at - now

    async def _open(self) -> STSClient | CallFailed:
        if self._client is None:
            if await self._session.get_credentials() is None:
                return _base_missing(NoCredentialsError())
            self._client = await self._stack.enter_async_context(
                self._session.create_client(
                    "sts", region_name=self._region, endpoint_url=self._endpoint_url, config=self._config
                )
            )
        return self._client


def key_source(destination: Destination, sts: Sts) -> KeySource:
    """The source for this destination's way of signing in. No call is made yet."""
    match destination.auth:
        case AccessKey() as auth:
            return FixedKeys(auth)
        case AssumeRole() as auth:
            return RoleKeys(sts, auth, destination)


def session_policy(bus_arn: str) -> str:
    """A session policy, at most 2,048 characters (STS service model): the least that delivering takes."""
    statement = {"Effect": "Allow", "Action": SESSION_ACTIONS, "Resource": bus_arn}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))


def session_name(destination_id: str) -> str:
    r"""RoleSessionName, which the customer sees in CloudTrail: 2..64 of ``[\w+=,.@-]`` (STS service model)."""
    return f"pushrail-{_NOT_IN_SESSION_NAME.sub('-', destination_id)}"[:_SESSION_NAME_MAX]


def _refused(error: ClientError) -> CallFailed:
    said, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    return CallFailed(
        "AssumeRole",
        str(said.get("Code") or meta.get("HTTPStatusCode")),
        safe_message(said.get("Message") or ""),
        meta.get("HTTPStatusCode"),
        meta.get("RequestId"),
    )


def _base_missing(error: Exception) -> CallFailed:
    message = f"no credentials of our own to call AssumeRole with: {error}"
    return CallFailed("Credentials", BASE_CREDENTIALS_MISSING, safe_message(message))
