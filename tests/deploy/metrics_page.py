"""Write the tables of deploy/METRICS.md from the declarations in the code: ``make metrics``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pushrail_stream.ingest.metrics import INGEST_METRICS
from pushrail_stream.observe.metrics import WORKER_METRICS
from pushrail_stream.observe.series import KAFKA_METRICS, PROCESS_METRICS, Metric

PAGE: Final = Path(__file__).parents[2] / "deploy" / "METRICS.md"
TABLES: Final[Mapping[str, Sequence[Metric[Any]]]] = {
    "workers": WORKER_METRICS,
    "Kafka clients": KAFKA_METRICS,
    "processes": PROCESS_METRICS,
    "ingest": INGEST_METRICS,
}


def table(metrics: Sequence[Metric[Any]]) -> str:
    """A row for each metric: its name as Prometheus shows it, its labels, its type and its help text."""
    rows = ["| metric | labels | type | meaning |", "|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.exposed_name}` | {labels} | {metric.type} | {metric.help} |")
    return "\n".join(rows)


def with_tables(page: str) -> str:
    """The page with the tables between its markers made from the declarations."""
    for name, metrics in TABLES.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        head, _, rest = page.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} needs the markers {begin.strip()} and {end}")
        page = f"{head}{begin}{table(metrics)}\n{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
