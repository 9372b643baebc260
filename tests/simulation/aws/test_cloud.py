from __future__ import annotations

from pushrail_stream.core.outcome import Delivered
from pushrail_stream.eventbridge.bus import EventBridge
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.faults import STAGES
from tests.simulation.aws.one_host import OneHost
from tests.support.batches import BUS
from tests.support.eventbridge_world import ASSUME, GOOD_KEY, to


def test_entries_arrive_signed_by_a_session_of_the_role() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        reply = await us.put(to(ASSUME), refreshed=False)
        assert [type(one) for one in reply.verdict] == [Delivered, Delivered]
        assert [one.bus for one in cloud.arrivals] == [BUS, BUS]
        assert "assumed-role" in cloud.arrivals[0].principal
        assert [call.api for call in cloud.calls] == ["AssumeRole", "PutEvents"]
        assert [call.answered_at is not None for call in cloud.calls] == [True, True]

    OneHost().run(story)


def test_entries_arrive_signed_by_the_customers_key() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        reply = await us.put(to(GOOD_KEY), refreshed=False)
        assert [type(one) for one in reply.verdict] == [Delivered, Delivered]
        assert [call.api for call in cloud.calls] == ["PutEvents"]

    OneHost().run(story)


def test_a_seed_gives_one_history() -> None:
    async def story(us: EventBridge, cloud: Cloud) -> None:
        cloud.faults.set_rates(dict.fromkeys(STAGES, 0.02))
        for number in range(60):
            await us.put(to(ASSUME, f"dst_{number % 7}"), refreshed=False)

    def run(seed: int) -> str:
        world = OneHost(seed)
        world.run(story)
        return world.history.hash

    assert run(7) == run(7)
    assert run(7) != run(8)
