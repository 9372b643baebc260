"""`ports.pipeline.Bus` for Amazon EventBridge: one light record per destination, one endpoint per region."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import botocore.session
from botocore.exceptions import EndpointProviderError, InvalidRegionError, NoRegionError, UnknownRegionError

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.destination import CustomerBus, Destination
from pushrail_stream.core.outcome import BusStatus, Reply
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.credentials import KeySource, key_source, role_request
from pushrail_stream.eventbridge.endpoint import Endpoint
from pushrail_stream.eventbridge.endpoint_partner import PartnerEndpoint
from pushrail_stream.eventbridge.endpoint_v2 import EndpointV2
from pushrail_stream.eventbridge.entry import RegionLimits, entry_size
from pushrail_stream.eventbridge.error_codes import (
    AWS_SETTINGS_UNUSABLE,
    REFUSED_BEFORE_AWS,
    CallFailed,
    CallReply,
    blame_us,
    interpret,
    is_our_fault,
    judge_check,
)
from pushrail_stream.eventbridge.http import StockClients
from pushrail_stream.eventbridge.refusals import ProxyRefusals
from pushrail_stream.eventbridge.sign_in import RoleRequest, SignInService
from pushrail_stream.eventbridge.signing import Keys, Signer, SigV4Clock
from pushrail_stream.eventbridge.single_flight import SingleFlight
from pushrail_stream.eventbridge.sts import SESSION_SECS
from pushrail_stream.ports.pipeline import SignIns
from pushrail_stream.settings.eventbridge import FLAVOURS, PARTNER, V2, AccessKey, AssumeRole, OwnIdentity, auth_of
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient

_OF_A_REGION: Final = (EndpointProviderError, InvalidRegionError, NoRegionError, UnknownRegionError)
"""botocore's exceptions for a region without a known endpoint. A region's name comes from a document."""

_IDLE_SECS: Final = SESSION_SECS
"""Seconds without use after which a destination's record (4 KB with a session) is dropped. Its session has ended by
then."""


class Endpoints:
    """One endpoint for each region, one for partners there, and one for each account with buses of eventbridgev2.

    Each is opened when it is needed.
    """

    def __init__(self, settings: EventBridgeSettings, clients: StockClients) -> None:
        self._settings = settings
        self._clients = clients
        self._openings: dict[str, SingleFlight[Endpoint | EndpointV2 | CallFailed]] = {}
        self._of_regions: dict[str, SingleFlight[tuple[AioBaseClient, ProxyRefusals]]] = {}
        """The stock clients of eventbridgev2, by region."""

    async def of(self, bus: CustomerBus) -> Endpoint | EndpointV2 | CallFailed:
        """The endpoint that a stock client would call for the bus, or why there is none. No call is made."""
        key = bus.arn.rpartition(":")[0] if bus.type == V2.type else f"{bus.type} {bus.region}"
        opening = self._openings.setdefault(key, SingleFlight(keep=(Endpoint, EndpointV2)))
        return await opening.run(lambda: self._connect(bus))

    async def _connect(self, bus: CustomerBus) -> Endpoint | EndpointV2 | CallFailed:
        region = bus.region
        try:
            if bus.type == V2.type:
                opening = self._of_regions.setdefault(region, SingleFlight(keep=tuple))
                client, refusals = await opening.run(lambda: self._open_v2(region))
                return await EndpointV2.of(client, self._clients, bus.arn, refusals)
            client = await self._clients.open("events", region, _url(self._settings.endpoint_url, region))
            return await (PartnerEndpoint if bus.type == PARTNER.type else Endpoint).of(client, self._clients)
        except _OF_A_REGION as error:
            return CallFailed("PutEvents", type(error).__name__, safe_message(f"no endpoint for {region}: {error}"))
        except Exception as error:  # noqa: BLE001 - settings, environment and files make botocore raise almost anything
            problem = f"buses in {region} cannot be called: {type(error).__name__}: {error}"
            return CallFailed("Credentials", AWS_SETTINGS_UNUSABLE, safe_message(problem))

    async def _open_v2(self, region: str) -> tuple[AioBaseClient, ProxyRefusals]:
        url = self._settings.v2_endpoint_url or self._settings.endpoint_url
        return await self._clients.open_v2(region, _url(url, region)), ProxyRefusals()


def _url(setting: str | None, region: str) -> str | None:
    return setting and setting.replace("{region}", region)


class _Access:
    """The way to call for one destination, by its present document."""

    __slots__ = ("destination", "endpoint", "signed_by", "signer", "source", "used_at")

    def __init__(self, destination: Destination, source: KeySource) -> None:
        self.destination = destination
        self.source = source
        self.endpoint: Endpoint | EndpointV2 | None = None
        self.signer: Signer | None = None
        self.signed_by: Keys | None = None
        """The keys of the last call that returned, for `renew_session`, which is called right after it."""
        self.used_at = 0.0


class EventBridge:
    """The buses of any number of destinations, of every flavour. Made by `EventBridge.open`."""

    size = staticmethod(entry_size)
    is_our_fault = staticmethod(is_our_fault)

    def __init__(
        self,
        settings: EventBridgeSettings,
        sts: StsSettings,
        stack: AsyncExitStack,
        now: Callable[[], datetime],
    ) -> None:
        clients = StockClients(stack, settings)
        self._clock = SigV4Clock(now)
        self._endpoints = Endpoints(settings, clients)
        self._sign_in = SignInService(sts, clients, now, self._known_roles)
        self.destinations: Callable[[], Iterable[Destination]] = tuple
        """Gives the destinations in use. Their roles tell whether a denied role is its customer's fault or ours."""
        self._region_limits = RegionLimits()
        self._accesses: dict[str, _Access] = {}
        self._swept_at = 0.0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: EventBridgeSettings, sts: StsSettings, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> AsyncIterator[EventBridge]:
        """Open until the block ends. Regions and credentials are opened when first needed. ``now``: in UTC."""
        async with AsyncExitStack() as stack:
            yield cls(settings, sts, stack, now)

    def limits(self, destination: Destination) -> CallLimits:
        """The limits of the bus's flavour in the destination's region."""
        return self._region_limits.of(destination)

    async def put(self, batch: Batch, *, refreshed: bool) -> Reply:
        """Make one PutEvents call and interpret its reply."""
        destination = batch.destination
        reply = interpret(
            await self.call(batch),
            batch,
            assumed_role=not isinstance(destination.bus.auth, AccessKey),
            refreshed=refreshed,
            renew=lambda: self.renew_session(destination),
            limits=self._region_limits,
        )
        return blame_us(reply) if isinstance(destination.bus.auth, OwnIdentity) else reply

    async def call(self, batch: Batch) -> CallReply:
        """Make one PutEvents call for the batch, signed with its destination's credentials; sign in first if needed."""
        destination = batch.destination
        access = self._access(destination)
        keys = access.source.at_hand(access.used_at) or await access.source.keys(access.used_at)
        if isinstance(keys, CallFailed):
            return keys
        endpoint = access.endpoint
        if endpoint is None:
            found = await self._endpoints.of(destination.bus)
            if isinstance(found, CallFailed):
                return found
            endpoint = access.endpoint = found
        signer = access.signer
        if signer is None or signer.keys is not keys:
            signer = access.signer = endpoint.signer(keys)
        events = [delivery.event for delivery in batch.deliveries]
        reply = await endpoint.put_events(destination, events, signer, self._clock.read()[1])
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
        """The sign-ins so far, by outcome."""
        return self._sign_in.sign_ins

    async def check_own_credentials(self) -> CallFailed | None:
        """Why no role can be assumed with our own credentials; None if that is not known to fail."""
        return await self._sign_in.check()

    def renew_session(self, destination: Destination) -> bool:
        """Drop the session of the `call` that has just returned; return whether the next call has a newer one.

        Of many calls in flight with one session, the first refusal replaces it. Later ones leave the new session alone.
        """
        access = self._accesses.get(destination.id)
        if access is None or access.signed_by is None:
            return True
        return access.source.renew(access.signed_by, self._clock.read()[0])

    def must_sign_in(self, destination: Destination) -> bool:
        """Whether a call now would sign in first, or renew the session."""
        access = self._accesses.get(destination.id)
        if access is None or access.destination is not destination:
            return True
        return access.source.at_hand(self._clock.read()[0]) is None

    async def sign_in(self, destination: Destination, *, patient: bool = False) -> bool:
        """Return whether there are credentials to call with; sign in when there are none."""
        access = self._access(destination)
        return not isinstance(await access.source.keys(access.used_at, patient=patient), CallFailed)

    async def check(self, destination: Destination) -> BusStatus:
        """Return whether the bus exists. The destination's own credentials sign the question.

        No question is needed where calls tell that their bus is missing.
        """
        if FLAVOURS[destination.bus.type].tells_missing:
            return "there"
        access = self._access(destination)
        keys = await access.source.keys(access.used_at)
        endpoint = await self._endpoints.of(destination.bus)
        if isinstance(keys, CallFailed) or isinstance(endpoint, CallFailed):
            return "unknown"
        return judge_check(await endpoint.describe_bus(destination.bus.arn, keys, self._clock.read()[1]))

    def quota(self, destination: Destination) -> str:
        """``arn:aws:events:REGION:ACCOUNT`` of the bus, or our own account; the bus's ARN where `check` asks nobody."""
        bus = destination.bus
        if FLAVOURS[bus.type].signs_as_us:
            return f"our account in {bus.region}"
        return bus.arn if FLAVOURS[bus.type].tells_missing else bus.arn.rpartition(":")[0]

    def forget(self, destination_id: str) -> None:
        """Drop the destination's session and the last answer about its role."""
        access = self._accesses.pop(destination_id, None)
        if access is not None and isinstance(auth := auth_of(access.destination), AssumeRole):
            self._sign_in.forget(auth.role_arn)

    def _known_roles(self) -> Iterator[RoleRequest]:
        for destination in self.destinations():
            if isinstance(auth := auth_of(destination), AssumeRole):
                yield role_request(destination, auth, has_policy=self._sign_in.has_session_policy)

    def _access(self, destination: Destination) -> _Access:
        """The way to call for this destination, marked as used now."""
        access = self._accesses.get(destination.id)
        # Nearly always the objects are the same.
        if access is None or (access.destination is not destination and access.destination.bus != destination.bus):
            self.forget(destination.id)
            source = key_source(destination, self._sign_in)
            access = self._accesses[destination.id] = _Access(destination, source)
        access.destination = destination
        now = access.used_at = self._clock.read()[0]
        if not 0 <= now - self._swept_at < _IDLE_SECS:
            self._sweep(now)
        return access

    def _sweep(self, now: float) -> None:
        """Forget the idle destinations."""
        self._swept_at = now
        for key in [key for key, access in self._accesses.items() if not 0 <= now - access.used_at < _IDLE_SECS]:
            self.forget(key)


def known_regions() -> list[str]:
    """Every region with EventBridge in botocore's list of endpoints. Another one is new, or misspelt."""
    session = botocore.session.get_session()
    found: list[str] = []
    for partition in session.get_available_partitions():
        found += session.get_available_regions("events", partition)
    return found
