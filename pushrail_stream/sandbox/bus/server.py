"""The fault-injecting bus as a server: its configuration, its life, and the interface that tests and the demo use."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Self

from pushrail_stream.sandbox.bus.backend import Backend, Ids
from pushrail_stream.sandbox.bus.control import Control
from pushrail_stream.sandbox.bus.entries_v2 import PATH as V2_PATH
from pushrail_stream.sandbox.bus.event_rules import EventRules
from pushrail_stream.sandbox.bus.events import EventsService
from pushrail_stream.sandbox.bus.events_v2 import EventsV2Service
from pushrail_stream.sandbox.bus.identity import DEFAULT_ACCOUNT, SESSION_SECS, Directory, Role, permanent_credential
from pushrail_stream.sandbox.bus.injector import Injector
from pushrail_stream.sandbox.bus.ledger import Ledger
from pushrail_stream.sandbox.bus.policies import Permissions, TrustPolicy, permissions_on, trust_with
from pushrail_stream.sandbox.bus.replies import json_error
from pushrail_stream.sandbox.bus.signature import Verifier
from pushrail_stream.sandbox.bus.sts import StsService
from pushrail_stream.sandbox.bus.wire import Connection, Reply, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from pushrail_stream.sandbox.bus.faults import Rule

_ANY_ADDRESS = {"0.0.0.0", "::", ""}
_COUNTERS = (
    "calls", "entries", "arrivals", "discarded", "failedCalls", "failedEntries", "faults", "assumeRole",
    "deduplicated", "describeEventBus", "getCallerIdentity", "connections",
)  # fmt: skip


def wall_clock() -> float:
    """Epoch seconds."""
    return time.time_ns() / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class BusConfig:
    """The settings of a bus.

    ``port`` 0 takes a free one. ``tls`` makes a fresh CA and certificate and writes the CA's PEM to ``ca_path``, by
    default a temporary file. An ``open`` bus accepts every well-formed key, role and bus without declaration and checks
    neither secrets nor signatures. Without ``check_signatures`` keys must be declared, but signatures are not
    recomputed. ``clock`` gives epoch seconds, ``seed`` seeds the faults.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: bool = False
    ca_path: Path | None = None
    open: bool = False
    check_signatures: bool = True
    seed: int = 0
    clock: Callable[[], float] = wall_clock


