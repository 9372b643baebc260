"""The bus port, spoken to Amazon EventBridge: one light record per destination, one endpoint per region."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiohttp
import botocore.session
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore import UNSIGNED
from botocore.exceptions import EndpointProviderError, InvalidRegionError, NoRegionError, UnknownRegionError

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import BusStatus, Reply
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.credentials import KeySource, key_source
from pushrail_stream.eventbridge.endpoint import Endpoint
from pushrail_stream.eventbridge.entry import RegionLimits, entry_size, render_batch
from pushrail_stream.eventbridge.error_codes import (
    AWS_SETTINGS_UNUSABLE,
    REFUSED_BEFORE_AWS,
    CallFailed,
    CallReply,
    interpret,
    is_ours,
    judge_check,
)
from pushrail_stream.eventbridge.sign_in import SignInService
from pushrail_stream.eventbridge.signing import DESCRIBE_EVENT_BUS, Keys, Signer, SigV4Clock
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.eventbridge.sts import SESSION_SECS, StsOptions
from pushrail_stream.ports.pipeline import SignIns
from pushrail_stream.settings.eventbridge import AssumeRole, auth_of

_PRODUCT: Final = "pushrail-stream"
"""Our name in the User-Agent, for whoever reads the customer's CloudTrail."""

_OF_A_REGION: Final = (EndpointProviderError, InvalidRegionError, NoRegionError, UnknownRegionError)
"""botocore's exceptions for a region without a known endpoint. The region's name comes from a document."""

_IDLE_SECS: Final = SESSION_SECS
"""What is kept for a destination (4 KB with a session) is dropped when unused for as long: its session is over then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBridgeOptions:
    """How to reach AWS. Endpoints are the operator's (sandbox, VPC endpoint), never a customer's."""

    endpoint_url: str | None = None
    """Takes every region's calls, ``{region}`` in it stands for the region; None: the region's own endpoint."""
    connect_timeout_secs: float = 3
    read_timeout_secs: float = 5
    sts_endpoint_url: str | None = None
    """None: the regional endpoint of ``sts_region``."""
    sts_region: str = "us-east-1"
    sts_session_policy: bool = True
    """Whether a role's sessions are confined to putting events on the one bus."""
    sts_max_calls_per_second: float = 100
    """STS allows an account 600 a second, in each region and for all its callers."""

    def endpoint_of(self, region: str) -> str | None:
        """Where the operator wants this region's buses to be called."""
        return self.endpoint_url and self.endpoint_url.replace("{region}", region)

    def sts(self, user_agent: str) -> StsOptions:
        """How to reach STS."""
        return StsOptions(
            region=self.sts_region,
            endpoint_url=self.sts_endpoint_url,
            connect_timeout_secs=self.connect_timeout_secs,
            read_timeout_secs=self.read_timeout_secs,
            user_agent=user_agent,
        )


