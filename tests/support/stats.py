"""Statistics for observers that are tested without a worker."""

from __future__ import annotations

from pushrail_stream.pipeline.stats import StatsSource, WorkerStats


def stats_of(**values: object) -> StatsSource:
    """A source that always gives these statistics."""
    stats = WorkerStats(**values)  # type: ignore[arg-type]

    def take(max_destinations: int = 0) -> WorkerStats:
        del max_destinations
        return stats

    return take
