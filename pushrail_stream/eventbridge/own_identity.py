"""Our own credentials and identity, from AWS's standard chain: environment, profile, web identity, container, instance.

Finding the credentials is a separate step, before any call is made with them. Every failure in it is our own fault,
whatever the type of the exception: a provider of the chain reads files, starts a process or calls AWS itself. The chain
blocks, so a daemon thread reads it: a provider that hangs does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple, final

import botocore.session
from botocore.credentials import Credentials
from botocore.exceptions import ProxyConnectionError

from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_MISSING, CallFailed
from pushrail_stream.eventbridge.http import StockClients
from pushrail_stream.eventbridge.signing import Keys, checked_keys
from pushrail_stream.eventbridge.sts import Identity, StsEndpoint
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings

_KEPT_SECS: Final = 30.0
"""Seconds for which keys are used before the chain is read again. The chain renews its keys minutes before they end."""
_PAUSE_SECS: Final = 5.0
"""Seconds between two readings of the chain after a failure, or when AWS refuses the keys: hundreds of destinations
must not start a credential process each."""
_FIRST_WAIT_SECS: Final = 3.0
"""Longest wait for the chain's first answer. A delivery's first call has three times as long."""
_WAIT_SECS: Final = 1.0
"""Longest wait for a later answer; after it, the last answer holds. Less than the 2 s that every call to a bus has, so
that no call is cut off because of us."""


@final
class OwnKeys:
    """Our own keys. Callers that ask at the same time share one reading of the chain. Lives on one event loop."""

    def __init__(self, now: Callable[[], datetime], first_wait_secs: float = _FIRST_WAIT_SECS) -> None:
        """``now``: in UTC."""
        self._now = now
        self._first_wait_secs = first_wait_secs
        self._chain = Chain()
        self._answer: Keys | CallFailed | None = None
        self._answered_at = 0.0
        self._is_refused = False
        self._reading: asyncio.Future[None] | None = None
        """Done when the thread that reads the chain has answered."""

    async def keys(self) -> Keys | CallFailed:
        """Our keys, or the reason why there are none. Answers within seconds, however long the chain takes."""
        if self._reading is None and self._is_due:
            self._reading = self._start()
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=self._first_wait_secs if self._answer is None else _WAIT_SECS)
        if self._answer is None:
            message = "our own credentials are not found yet: a provider of the chain does not answer"
            self._answer = CallFailed("Credentials", BASE_CREDENTIALS_MISSING, message)
        return self._answer

    def at_hand(self) -> Keys | CallFailed | None:
        """The last answer while it holds; None when `keys` would read the chain."""
        return None if self._is_due else self._answer

    def refused(self, keys: Keys) -> None:
        """AWS has refused these keys: read the chain again, unless that has happened since."""
        self._is_refused = self._is_refused or keys is self._answer

    @property
    def _is_due(self) -> bool:
        if self._answer is None:
            return True
        secs = _KEPT_SECS if isinstance(self._answer, Keys) and not self._is_refused else _PAUSE_SECS
        # Compared on both sides, so that a failure does not last when the clock is set back.
        return not 0 <= self._now().timestamp() - self._answered_at < secs

    def _start(self) -> asyncio.Future[None]:
        loop, from_scratch = asyncio.get_running_loop(), self._is_refused
        reading = loop.create_future()

        def read() -> None:
            answer = self._chain.read(from_scratch=from_scratch)
            with suppress(RuntimeError):  # the loop has ended, so no caller waits
                loop.call_soon_threadsafe(self._learn, answer)

        threading.Thread(target=read, name="own-credentials", daemon=True).start()
        return reading

    def _learn(self, answer: Keys | CallFailed) -> None:
        self._answer, self._answered_at, self._is_refused = answer, self._now().timestamp(), False
        if self._reading is not None:
            self._reading.set_result(None)
            self._reading = None


@final
class Chain:
    """The standard chain of credentials. Reading it blocks; one thread at a time does so."""

    def __init__(self) -> None:
        self._found: Credentials | None = None

    def read(self, *, from_scratch: bool = False) -> Keys | CallFailed:
        """Our keys as they are now, renewed where their provider renews keys; or the reason why there are none.

        ``from_scratch`` reads all files again, like every reading after a failure.
        """
        try:
            keys = self._look(from_scratch=from_scratch)
        except Exception as error:  # noqa: BLE001 - providers raise their own, Python's and any library's exceptions
            # A proxy's URL may hold its password, and its errors repeat the URL.
            name = type(error).__name__
            keys = name if isinstance(error, ProxyConnectionError) else f"{name}: {error}"
        if isinstance(keys, Keys):
            return keys
        self._found = None
        message = f"no credentials of our own to call AWS with: {keys}"
        return CallFailed("Credentials", BASE_CREDENTIALS_MISSING, safe_message(message))

    def _look(self, *, from_scratch: bool) -> Keys | str:
        if self._found is None or from_scratch:
            self._found = botocore.session.get_session().get_credentials()
        if self._found is None:
            return "no provider of AWS's standard chain has any"
        frozen = self._found.get_frozen_credentials()
        return checked_keys(frozen.access_key, frozen.secret_key, frozen.token or None)


PATIENCE_SECS: Final = 20.0
"""Seconds that a command waits for our own credentials: a credential process may ask a person's password manager."""


class UnknownIdentity(Exception):  # noqa: N818 - it is the sentence a person reads
    """STS did not say who we are. The message says why."""

    def __init__(self, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class Ourselves(NamedTuple):
    """Our own keys and identity, and the STS that told it."""

    keys: Keys
    identity: Identity
    sts: StsEndpoint


async def find_ourselves(settings: StsSettings, clients: StockClients) -> Ourselves:
    """The process's standard credentials and their identity. Raises `UnknownIdentity`."""
    keys = await OwnKeys(lambda: datetime.now(UTC), PATIENCE_SECS).keys()
    if isinstance(keys, CallFailed):
        raise UnknownIdentity(keys.message)
    sts = await StsEndpoint.open(settings, clients)
    if isinstance(sts, CallFailed):
        raise UnknownIdentity(f"{sts.code}: {sts.message}")
    identity = await sts.caller_identity(keys)
    if isinstance(identity, CallFailed):
        raise UnknownIdentity(f"{identity.code}: {identity.message}", identity.request_id)
    return Ourselves(keys, identity, sts)


async def own_account(sts: StsSettings, eventbridge: EventBridgeSettings) -> Identity:
    """The identity of the process's standard credentials. Raises `UnknownIdentity`."""
    async with AsyncExitStack() as stack:
        return (await find_ourselves(sts, StockClients(stack, eventbridge))).identity
