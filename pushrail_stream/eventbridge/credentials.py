"""Credentials of a destination: its own access key, or a session of its role, opened with our base credentials.

A destination without usable credentials makes no call. The process's standard chain of credentials signs AssumeRole,
and the calls of destinations whose type says so, which are partner event sources.
"""

from __future__ import annotations

import json
import math
import random
import re
from typing import Final

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.core.pacing import Backoff
from pushrail_stream.eventbridge.error_codes import CREDENTIALS_MISSING, SEALING_KEY_MISSING, CallFailed
from pushrail_stream.eventbridge.own_identity import OwnKeys
from pushrail_stream.eventbridge.sign_in import RoleRequest, SignInService
from pushrail_stream.eventbridge.signing import Keys, checked_keys
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.eventbridge.sts import RoleSession, assume_role_request
from pushrail_stream.settings.eventbridge import FLAVOURS, AccessKey, AssumeRole, OwnIdentity, auth_of

_RENEW_FROM: Final = 0.6
_RENEW_TO: Final = 0.8
"""A session is renewed after a part of its life that is drawn between these: sessions that began together, when a
worker started, are renewed over twelve minutes. A destination without calls renews nothing."""
_RENEW_PAUSE_SECS: Final = 30.0
"""Seconds between two attempts to renew a session that is still valid."""
_BACKOFF: Final = Backoff(1.0, 15.0)
"""A failed sign-in is the answer for 1 s, then for 2, 4, 8 and 15 s. A thousand destinations then ask STS 67 times a
second during its outage, of the 600 that an account may. 15 s are less than half of the 30 s after which a suspended
lane probes, so each probe signs in again."""
_REPLACEMENT_KEPT_SECS: Final = 15.0
"""Seconds for which the replacement of a refused session is kept, even if it is refused too: a bus that takes none of
our sessions must not cost a sign-in per call, and AWS may need seconds to know a new session everywhere. Less than the
30 s after which a suspended lane probes, so each probe whose session is refused gets a new one."""
_NOT_IN_SESSION_NAME: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)
_SESSION_NAME_MAX: Final = 64


class FixedKeys:
    """An access key pair of the customer. It is valid, or missing, until the document changes."""

    __slots__ = ("_keys",)

    def __init__(self, auth: AccessKey) -> None:
        self._keys: Keys | CallFailed
        if auth.access_key_id and auth.secret is not None and auth.secret.reveal():
            keys = checked_keys(auth.access_key_id, auth.secret.reveal(), None)
            message = f"the destination's access key cannot be used: {keys}"
            self._keys = CallFailed("Credentials", CREDENTIALS_MISSING, message) if isinstance(keys, str) else keys
        elif auth.is_waiting:
            message = "the key that decrypts the destination's sealed secret is not available"
            self._keys = CallFailed("Credentials", SEALING_KEY_MISSING, message)
        else:
            message = "the secret of the destination's access key cannot be read, or its document is refused"
            self._keys = CallFailed("Credentials", CREDENTIALS_MISSING, message)

    def at_hand(self, now: float) -> Keys | CallFailed:  # noqa: ARG002 - they do not age
        """The pair, or the reason why it is missing."""
        return self._keys

    async def keys(self, now: float, *, patient: bool = False) -> Keys | CallFailed:  # noqa: ARG002 - nothing to wait for
        """As `at_hand`."""
        return self.at_hand(now)

    def renew(self, refused: Keys, now: float) -> bool:  # noqa: ARG002 - only a changed document brings other keys
        """Return False: there are no newer keys."""
        return False


