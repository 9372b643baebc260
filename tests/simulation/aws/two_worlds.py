"""One script, two worlds: the simulated AWS and the fault-injecting bus, changed by the same words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol
from unittest import mock

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.outcome import Refresh, Split, TooLarge
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.sandbox.bus.faults import (
    CallError,
    EntryError,
    Garbage,
    Hang,
    Latency,
    Match,
    ResetAfter,
    ResetBefore,
    Rule,
    Times,
)
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus, wall_clock
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.faults import Fault
from tests.simulation.aws.one_host import CUSTOMER_ARN, OUR_KEY, OneHost, environment
from tests.simulation.aws.records import Call
from tests.support.batches import BUS
from tests.support.eventbridge_world import ASSUME, KEY, ROLE, SECRET
from tests.support.patience import PATIENCE_SECS

_READ_TIMEOUT_SECS: Final = 0.3
"""Read time-out of both worlds in seconds: one of them waits for it in real time."""
_LATE_SECS: Final = 2.0
"""Delay of a late answer in seconds, beyond every time-out of a call here."""
Operation = Literal["PutEvents", "DescribeEventBus", "AssumeRole", "GetCallerIdentity"]
"""The operations that both worlds fail on demand."""
FaultName = Literal["hang", "reset_before", "reset_after", "late", "empty", "html", "object"]
_BUS_EFFECTS: Final[dict[FaultName, Any]] = {
    "hang": Hang(),
    "reset_before": ResetBefore(),
    "reset_after": ResetAfter(),
    "late": Latency(_LATE_SECS),
    "empty": Garbage("empty"),
    "html": Garbage("html"),
    "object": Garbage("object"),
}


class Aws(Protocol):
    """The acts of people and faults in a world."""

    def create_bus(self, arn: str) -> object: ...
    def delete_bus(self, arn: str) -> None: ...
    def set_role(self, external_id: str | None, bus: str = BUS) -> None: ...
    def delete_role(self) -> None: ...
    def set_key(self, secret: str, bus: str = BUS) -> None: ...
    def delete_key(self, access_key: str) -> None: ...
    def end_sessions(self) -> None: ...
    def set_clock_ahead(self, secs: float) -> None: ...
    def fail(self, name: FaultName, api: Operation = "PutEvents", times: int = 1) -> None: ...
    def refuse(self, code: str, status: int, api: Operation = "PutEvents", times: int = 1) -> None: ...
    def refuse_entries(self, code: str, times: int = 1) -> None: ...
    def arrivals(self) -> list[tuple[Any, ...]]: ...
    def calls(self) -> list[tuple[Any, ...]]: ...


@dataclass
class Script:
    """The acts and the observations of a story in one world."""

    us: EventBridge
    aws: Aws
    seen: list[Any] = field(default_factory=list)

    async def put(self, batch: Batch, *, refreshed: bool = False) -> None:
        """Make a call, and note its outcome."""
        reply = await self.us.put(batch, refreshed=refreshed)
        verdict: Any = reply.verdict
        if isinstance(verdict, Split | TooLarge | Refresh):
            verdict = type(verdict).__name__, verdict.code
        else:
            verdict = [(type(one).__name__, *_facts(one)) for one in verdict]
        self.seen.append((verdict, reply.result, reply.http_status))

    def note(self, fact: object) -> None:
        """Note something else that is seen."""
        self.seen.append(fact)


Story = Callable[[Script], Awaitable[None]]


def _facts(outcome: Any) -> tuple[Any, ...]:
    """An outcome without ids and messages, which differ."""
    return () if not hasattr(outcome, "code") else (outcome.code, getattr(outcome, "ours", False))


class SimulatedAws:
    """The simulated AWS."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._accounts = cloud.accounts
        self.create_bus = cloud.accounts.create_bus
        self.delete_bus = cloud.accounts.delete_bus
        self.delete_key = cloud.accounts.delete_key

    def set_role(self, external_id: str | None, bus: str = BUS) -> None:
        role = self._accounts.roles.get(ROLE) or self._accounts.create_role(ROLE, "999999999999", None)
        new = replace(self._accounts.create_role(ROLE, "999999999999", external_id, bus), generation=role.generation)
        self._accounts.roles[ROLE] = new

    def delete_role(self) -> None:
        self._accounts.delete_role(ROLE)

    def set_key(self, secret: str, bus: str = BUS) -> None:
        self._accounts.create_customer_key(CUSTOMER_ARN, KEY, secret, bus)

    def end_sessions(self) -> None:
        for call in self._cloud.calls:
            if call.issued_key:
                self._accounts.expire_key(call.issued_key, self._cloud.state.clock() - 1)

    def set_clock_ahead(self, secs: float) -> None:
        self._cloud.state.epoch += secs

    def fail(self, name: FaultName, api: Operation = "PutEvents", times: int = 1) -> None:
        if name in {"empty", "html", "object"}:
            self._cloud.faults.set((Fault("garbled_before", api=api, times=times, detail=f"200/plain/{name}"),))
        else:
            self._cloud.faults.set((Fault(name, api=api, times=times),))

    def refuse(self, code: str, status: int, api: Operation = "PutEvents", times: int = 1) -> None:
        del status
        self._cloud.faults.set((Fault(f"call:{code}", api=api, times=times),))

    def refuse_entries(self, code: str, times: int = 1) -> None:
        self._cloud.faults.set((Fault(f"entry:{code}", times=times),))

    def arrivals(self) -> list[tuple[Any, ...]]:
        return [
            (one.bus, one.source, one.detail_type, one.detail, one.resources, one.place) for one in self._cloud.arrivals
        ]

    def calls(self) -> list[tuple[Any, ...]]:
        return [
            (call.status, call.code, entries_read(call), sum(bool(one.code) for one in call.entries if not call.code))
            for call in self._cloud.calls
            if call.api == "PutEvents"
        ]


