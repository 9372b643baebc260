"""The limits that one engine gets."""

from __future__ import annotations

from tests.support.builders import destination
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import buffer_limits
from tests.support.records import (
    RETRY,
    retry_record,
)
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_share_of_the_buffer_is_at_least_one() -> None:
    world = World(destination("hangs"), latency=HANGS)
    whole = buffer_limits(max_events=40, max_bytes=40)
    assert (whole.part(0.01).max_events, whole.part(0.01).max_bytes) == (1, 1)
    async with world.worker(owns=[RETRY], limits=buffer_limits(max_events=40).part(0.25)) as worker:
        assert not worker.feed_retries(*(retry_record(n, "hangs", event=n) for n in range(9))).hold
        assert worker.feed_retries(retry_record(9, "hangs", event=9)).hold
