from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pushrail_stream.core.outcome import Delivered, Retryable
from pushrail_stream.eventbridge.bus import EventBridge
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.faults import Fault
from tests.simulation.aws.one_host import OneHost
from tests.simulation.aws.reactions import Reaction
from tests.support.eventbridge_world import GOOD_KEY, to


def opened(world: OneHost) -> list[str]:
    """The names of the servers, one for each connection that is opened from now on."""
    names: list[str] = []
    stock = world.network.open

    def counting(host: Any, factory: Callable[[], asyncio.BaseProtocol], name: str, port: int) -> Any:
        names.append(name)
        return stock(host, factory, name, port)

    world.network.open = counting  # type: ignore[method-assign, assignment]
    return names


def test_one_connection_carries_many_requests() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        for _ in range(20):
            await us.put(to(GOOD_KEY), refreshed=False)
        assert len(cloud.arrivals) == 40

    world = OneHost()
    names = opened(world)
    world.run(story)
    assert names == ["events.us-east-1.sim"]


def test_requests_at_one_time_have_connections_of_their_own() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        await us.put(to(GOOD_KEY), refreshed=False)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(us.put(to(GOOD_KEY), refreshed=False))
        assert len(cloud.arrivals) == 12

    world = OneHost()
    names = opened(world)
    world.run(story)
    assert len(names) == 5


def test_an_idle_connection_is_not_kept_for_ever() -> None:
    async def story(us: EventBridge, _: Cloud) -> None:
        await us.put(to(GOOD_KEY), refreshed=False)
        await asyncio.sleep(3_600)
        await us.put(to(GOOD_KEY), refreshed=False)

    world = OneHost()
    names = opened(world)
    world.run(story)
    assert len(names) == 2


def test_an_answer_takes_the_latency_of_both_ways() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        await us.put(to(GOOD_KEY), refreshed=False)
        cloud.latency_secs = (0.25, 0.25)
        began = cloud.state.scheduler.now
        await us.put(to(GOOD_KEY), refreshed=False)
        assert cloud.state.scheduler.now - began == pytest.approx(0.5)
        assert cloud.calls[1].at - began == pytest.approx(0.25)
        assert cloud.calls[1].answered_at == pytest.approx(began + 0.5)

    OneHost().run(story)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_an_answer_that_breaks_off_at_any_byte_is_no_delivery(end: Any) -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        await us.put(to(GOOD_KEY), refreshed=False)
        stock = cloud.handle
        whole = 0
        cut = 0

        def broken(request: Any, host: str) -> Reaction:
            nonlocal whole
            reaction = stock(request, host)
            wire = reaction.pieces[0][1]
            whole = len(wire)
            return Reaction(((0.0, wire[:cut]),) if cut else (), end, is_whole=False, call=reaction.call)

        cloud.handle = broken  # type: ignore[method-assign]
        while cut <= whole:
            reply = await us.put(to(GOOD_KEY), refreshed=False)
            if cut < whole:
                assert [type(one) for one in reply.outcomes(2)] == [Retryable, Retryable], (cut, reply)
            else:
                assert [type(one) for one in reply.outcomes(2)] == [Delivered, Delivered], reply
            cut += 1
        assert len(cloud.arrivals) == 2 * (whole + 2)

    OneHost().run(story)


@pytest.mark.filterwarnings("ignore:Unclosed connection")  # a killed process closes nothing
def test_what_a_killed_host_has_sent_still_arrives() -> None:
    world = OneHost()

    async def story(us: EventBridge, cloud: Cloud) -> None:
        await us.put(to(GOOD_KEY), refreshed=False)
        cloud.latency_secs = (1.0, 1.0)
        # Amid the request's way, and amid the answer's way.
        cloud.state.scheduler.call_later(0.5, world.host.kill)
        await us.put(to(GOOD_KEY), refreshed=False)
        raise AssertionError("the host is dead")

    world.run(story)
    assert len(world.cloud.arrivals) == 4
    assert world.cloud.calls[1].answered_at is None
    assert len(world.cloud.calls[1].uncertain_keys) == 2


def test_an_answer_waits_for_a_host_that_is_paused() -> None:
    world = OneHost()

    async def story(us: EventBridge, cloud: Cloud) -> None:
        await us.put(to(GOOD_KEY), refreshed=False)
        cloud.latency_secs = (1.0, 1.0)
        cloud.state.scheduler.call_later(0.5, world.host.pause)
        cloud.state.scheduler.call_later(4.0, world.host.resume)
        reply = await us.put(to(GOOD_KEY), refreshed=False)
        assert [type(one) for one in reply.outcomes(2)] == [Delivered, Delivered]
        assert cloud.calls[1].answered_at is not None
        assert cloud.calls[1].answered_at - cloud.calls[1].at > 2

    world.run(story)


def test_a_region_without_names_fails_alone() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.faults.add(Fault("dns_failure", region="us-east-1"))
        reply = await us.put(to(GOOD_KEY), refreshed=False)
        assert [one.code for one in reply.outcomes(2) if isinstance(one, Retryable)] == ["DnsFailed", "DnsFailed"]
        cloud.faults.set([Fault("dns_failure", region="eu-west-1")])
        reply = await us.put(to(GOOD_KEY), refreshed=False)
        assert [type(one) for one in reply.outcomes(2)] == [Delivered, Delivered]

    OneHost().run(story)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("connection_refused", "ConnectionFailed"), ("connect_timeout", "ConnectTimeout"), ("dns_failure", "DnsFailed")],
)
def test_failures_to_connect_have_codes_of_their_own(kind: str, code: str) -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.faults.add(Fault(kind))
        reply = await us.put(to(GOOD_KEY), refreshed=False)
        assert [one.code for one in reply.outcomes(2) if isinstance(one, Retryable)] == [code, code]

    OneHost().run(story)
