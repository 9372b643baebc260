"""Our client, a bus that knows one customer's role and key, and a clock for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import CallFailed, CallReply
from pushrail_stream.sandbox.bus.faults import Match
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole, Auth
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import BUS, batch
from tests.support.builders import destination
from tests.support.patience import PATIENCE_SECS

ROLE = "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"
ASSUME = AssumeRole(ROLE, "acme-ext-7Pq2")
KEY, SECRET = "AKIACUSTOMER00000000", "customer-secret"
GOOD_KEY = AccessKey(KEY, Secret(SECRET))
ON_ASSUME = Match(operation="AssumeRole")
START = datetime(2026, 11, 2, 10, 0, tzinfo=UTC).timestamp()


@dataclass
class Clock:
    """Time for the bus and for us; it stands still until moved."""

    epoch: float = START

    def __call__(self) -> float:
        return self.epoch

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.epoch, UTC)


@asynccontextmanager
async def world(
    base: tuple[str, str] | None,
    clock: Clock | None = None,
    *,
    sts_session_policy: bool = True,
    read_timeout_secs: float = 5,
    sts_max_calls_per_second: float = 100,
) -> AsyncIterator[tuple[EventBridge, FaultBus]]:
    """Us and a bus. With a ``clock`` the bus cannot check signatures, since STS is called with the real time."""
    config = BusConfig() if clock is None else BusConfig(clock=clock, check_signatures=False)
    async with FaultBus.serve(config) as server:
        server.add_bus(BUS)
        server.add_role(ROLE, external_id=ASSUME.external_id)
        server.add_key(KEY, SECRET)
        if base is not None:
            server.add_key(*base)
        options = EventBridgeSettings(
            endpoint_url=server.url, connect_timeout_secs=5, read_timeout_secs=read_timeout_secs
        )
        sts = StsSettings(
            endpoint_url=server.url,
            session_policy=sts_session_policy,
            max_calls_per_second=sts_max_calls_per_second,
        )
        now = (lambda: datetime.now(UTC)) if clock is None else clock.now
        async with EventBridge.open(options, sts, now=now) as us:
            if base is not None:  # there are credentials, which a slow machine only finds later
                us._sign_in.own_keys._first_wait_secs = PATIENCE_SECS
            yield us, server


def to(auth: Auth, identity: str = "dst_acme") -> Batch:
    return batch(destination(auth=auth, id=identity))


def keys_used(server: FaultBus) -> list[str]:
    return [call.access_key for call in server.calls]


def failed(reply: CallReply) -> tuple[str, str, int | None]:
    assert isinstance(reply, CallFailed), reply
    return reply.operation, reply.code, reply.http_status


async def at_once(us: EventBridge, one: Batch, times: int) -> list[CallReply]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(us.call(one)) for _ in range(times)]
    return [task.result() for task in running]
