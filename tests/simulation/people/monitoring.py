"""Monitoring: it reads the metrics and the status page of every worker at a steady pace."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from tests.simulation.oracle.evidence import METRICS_PAGE, STATUS_PAGE, Text
from tests.simulation.simulated_worker import SimWorker

if TYPE_CHECKING:
    from tests.simulation.world import World

_EVERY_SECS: Final = 60.0
"""Virtual seconds between two readings: the default of Prometheus."""
_PATHS: Final = {METRICS_PAGE: "/metrics", STATUS_PAGE: "/?idle"}
"""The path of each page; the status page with its idle partitions."""
_GOOD: Final = b"HTTP/1.1 200 "


def watch_pages(world: World) -> None:
    """Read the pages of the running workers from now on. The oracle gets them as evidence."""
    for worker in world.fleet.running:
        if worker.worker is not None:
            for where, path in _PATHS.items():
                worker.get_page(path, partial(_note, world, worker, where))
    world.later(_EVERY_SECS, partial(watch_pages, world))


def _note(world: World, worker: SimWorker, where: str, answer: bytes) -> None:
    name = worker.host.name
    world.history.note("page", host=name, page=where)
    text = answer.decode()
    world.evidence.texts.append(Text(world.scheduler.now, name, where, text))
    if not answer.startswith(_GOOD):
        world.evidence.raised.append(Text(world.scheduler.now, name, where, text.partition("\r\n")[0]))