class RoleKeys:
    """Sessions of a customer's role: opened when first needed and renewed before they end, one sign-in at a time."""

    __slots__ = (
        "_answered_at", "_expires_at", "_failure", "_failures", "_keys", "_pause_secs", "_renewed_at", "_request",
        "_sign_in", "_sts",
    )  # fmt: skip

    def __init__(self, sts: SignInService, request: RoleRequest) -> None:
        self._sts = sts
        self._request = request
        self._sign_in = SingleFlight[Keys | CallFailed]()
        self._keys: Keys | None = None
        self._failure: CallFailed | None = None
        self._expires_at = 0.0
        self._failures = 0
        """Failed sign-ins in a row."""
        self._answered_at = 0.0
        self._pause_secs = 0.0
        """Seconds after ``_answered_at`` for which the answer of STS holds."""
        self._renewed_at = -math.inf

    def at_hand(self, now: float) -> Keys | CallFailed | None:
        """The answer of `keys` that needs no sign-in; None when it signs in.

        Before a session ends, one caller renews it while the others go on using it.
        """
        # Compared on both sides: a failure must not last because the clock was set back.
        if 0 <= now - self._answered_at < self._pause_secs:
            known = self._keys or self._failure
            if known is not None:
                return known
        if self._sign_in.busy and self._keys is not None and now < self._expires_at:
            return self._keys
        return None

    async def keys(self, now: float, *, patient: bool = False) -> Keys | CallFailed:
        """The session's keys at ``now`` (epoch seconds), or the reason why there are none.

        ``patient``: wait for the turn to sign in, for any time.
        """
        known = self.at_hand(now)
        return await self._sign_in.run(lambda: self._renew(patient=patient)) if known is None else known

    def renew(self, refused: Keys, now: float) -> bool:
        """Drop the session of these keys; return whether the next call has a newer one.

        A session that has just replaced a refused one is kept. A sign-in in progress is new enough: all refused calls
        of the old session share it.
        """
        if refused is not self._keys:
            return True
        if 0 <= now - self._renewed_at < _REPLACEMENT_KEPT_SECS:
            return False
        self._keys = None
        self._renewed_at = now
        return True

    async def _renew(self, *, patient: bool) -> Keys | CallFailed:
        session = await self._sts.assume_role(self._request, patient=patient)
        # The time of the answer: an STS that took seconds to fail would otherwise be asked again at once.
        now = self._answered_at = self._sts.now().timestamp()
        if isinstance(session, RoleSession):
            self._keys, self._failure, self._expires_at = session.keys, None, session.expires_at
            self._failures = 0
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
        self._failures = 1 if is_queued else self._failures + 1
        self._pause_secs = _BACKOFF.pause_secs(self._failures)
        self._keys, self._failure = None, session
        return session


class OurKeys:
    """Our own credentials, for the types of destinations that we sign with them."""

    __slots__ = ("_own",)

    def __init__(self, own: OwnKeys) -> None:
        self._own = own

    def at_hand(self, now: float) -> Keys | CallFailed | None:  # noqa: ARG002 - the chain has a clock of its own
        """The last answer of the chain while it holds."""
        return self._own.at_hand()

    async def keys(self, now: float, *, patient: bool = False) -> Keys | CallFailed:  # noqa: ARG002 - nobody has a turn
        """Our keys, or the reason why there are none."""
        return await self._own.keys()

    def renew(self, refused: Keys, now: float) -> bool:  # noqa: ARG002 - as in at_hand
        """Have the chain read again; return whether the next call has newer keys."""
        self._own.refused(refused)
        return self._own.at_hand() is not refused


KeySource = FixedKeys | RoleKeys | OurKeys


def key_source(destination: Destination, sts: SignInService) -> KeySource:
    """The source of this destination's keys. No call is made yet."""
    auth = auth_of(destination)
    if isinstance(auth, AccessKey):
        return FixedKeys(auth)
    if isinstance(auth, OwnIdentity):
        # Only the type lets our own credentials sign, whatever made the destination.
        is_meant = FLAVOURS[destination.bus.type].signs_as_us
        return OurKeys(sts.own_keys) if is_meant else FixedKeys(AccessKey("", None))
    return RoleKeys(sts, role_request(destination, auth, has_policy=sts.has_session_policy))


def role_request(destination: Destination, auth: AssumeRole, *, has_policy: bool) -> RoleRequest:
    """The request for a session of a destination's role. ``has_policy``: whether a session policy narrows it."""
    policy = session_policy(destination) if has_policy else None
    return assume_role_request(auth.role_arn, auth.external_id, session_name(destination.id), policy)


def session_policy(destination: Destination) -> str:
    """A session policy, at most 2,048 characters (STS service model): the least that delivering takes.

    A session may do no more, and only on its destination's bus, whatever else the role allows.
    """
    statements = FLAVOURS[destination.bus.type].permissions(destination.bus.arn)
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def session_name(destination_id: str) -> str:
    r"""RoleSessionName, which the customer sees in CloudTrail: 2..64 of ``[\w+=,.@-]`` (STS service model)."""
    return f"pushrail-{_NOT_IN_SESSION_NAME.sub('-', destination_id)}"[:_SESSION_NAME_MAX]
