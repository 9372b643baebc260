"""``make bench ARGS="--against PATH"``: this checkout's worker and another's drain the same backlog in turn."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.bench.checkout import Checkout
from tests.bench.drain import Drain


def compare(drain: Callable[[Checkout], Drain], ours: Checkout, theirs: Checkout, runs: int) -> dict[str, Any]:
    """Drain with ours, theirs, ours, theirs ...; ``ratio`` above 1 means that ours takes more CPU time per event."""
    _say(f"A: {ours.path}, {ours.build} ({ours.python})")
    _say(f"B: {theirs.path}, {theirs.build} ({theirs.python})")
    if ours.build != theirs.build:
        _say("warning: the Python builds differ: the ratio measures them too")
    measured: tuple[list[Drain], list[Drain]] = ([], [])
    for run in range(1, runs + 1):
        for name, checkout, drains in (("A", ours, measured[0]), ("B", theirs, measured[1])):
            drains.append(drain(checkout))
            _say(f"  run {run} of {runs}, {name}: {drains[-1].cpu_us_per_event:.1f} us of CPU time per event")
    return summary(*measured) | {
        "runs": runs,
        "checkout": str(ours.path),
        "against_checkout": str(theirs.path),
        "python": ours.build,
        "against_python": theirs.build,
    }


def summary(ours: Sequence[Drain], theirs: Sequence[Drain]) -> dict[str, Any]:
    """Medians of both, and the median of the ratios of neighbouring runs: a slow minute of the machine meets both."""
    ratios = [one.cpu_us_per_event / other.cpu_us_per_event for one, other in zip(ours, theirs, strict=True)]
    return {
        "cpu_us_per_event": _median(run.cpu_us_per_event for run in ours),
        "against_cpu_us_per_event": _median(run.cpu_us_per_event for run in theirs),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "events_per_s_wall": _median(run.events_per_s for run in ours),
        "against_events_per_s_wall": _median(run.events_per_s for run in theirs),
        "rss_mib": round(max(run.peak_mib for run in ours)),
        "against_rss_mib": round(max(run.peak_mib for run in theirs)),
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