class Endpoints:
    """One endpoint of EventBridge for each region, opened when it is first needed."""

    def __init__(self, options: EventBridgeOptions, session: AioSession, stack: AsyncExitStack) -> None:
        self._options = options
        self._session = session
        self._stack = stack
        self.user_agent = f"{session.user_agent()} {_PRODUCT}"
        self._config = AioConfig(
            connect_timeout=options.connect_timeout_secs,
            read_timeout=options.read_timeout_secs,
            # Unsigned, so that no client looks for credentials: none of the process's may sign a customer's call.
            signature_version=UNSIGNED,
            # No limit of connections: lanes bound the calls, and a bus that hangs must not use up its neighbours'.
            max_pool_connections=0,
            user_agent_extra=_PRODUCT,
        )
        # An end to the whole call beside stock's two: a reply that drips in never trips the read time-out.
        total_secs = options.connect_timeout_secs + options.read_timeout_secs
        self._timeout = aiohttp.ClientTimeout(
            total=total_secs, sock_connect=options.connect_timeout_secs, sock_read=options.read_timeout_secs
        )
        self.known: dict[str, Endpoint] = {}
        """Those that are open, by region."""
        self._openings: dict[str, SingleFlight[Endpoint | CallFailed]] = {}

    async def of(self, region: str) -> Endpoint | CallFailed:
        """The endpoint that a stock client of this region would call, or why there is none. No call is made."""
        opening = self._openings.setdefault(region, SingleFlight())
        return await opening.run(lambda: self._connect(region))

    async def _connect(self, region: str) -> Endpoint | CallFailed:
        if region in self.known:
            return self.known[region]
        url = self._options.endpoint_of(region)
        try:
            client = await self._stack.enter_async_context(
                self._session.create_client("events", region_name=region, endpoint_url=url, config=self._config)
            )
            endpoint = self.known[region] = await Endpoint.of(client, user_agent=self.user_agent, timeout=self._timeout)
        except _OF_A_REGION as error:
            return CallFailed("PutEvents", type(error).__name__, safe_message(f"no endpoint for {region}: {error}"))
        except Exception as error:  # noqa: BLE001 - settings, environment and files make botocore raise almost anything
            problem = f"buses in {region} cannot be called: {type(error).__name__}: {error}"
            return CallFailed("Credentials", AWS_SETTINGS_UNUSABLE, safe_message(problem))
        return endpoint


class _Access:
    """How to call for one destination, as its document has it now."""

    __slots__ = ("auth", "bus_arn", "region", "signed_by", "signer", "source", "used_at")

    def __init__(self, destination: Destination, source: KeySource) -> None:
        self.auth = auth_of(destination)
        self.region = destination.region
        self.bus_arn = destination.bus
        self.source = source
        self.signer: Signer | None = None
        self.signed_by: Keys | None = None
        """The keys of the last call that returned. `renew_session`, which is called right after it, is about them."""
        self.used_at = 0.0

    def fits(self, destination: Destination) -> bool:
        """Whether the destination still signs in this way. The same object nearly always, else compared by value."""
        if self.auth is destination.auth and self.bus_arn is destination.bus:
            return True
        return (self.auth, self.bus_arn, self.region) == destination.reach


