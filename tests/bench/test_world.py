"""Benchmarks are run by hand. These tests show that they can still begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pushrail_stream.kafka.topics import describe_topics, plan_topics
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.bench import ingest, isolation, observe, registry, world
from tests.bench.__main__ import main
from tests.bench.against import compare
from tests.bench.checkout import ROOT, Checkout, open_checkout
from tests.bench.drain import Drain


@pytest.mark.kafka
def test_benchmark_topics_satisfy_a_worker(real_kafka: str) -> None:
    section = world.make_topics(real_kafka, real=True, tiers=(10, 120))
    settings = Settings.model_validate({"topics": section})
    states = describe_topics(KafkaSettings(bootstrap_servers=real_kafka), plan_topics(settings))
    assert all(state is not None and not state.deviations for state in states.values())
    assert list(settings.topics.retry.values()) == [10, 120]


def test_every_event_belongs_to_a_customer() -> None:
    counts = [isolation.produced_for(customer, 310, 757) for customer in range(isolation.CUSTOMERS)]
    assert sum(counts) == 447
    assert (counts[110], counts[109], counts[156], counts[157]) == (3, 2, 3, 2)


@pytest.mark.parametrize("start", [main, ingest.main, isolation.main, observe.main, registry.main])
def test_every_benchmark_has_a_description(
    start: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(start)
    monkeypatch.setattr("sys.argv", ["bench", "--help"])
    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_checkouts_are_compared_run_by_run() -> None:
    ours, theirs = (Checkout(Path(name), "python", "CPython 3.11", frozenset()) for name in ("/ours", "/theirs"))
    order = []
    costs = {ours: iter([10.0, 40.0, 12.0]), theirs: iter([20.0, 80.0, 12.0])}

    def drain(checkout: Checkout) -> Drain:
        order.append(checkout)
        return Drain(next(costs[checkout]), 1_000.0, 200.0)

    told = compare(drain, ours, theirs, 3)
    assert order == [ours, theirs] * 3
    assert told["ratios"] == [0.5, 0.5, 1.0]
    assert (told["cpu_us_per_event"], told["against_cpu_us_per_event"], told["ratio"]) == (12.0, 20.0, 0.5)
    assert told["python"] == told["against_python"] == "CPython 3.11"


def test_a_checkout_runs_its_own_code(tmp_path: Path) -> None:
    (tmp_path / "pushrail_stream").symlink_to(ROOT / "pushrail_stream")
    other = open_checkout(tmp_path)
    assert (other.path, other.python) == (tmp_path, sys.executable)
    assert other.build.startswith("CPython ")
    assert "events" in other.topics


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no checkout"):
        open_checkout(tmp_path)


def test_make_targets_pass_arguments_on() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.split(":")[0] for line in makefile.splitlines() if line.startswith("bench") and ":" in line]
    assert "bench" in targets
    for target in targets:
        command = ["make", "--dry-run", "--no-print-directory", target, "ARGS=--marker"]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert shown.rstrip().endswith(" --marker"), target
