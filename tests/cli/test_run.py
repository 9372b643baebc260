"""The cycle collector runs by the clock in a worker, whose threshold keeps it away otherwise."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from pushrail_stream.cli import run
from tests.support.patience import PATIENCE_SECS


class Cycle:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


async def test_a_quiet_worker_releases_reference_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_COLLECT_SECS", 0.001)
    threshold = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        held = Cycle()
        gc.collect()  # the cycle is of the oldest generation now
        released, gone = asyncio.Event(), weakref.ref(held)
        weakref.finalize(held, released.set)
        del held
        run.collect_now_and_then(asyncio.get_running_loop())
        async with asyncio.timeout(PATIENCE_SECS):
            await released.wait()
        assert gone() is None
    finally:
        gc.set_threshold(*threshold)