class EventBridge:
    """PutEvents for any number of destinations; implements ``ports.Bus``. Made by ``EventBridge.open``."""

    def __init__(
        self, options: EventBridgeOptions, session: AioSession, stack: AsyncExitStack, now: Callable[[], datetime]
    ) -> None:
        self._stamps = SigV4Clock(now)
        self._endpoints = Endpoints(options, session, stack)
        self._sign_in = SignInService(
            options.sts(self._endpoints.user_agent),
            session,
            stack,
            narrow=options.sts_session_policy,
            now=now,
            max_calls_per_second=options.sts_max_calls_per_second,
        )
        self._region_limits = RegionLimits()
        self._accesses: dict[str, _Access] = {}
        self._swept_at = 0.0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, options: EventBridgeOptions, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> AsyncIterator[EventBridge]:
        """Ready to put until the block ends; regions and credentials are opened when first needed. ``now``: in UTC."""
        async with AsyncExitStack() as stack:
            yield cls(options, get_session(), stack, now)

    def limits(self, destination: Destination) -> CallLimits:
        """The limits of PutEvents in the destination's region."""
        return self._region_limits.of(destination.region)

    def size(self, event: Event, destination: Destination) -> int:
        """Bytes that AWS counts for the event's entry."""
        return entry_size(event, destination)

    def is_own_fault(self, code: str) -> bool:
        """Whether a delivery that waits for a retry with this code does so for our own fault."""
        return is_ours(code)

    async def put(self, batch: Batch, *, refreshed: bool) -> Reply:
        """Put the batch's events, as `ports.Bus` describes."""
        destination = batch.destination
        return interpret(
            await self.call(batch),
            batch,
            assumed_role=isinstance(destination.auth, AssumeRole),
            refreshed=refreshed,
            renew=lambda: self.renew_session(destination),
            limits=self._region_limits,
        )

    async def call(self, batch: Batch) -> CallReply:
        """Make one PutEvents call for the batch, signed with its destination's credentials; sign in first if needed."""
        destination = batch.destination
        access = self._access(destination)
        keys = await access.source.keys(access.used_at)
        if isinstance(keys, CallFailed):
            return keys
        endpoint = self._endpoints.known.get(destination.region) or await self._endpoints.of(destination.region)
        if isinstance(endpoint, CallFailed):
            return endpoint
        signer = access.signer
        if signer is None or signer.keys is not keys:
            signer = access.signer = Signer(keys, endpoint)
        reply = await endpoint.put_events(render_batch(batch), signer, self._stamps.read()[1])
        access.signed_by = keys
        if not isinstance(reply, CallFailed):
            endpoint.refusals.answered()
            return reply
        if reply.is_not_from_aws and endpoint.refusals.refused(destination.id):
            message = f"HTTP {reply.http_status} without AWS's own error, for several destinations: {reply.message}"
            return reply._replace(code=REFUSED_BEFORE_AWS, message=safe_message(message))
        return reply

    @property
    def sign_ins(self) -> SignIns:
        """What became of sign-ins so far."""
        return self._sign_in.sign_ins

    def renew_session(self, destination: Destination) -> bool:
        """The `call` that has just returned was refused for its session. Whether the next one has a newer session.

        Only the session that signed that call is dropped: of many calls in flight with one session the first refusal
        replaces it, and those that come later leave the new one alone.
        """
        access = self._accesses.get(destination.id)
        if access is None or access.signed_by is None:
            return True
        return access.source.renew(access.signed_by, self._stamps.read()[0])

    async def sign_in(self, destination: Destination) -> bool:
        """Whether there are credentials to call with; signs in for a new session when there are none."""
        access = self._access(destination)
        return not isinstance(await access.source.keys(access.used_at), CallFailed)

    async def check(self, destination: Destination) -> BusStatus:
        """Whether the destination's bus exists, asked with the destination's own credentials."""
        access = self._access(destination)
        keys = await access.source.keys(access.used_at)
        endpoint = await self._endpoints.of(destination.region)
        if isinstance(keys, CallFailed) or isinstance(endpoint, CallFailed):
            return "unknown"
        signer = Signer(keys, endpoint, DESCRIBE_EVENT_BUS)
        return judge_check(await endpoint.describe_bus(destination.bus, signer, self._stamps.read()[1]))

    def quota(self, destination: Destination) -> str:
        """Account and region of the bus: ``arn:aws:events:REGION:ACCOUNT``."""
        return destination.bus.split(":event-bus/", 1)[0]

    def forget(self, destination_id: str) -> None:
        """The destination's document is gone: forget its session, and the last answer about its role."""
        access = self._accesses.pop(destination_id, None)
        if access is not None and isinstance(access.auth, AssumeRole):
            self._sign_in.forget(access.auth.role_arn)

    def _access(self, destination: Destination) -> _Access:
        """How to call for this destination, marked as used now."""
        access = self._accesses.get(destination.id)
        if access is None or not access.fits(destination):
            self.forget(destination.id)
            source = key_source(destination, self._sign_in)
            access = self._accesses[destination.id] = _Access(destination, source)
        now = access.used_at = self._stamps.read()[0]
        if not 0 <= now - self._swept_at < _IDLE_SECS:
            self._sweep(now)
        return access

    def _sweep(self, now: float) -> None:
        """Forget the destinations that are idle."""
        self._swept_at = now
        for key in [key for key, access in self._accesses.items() if not 0 <= now - access.used_at < _IDLE_SECS]:
            self.forget(key)


def known_regions() -> list[str]:
    """Every region with EventBridge, of every AWS partition."""
    session = botocore.session.get_session()
    found: list[str] = []
    for partition in session.get_available_partitions():
        found += session.get_available_regions("events", partition)
    return found