def entries_read(call: Call) -> int:
    """The number of entries. The bus does not read the body of a call whose signer it does not know."""
    return len(call.entries) if call.access_key or call.fault else 0


class FaultInjectingBus:
    """The fault-injecting bus."""

    def __init__(self, bus: FaultBus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self.create_bus = bus.add_bus
        self.delete_bus = bus.directory.buses.discard

    def set_role(self, external_id: str | None, bus: str = BUS) -> None:
        self._bus.add_role(ROLE, external_id=external_id, buses=[bus])
        # Sessions of the bus keep the permissions that their role had.
        keys = self._bus.directory._keys
        role = self._bus.directory.role(ROLE)
        assert role is not None
        for name, one in list(keys.items()):
            if one.role_arn:
                keys[name] = replace(one, permissions=role.permissions)

    def delete_role(self) -> None:
        self._bus.directory._roles.pop(ROLE)

    def set_key(self, secret: str, bus: str = BUS) -> None:
        self._bus.add_key(KEY, secret, buses=[bus])

    def delete_key(self, access_key: str) -> None:
        self._bus.directory._keys.pop(access_key)

    def end_sessions(self) -> None:
        keys = self._bus.directory._keys
        for name, one in list(keys.items()):
            if one.role_arn:
                keys[name] = replace(one, expires_at=self._clock() - 1)

    def set_clock_ahead(self, secs: float) -> None:
        self._clock.ahead_secs = secs

    def fail(self, name: FaultName, api: Operation = "PutEvents", times: int = 1) -> None:
        self._bus.set_plan((Rule(_BUS_EFFECTS[name], Match(operation=api), Times(times)),))

    def refuse(self, code: str, status: int, api: Operation = "PutEvents", times: int = 1) -> None:
        self._bus.set_plan((Rule(CallError(status, code), Match(operation=api), Times(times)),))

    def refuse_entries(self, code: str, times: int = 1) -> None:
        self._bus.set_plan((Rule(EntryError(code), when=Times(times)),))

    def arrivals(self) -> list[tuple[Any, ...]]:
        return [
            (one.bus_arn, one.source, one.detail_type, one.detail, one.resources, one.entry_index)
            for one in self._bus.arrivals
        ]

    def calls(self) -> list[tuple[Any, ...]]:
        return [(call.status, call.code, call.entries, call.failed) for call in self._bus.calls]


class Clock:
    """A wall clock that may be ahead."""

    ahead_secs = 0.0

    def __call__(self) -> float:
        return wall_clock() + self.ahead_secs


Result = tuple[list[Any], list[tuple[Any, ...]], list[tuple[Any, ...]]]
"""The observations, the arrivals, and the calls of PutEvents as the world saw them."""


def in_the_simulation(story: Story) -> Result:
    """Run a story in the simulated AWS."""
    found: list[Result] = []

    async def run(us: EventBridge, cloud: Cloud) -> None:
        cloud.latency_secs = (0.001, 0.002)
        script = Script(us, SimulatedAws(cloud))
        await story(script)
        found.append((script.seen, script.aws.arrivals(), script.aws.calls()))

    settings = EventBridgeSettings(endpoint_url="http://events.{region}.sim/", read_timeout_secs=_READ_TIMEOUT_SECS)
    OneHost().run(run, settings)
    return found[0]


def on_the_bus(story: Story) -> Result:
    """Run a story on the fault-injecting bus."""

    async def run() -> Result:
        clock = Clock()
        async with FaultBus.serve(BusConfig(clock=clock)) as server:
            server.add_bus(BUS)
            server.add_role(ROLE, external_id=ASSUME.external_id, buses=[BUS])
            server.add_key(KEY, SECRET, buses=[BUS])
            server.add_key(*OUR_KEY)
            settings = EventBridgeSettings(
                endpoint_url=server.url, connect_timeout_secs=PATIENCE_SECS, read_timeout_secs=_READ_TIMEOUT_SECS
            )
            async with EventBridge.open(settings, StsSettings(endpoint_url=server.url)) as us:
                us._sign_in.own_keys._first_wait_secs = PATIENCE_SECS
                script = Script(us, FaultInjectingBus(server, clock))
                await story(script)
                return script.seen, script.aws.arrivals(), script.aws.calls()

    with mock.patch.dict(os.environ, environment()):
        return asyncio.run(run())
