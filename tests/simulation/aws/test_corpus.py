"""Every garbled answer of the corpus, against the real adapter: nothing raises, and nothing false is believed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from pushrail_stream.core.outcome import Blocked, Delivered, Outcome, Rejected
from pushrail_stream.eventbridge.bus import EventBridge
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.corpus import BODIES, HEADERS, STATUSES
from tests.simulation.aws.faults import Fault, Stage
from tests.simulation.aws.one_host import CUSTOMER_ARN, OneHost
from tests.simulation.aws.records import Api
from tests.support.batches import BUS, batch
from tests.support.builders import destination, v2_bus_arn
from tests.support.eventbridge_world import ASSUME, GOOD_KEY, KEY, SECRET, to

NAMES: Final = [
    *[f"{status}/plain/html" for status in dict.fromkeys(STATUSES)],
    *[f"{status}/none/empty" for status in dict.fromkeys(STATUSES)],
    *[f"200/{headers}/object" for headers in HEADERS],
    *[f"200/{headers}/cut" for headers in HEADERS],
    *[f"403/{headers}/html" for headers in HEADERS],
    *[f"500/{headers}/error_in_json" for headers in HEADERS],
]
"""Places of the corpus that every API shares: each status and each set of headers."""


def with_each(api: Api, stage: Stage, ask: Callable[[EventBridge, Cloud, str], Awaitable[None]]) -> None:
    """Ask once for each place of the corpus."""
    bodies = [f"200/plain/{body}" for body in BODIES[api]] + [f"400/plain/{body}" for body in BODIES[api]]

    async def story(us: EventBridge, cloud: Cloud) -> None:
        for name in (*NAMES, *bodies):
            if stage == "before" and BODIES[api][name.rpartition("/")[2]].keeps_ids:
                continue
            cloud.calls.clear()
            cloud.arrivals.clear()
            cloud.faults.set([Fault(f"garbled_{stage}", api=api, times=1, detail=name)])
            await ask(us, cloud, name)

    OneHost().run(story)


@pytest.mark.parametrize("flavour", ["EVENTBRIDGE", "EVENTBRIDGE_V2"])
@pytest.mark.parametrize("stage", ["before", "after"])
def test_put_events(stage: Stage, flavour: str) -> None:
    bus = BUS if flavour == "EVENTBRIDGE" else v2_bus_arn("acme")
    sent = batch(destination(type=flavour, bus=bus, auth=GOOD_KEY))

    async def ask(us: EventBridge, cloud: Cloud, name: str) -> None:
        cloud.accounts.create_bus(bus)
        cloud.accounts.create_customer_key(CUSTOMER_ARN, KEY, SECRET, bus)
        outcomes: tuple[Outcome, ...] = (await us.put(sent, refreshed=False)).outcomes(2)
        assert len(outcomes) == 2
        assert not any(isinstance(one, Blocked | Rejected) for one in outcomes), (name, outcomes)
        for one, truth in zip(outcomes, cloud.calls[0].entries, strict=True):
            assert truth.taken or truth.is_repeat or not isinstance(one, Delivered), (name, one)

    with_each("PutEvents", stage, ask)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_assume_role(stage: Stage) -> None:
    async def ask(us: EventBridge, cloud: Cloud, name: str) -> None:
        outcomes = (await us.put(to(ASSUME, f"dst_{name}"), refreshed=False)).outcomes(2)
        assert not any(isinstance(one, Blocked | Rejected) for one in outcomes), (name, outcomes)
        assert len(cloud.arrivals) == sum(isinstance(one, Delivered) for one in outcomes), (name, outcomes)

    with_each("AssumeRole", stage, ask)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_describe_event_bus(stage: Stage) -> None:
    async def ask(us: EventBridge, cloud: Cloud, name: str) -> None:
        del cloud
        status = await us.check(destination(auth=GOOD_KEY, bus=BUS))
        assert status in {"unknown", "busy"}, name

    with_each("DescribeEventBus", stage, ask)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_get_caller_identity(stage: Stage) -> None:
    async def ask(us: EventBridge, cloud: Cloud, name: str) -> None:
        del cloud
        assert await us.check_own_credentials() is None, name

    with_each("GetCallerIdentity", stage, ask)
