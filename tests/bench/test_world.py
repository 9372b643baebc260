"""The benchmarks are run by hand: that they can still begin is tried with everything else."""

from __future__ import annotations

import pytest

from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.topics import describe_topics
from pushrail_stream.settings import Settings
from tests.bench import ingest, isolation, observe, registry, world
from tests.bench.__main__ import main


@pytest.mark.kafka
def test_the_benchmarks_topics_are_those_that_workers_want(real_kafka: str) -> None:
    section = world.make_topics(real_kafka, real=True, tiers=(10, 120))
    topics = Settings.model_validate({"topics": section}).topics
    names = [topics.events, topics.dlq, topics.attempts, topics.destinations, topics.replays, *topics.retry]
    assert all(describe_topics(KafkaOptions(real_kafka), names).values())
    assert list(topics.retry.values()) == [10, 120]


def test_each_event_of_the_load_is_some_customers() -> None:
    counts = [isolation.produced_for(customer, 310, 757) for customer in range(isolation.CUSTOMERS)]
    assert sum(counts) == 447
    assert (counts[110], counts[109], counts[156], counts[157]) == (3, 2, 3, 2)


@pytest.mark.parametrize("start", [main, ingest.main, isolation.main, observe.main, registry.main])
def test_every_benchmark_says_what_it_measures(
    start: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(start)
    monkeypatch.setattr("sys.argv", ["bench", "--help"])
    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")
