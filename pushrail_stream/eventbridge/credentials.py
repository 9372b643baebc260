"""Credentials of a destination: its own access key, or a session of its role got with our base credentials.

A destination without usable credentials makes no call. The process's standard chain (environment, profile, container,
instance) is used for one thing only: to call AssumeRole.
"""

from __future__ import annotations

import json
import math
import random
import re
from typing import Final, Protocol

from pushrail_stream.core.destination import Destination, Secret
from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.eventbridge.error_codes import (
    CREDENTIALS_MISSING,
    SEALING_KEY_MISSING,
    CallFailed,
)
from pushrail_stream.eventbridge.sign_in import SignInService
from pushrail_stream.eventbridge.signing import Keys, checked_keys
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.eventbridge.sts import RoleSession
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole, auth_of

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
_REPLACEMENT_KEPT_SECS: Final = 15.0
"""Seconds for which the replacement of a refused session is kept, even if it is refused too: a bus that takes none of
our sessions must not cost a sign-in per call. Less than the 30 s after which a suspended lane probes, so that every
probe whose session is refused gets a new one. AWS may also need seconds to know a new session everywhere."""
_NEVER: Final = -math.inf
_NOT_IN_SESSION_NAME: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)
_SESSION_NAME_MAX: Final = 64


class KeySource(Protocol):
    """Where a destination's keys come from."""

    async def keys(self, now: float) -> Keys | CallFailed:
        """The keys to sign with at ``now`` (epoch seconds), or why there are none."""

    def renew(self, refused: Keys, now: float) -> bool:
        """These keys were refused. Whether the next ones are newer: never for a user's own key."""


class FixedKeys:
    """An access key pair of the customer: there for good, or missing for good."""

    __slots__ = ("_keys",)

    def __init__(self, auth: AccessKey) -> None:
        self._keys: Keys | CallFailed
        if auth.access_key_id and auth.secret is not None and auth.secret.reveal():
            self._keys = _usable(auth.access_key_id, auth.secret)
        elif auth.is_waiting:
            message = "the key that opens the destination's sealed secret is not at hand"
            self._keys = CallFailed("Credentials", SEALING_KEY_MISSING, message)
        else:
            message = "the secret of the destination's access key cannot be read, or its document is refused"
            self._keys = CallFailed("Credentials", CREDENTIALS_MISSING, message)

    async def keys(self, now: float) -> Keys | CallFailed:  # noqa: ARG002 - they do not age
        """The pair, or that its secret could not be had."""
        return self._keys

    def renew(self, refused: Keys, now: float) -> bool:  # noqa: ARG002 - only a changed document brings other keys
        """There is nothing newer."""
        return False


def _usable(access_key_id: str, secret: Secret) -> Keys | CallFailed:
    """A customer's key pair, if it can sign a request: a valid document may name a bad value."""
    keys = checked_keys(access_key_id, secret.reveal(), None)
    if isinstance(keys, Keys):
        return keys
    return CallFailed("Credentials", CREDENTIALS_MISSING, f"the destination's access key cannot be used: {keys}")


class RoleKeys:
    """Sessions of a customer's role: got when first needed, renewed ahead of their end, one sign-in at a time."""

    __slots__ = (
        "_answered_at",
        "_auth",
        "_expires_at",
        "_failure",
        "_keys",
        "_name",
        "_pause_secs",
        "_policy",
        "_renewed_at",
        "_sign_in",
        "_sts",
    )

    def __init__(self, sts: SignInService, auth: AssumeRole, destination: Destination) -> None:
        self._sts = sts
        self._auth = auth
        self._name = session_name(destination.id)
        self._policy = session_policy(destination.bus) if sts.has_session_policy else None
        self._sign_in = SingleFlight[Keys | CallFailed]()
        self._keys: Keys | None = None
        self._failure: CallFailed | None = None
        self._expires_at = 0.0
        self._answered_at = 0.0
        self._pause_secs = 0.0
        """How long what STS said at ``_answered_at`` answers, before it is asked again."""
        self._renewed_at = _NEVER

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

    def renew(self, refused: Keys, now: float) -> bool:
        """Drop the session these keys belong to, unless it has just taken the place of a refused one itself.

        A sign-in in flight is new enough: all refused calls of the old session share it.
        """
        if refused is not self._keys:
            return True
        if 0 <= now - self._renewed_at < _REPLACEMENT_KEPT_SECS:
            return False
        self._keys = None
        self._renewed_at = now
        return True

    async def _renew(self) -> Keys | CallFailed:
        session = await self._sts.assume_role(self._auth, self._name, self._policy)
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


def key_source(destination: Destination, sts: SignInService) -> KeySource:
    """The source for this destination's way of signing in. No call is made yet."""
    match auth_of(destination):
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
