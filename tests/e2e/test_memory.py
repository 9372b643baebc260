"""A worker's memory stays bounded when records decompress to many times their size."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import (
    PARTITIONS,
    committed,
    ends,
    outside,
    produce,
    until,
)

pytestmark = pytest.mark.kafka
EVENTS, CUSTOMERS = 900, 6
LIMIT_MIB = 600
"""Less than the 768 MiB of deploy/kubernetes, and less than the 810 MB of the events alone."""


def peak_mib(pid: int) -> int:
    """The most memory that a process has had so far."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of another process's memory: Linux only")
@pytest.mark.parametrize("batch_bytes", [1_000_000, 20_000_000], ids=["one event a batch", "20 events a batch"])
async def test_decompression_does_not_exceed_memory(real_kafka: str, tmp_path: Path, batch_bytes: int) -> None:
    large = {"x": "abcdefgh" * 112_500}

    def records() -> Iterator[tuple[str, bytes]]:
        for n in range(EVENTS):
            customer = n * CUSTOMERS // EVENTS  # one after the other, so that batches are full
            yield f"acct_{customer}", event(customer, n, payload=large)

    async with outside(real_kafka, CUSTOMERS) as (bus, settings):
        desk = Desk(tmp_path, settings)
        desk.put(with_access_key(n) for n in range(CUSTOMERS))
        codec = {"compression.type": "zstd", "linger.ms": 1_000, "queue.buffering.max.kbytes": 1_000_000}
        await produce(settings, records(), **codec, **{"batch.size": batch_bytes, "message.max.bytes": 100_000_000})
        process = await desk.start("run")
        try:
            peak = 0
            while sum(committed(settings).values()) < EVENTS:
                bus.ledger.arrivals.clear()  # they would fill this process
                peak = peak_mib(process.pid)
                assert peak < LIMIT_MIB
                await asyncio.sleep(0.2)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
            assert len(ends(settings, settings.topics.events)) == PARTITIONS
            process.terminate()
            await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
            assert process.returncode == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert peak > 0
