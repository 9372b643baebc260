"""The pages of workers are read, and they are the ones that the worker serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.simulation.oracle.buffers import BUFFERED_BYTES
from tests.simulation.oracle.evidence import METRICS_PAGE, STATUS_PAGE
from tests.simulation.people.drawing import draw_plan
from tests.simulation.people.monitoring import watch_pages
from tests.simulation.people.registry import prepare_registry
from tests.simulation.stage import opened
from tests.simulation.world import World


@contextmanager
def fleet_of(workers: int) -> Iterator[World]:
    """A quiet world in which this number of workers starts."""
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        world.prepare()
        world.office.do("prepare", prepare_registry, world)
        assert world.scheduler.run_until(world.office.is_idle, 120.0)
        world.fleet.scale(workers)
        yield world


def test_both_pages_of_every_worker_are_read() -> None:
    with fleet_of(2) as world:
        watch_pages(world)
        world.scheduler.run(world.scheduler.now + 130.0)
        hosts = [worker.host.name for worker in world.fleet.running]
        texts = [text for text in world.evidence.texts if text.where in {METRICS_PAGE, STATUS_PAGE}]
        assert world.evidence.raised == []
    assert len(hosts) == 2
    assert sorted((text.host, text.where) for text in texts) == sorted(
        (host, where) for host in hosts for where in (METRICS_PAGE, STATUS_PAGE) for _ in range(2)
    )
    for text in texts:
        if text.where == METRICS_PAGE:
            assert BUFFERED_BYTES.search(text.text) is not None
        else:
            assert f"<title>{text.host}" in text.text


def test_a_killed_worker_answers_nothing() -> None:
    with fleet_of(1) as world:
        world.scheduler.run(world.scheduler.now + 30.0)
        (worker,) = world.fleet.running
        answers = list[bytes]()
        worker.get_page("/livez", answers.append)
        world.scheduler.run(world.scheduler.now + 1.0)
        worker.get_page("/livez", answers.append)
        worker.host.kill()
        worker.get_page("/livez", answers.append)
        world.scheduler.run(world.scheduler.now + 1.0)
    assert [answer.splitlines()[0] for answer in answers] == [b"HTTP/1.1 200 OK"]
