"""Records of workers' states, as workers write them to their topic."""

from __future__ import annotations

from pushrail_stream.observe.worker_record import DestinationSummary, WorkerRecord


def worker_record(name: str, at_ms: int, *destinations: DestinationSummary, group: str = "group") -> WorkerRecord:
    """The record of an idle worker that is ready."""
    return WorkerRecord(
        id=name, name="pushrail-stream", host="host", http="host:1", version="1", group=group, started_at=1, at=at_ms,
        reasons=[], deliveries={}, totals={}, lag={}, destinations=destinations, partitions=[], partition_count=0,
    )  # fmt: skip
