"""A destination that blocks everything is left alone, and probed with one real delivery now and then."""

from __future__ import annotations

import pytest

from pushrail_stream.core.signals import Resumed, Suspended
from tests.pipeline.records import always, destination, failed, records
from tests.pipeline.world import World
from tests.virtual_time import in_virtual_time

BLOCKED = failed("AccessDeniedException", 400)


@pytest.mark.parametrize("is_gone", [True, False])
@in_virtual_time
async def test_one_whose_document_is_gone_or_disabled_is_suspended_no_more(*, is_gone: bool) -> None:
    world = World(destination())
    world.bus.answer(always(BLOCKED))
    async with world.worker() as worker:
        worker.feed(*records(range(50)))
        await worker.at(1)
        assert len(worker.told(Suspended)) == 1
        if is_gone:
            world.directory.remove("dst_acme")
        else:
            world.directory.put(destination(enabled=False))
        await worker.at(100)
        assert len(worker.told(Resumed)) == 1
        assert worker.deliver.lanes == 0