class FaultBus:
    """A running bus; made by ``async with FaultBus.serve(config) as bus``."""

    def __init__(self, config: BusConfig) -> None:
        rng = Random(config.seed)  # noqa: S311 - faults must repeat, nothing here is a secret
        self.directory = Directory(is_open=config.open)
        self.ledger = Ledger()
        self.arrivals = self.ledger.arrivals
        """Entries that the buses took, in order of arrival."""
        self.calls = self.ledger.calls
        """PutEvents requests, refused ones included."""
        self.assumed = self.ledger.assumed
        """AssumeRole requests, refused ones included."""
        self.event_rules = EventRules(self.arrivals)
        self._injector = Injector(config.clock, Random(rng.getrandbits(64)))  # noqa: S311 - as above
        verifier = Verifier(self.directory, config.clock, check_signatures=config.check_signatures)
        backend = Backend(self.directory, verifier, self._injector, self.ledger, Ids(rng), config.clock)
        self._events = EventsService(backend)
        self._events_v2 = EventsV2Service(backend)
        self._sts = StsService(backend, rng)
        self.control = Control(self)
        self._connections: set[Connection] = set()
        self.url = ""
        self.ca_path: str | None = None

    @classmethod
    @asynccontextmanager
    async def serve(cls, config: BusConfig | None = None) -> AsyncIterator[Self]:
        """Serve until the block ends; then every connection, hanging or not, is aborted."""
        config = config if config is not None else BusConfig()
        bus = cls(config)
        with tempfile.TemporaryDirectory(prefix="pushrail-bus-") as folder:
            context = None
            if config.tls:
                path = config.ca_path if config.ca_path is not None else Path(folder) / "ca.pem"
                context = _tls_context(path)
                bus.ca_path = str(path)
            loop = asyncio.get_running_loop()
            server = await loop.create_server(bus._connect, config.host, config.port, ssl=context)
            port = server.sockets[0].getsockname()[1]
            host = "127.0.0.1" if config.host in _ANY_ADDRESS else config.host
            bus.url = f"{'https' if config.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
            try:
                yield bus
            finally:
                server.close()
                await bus._disconnect_all()
                await server.wait_closed()

    def add_bus(self, arn: str) -> None:
        """Declare a bus. As on AWS, a classic one that is not declared discards events, and one of V2 refuses them."""
        self.directory.add_bus(arn)

    def offer_source(self, bus: str) -> None:
        """Offer a partner's event source to the account of this bus, which exists when it is declared besides."""
        self.directory.offers.add(bus)

    def add_key(
        self, access_key: str, secret: str, *, account: str = DEFAULT_ACCOUNT, buses: Sequence[str] | None = None
    ) -> None:
        """Declare an access key of a user that may assume every role and put on ``buses`` (ARNs; None allows all)."""
        self.directory.add_credential(permanent_credential(access_key, secret, account, permissions_on(buses)))

    def add_role(
        self,
        role_arn: str,
        *,
        external_id: str | None = None,
        buses: Sequence[str] | None = None,
        max_session_secs: int = SESSION_SECS,
        trust_policy: dict[str, Any] | None = None,
        permissions_policies: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Declare a role: by its policies, or as one that every key may assume with this external ID, if any.

        The second kind may put on ``buses`` (None allows all). Raises FieldError for a policy that is not supported.
        """
        if trust_policy is None:
            trust, permissions = trust_with(external_id), permissions_on(buses)
        else:
            trust, permissions = TrustPolicy(trust_policy), Permissions(permissions_policies)
        self.directory.add_role(Role(role_arn, trust, permissions, max_session_secs))

    def add_rule(self, bus: str, name: str, pattern: dict[str, Any]) -> None:
        """Add an event rule: events on this bus that match ``pattern`` are in its inbox. Raises ValueError."""
        self.directory.add_bus(bus, field="bus")
        self.event_rules.add(bus, name, pattern)

    def set_plan(self, rules: Iterable[Rule]) -> None:
        """Replace the plan of faults; an empty one ends all faults."""
        self._injector.set_plan(rules)

    @property
    def plan(self) -> list[Rule]:
        """The rules in force."""
        return list(self._injector.rules)

    def counts(self) -> dict[str, int]:
        """Return `_COUNTERS` since the start or the last ``clear``, and the number of ``openConnections``."""
        counts = {name: self.ledger.counter[name] for name in _COUNTERS}
        return counts | {"openConnections": len(self._connections)}

    def clear(self) -> None:
        """Forget arrivals, calls and counts. Declarations, rules and the plan stay."""
        self.ledger.clear()

    async def wait_for_arrivals(self, number: int) -> None:
        """Wait until at least ``number`` entries have arrived since the start or the last ``clear``."""
        await self.ledger.wait_until(lambda: self.ledger.counter["arrivals"] >= number)

    async def wait_for_calls(self, number: int) -> None:
        """Wait until at least ``number`` PutEvents requests were handled, answered or not."""
        await self.ledger.wait_until(lambda: self.ledger.counter["calls"] >= number)

    def _connect(self) -> Connection:
        self.ledger.counter["connections"] += 1
        return Connection(self._handle, self._connections)

    async def _disconnect_all(self) -> None:
        while self._connections:
            for connection in list(self._connections):
                connection.abort()
            # The loop calls connection_lost in its next iteration.
            await asyncio.sleep(0)

    def _handle(self, request: Request) -> Reply:
        target = request.headers.get(b"x-amz-target")
        if target is not None and target.startswith(b"AWSEvents."):
            return self._events.handle(request, target)
        if request.path.startswith(V2_PATH):
            return self._events_v2.handle(request)
        if request.path.startswith("/_bus/"):
            return self.control.handle(request)
        if request.headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
            return self._sts.handle(request)
        return json_error(404, "UnknownOperationException", "", "")


def _tls_context(ca_path: Path) -> ssl.SSLContext:
    import trustme  # noqa: PLC0415 - only TLS needs it

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(context)
    authority.cert_pem.write_to_path(str(ca_path))
    return context
