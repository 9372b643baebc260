"""Fixtures of the whole suite: the brokers, and a wall between the tests and any real AWS account."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from coverage import Coverage

from pushrail_stream.sandbox.broker import EmbeddedBroker
from tests.support.botocore_models import share_models
from tests.support.kafka import topics
from tests.support.kafka.fixtures import LocalKafkaFactory, NewTopic
from tests.support.kafka.policy import RealKafkaPolicy
from tests.support.measured import MeasuredTests
from tests.support.parallel import Turns, workerinput
from tests.support.tools import UNCHECKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.kafka.local import LocalKafka

_THREAD_SECS: Final = 10.0
"""Longest wait for a thread that is ending when its test ends. Only a thread that stays costs it."""
_POLICY = pytest.StashKey[RealKafkaPolicy]()


def pytest_configure(config: pytest.Config) -> None:
    policy = config.stash[_POLICY] = RealKafkaPolicy(config)
    config.pluginmanager.register(policy, "pushrail-real-kafka")
    config.pluginmanager.register(Turns(config), "pushrail-turns")
    if (measurement := Coverage.current()) is not None:
        config.pluginmanager.register(MeasuredTests(measurement, Path(__file__).parent), "pushrail-measured-tests")
    # Coverage measures the processes that run tests, which read this by now, and not the programs that tests start.
    if workerinput(config) is not None:
        os.environ.pop("COVERAGE_PROCESS_START", None)
    # A script's background job ignores SIGINT, and so would every program that is started and interrupted here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that keep others waiting first; the order of the others stays random."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """The place of a test in the order of the run, for a parallel run that ends early and leaves no process idle."""
    if item.get_closest_marker("alone") is not None:
        return 0  # it waits for every test in flight, and in the beginning there is no long one
    if item.get_closest_marker("slow") is not None:
        return 1
    # One process begins with all of these: broker after broker, and not several at once.
    return 2 if "local_kafka_factory" in getattr(item, "fixturenames", ()) else 3


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that a missing tool left out in the last lines, in CI too."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr}
    for reason in sorted(reason.removeprefix("Skipped: ") for reason in reasons if UNCHECKED in reason):
        terminalreporter.write_line(f"TOOL MISSING: {reason}", red=True, bold=True)


@pytest.fixture(autouse=True)
def _signals_stay_as_they_were() -> Iterator[None]:
    """Fail a test that leaves another handler of SIGINT or SIGTERM, or another signal mask, than it found.

    The tests after it would meet a process that ignores an interrupt, and only in some orders.
    """
    before = _signal_state()
    yield
    after = _signal_state()
    if after != before:
        for number, handler in before.handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)
        pytest.fail(f"the test leaves other signal handlers or another mask: {before} became {after}", pytrace=False)


@pytest.fixture(autouse=True)
def _threads_end_with_their_test() -> Iterator[None]:
    """Fail a test that leaves a thread which it started.

    Such a thread works on in the tests after it: it logs into their output and draws from the global `random` while
    Hypothesis makes examples, which Hypothesis refuses.
    """
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        give_up_at = time.monotonic() + _THREAD_SECS
        while thread in threading.enumerate():  # also one that another thread is starting, which cannot be joined yet
            if time.monotonic() > give_up_at:
                pytest.fail(f"the test leaves a running thread: {thread}", pytrace=False)
            time.sleep(0.01)


class _SignalState(NamedTuple):
    handlers: dict[signal.Signals, Any]
    mask: set[int | signal.Signals]


def _signal_state() -> _SignalState:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return _SignalState(handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ()))


@pytest.fixture(autouse=True, scope="session")
def _no_aws_account() -> Iterator[None]:
    """Take away every way in which an AWS library finds credentials by itself: no test may reach a real account."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(autouse=True, scope="session")
def _botocore_reads_its_models_once() -> None:
    share_models()


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """librdkafka's built-in cluster, one for the run: quick, and no Kafka to judge by (see its module)."""
    with EmbeddedBroker.start({}) as broker:
        yield broker


@pytest.fixture(scope="session")
def real_kafka(pytestconfig: pytest.Config) -> str:
    """Bootstrap servers of a real Apache Kafka, one for the run; skips the test when there is none (fails it in CI)."""
    return pytestconfig.stash[_POLICY].bootstrap_servers()


@pytest.fixture
def local_kafka_factory(pytestconfig: pytest.Config) -> Iterator[LocalKafkaFactory]:
    """Real brokers of the test's own, to stop, kill and restart; skips the test like real_kafka."""
    with ExitStack() as brokers:

        def start(settings: Mapping[str, str] | None = None) -> LocalKafka:
            kafka = pytestconfig.stash[_POLICY].new_local(settings)
            brokers.callback(kafka.close)
            return kafka

        yield start


@pytest.fixture(scope="session", params=["embedded", "real"])
def kafka_bootstrap(request: pytest.FixtureRequest) -> str:
    """Bootstrap servers of either broker: the test runs once on each."""
    if request.param == "real":
        return str(request.getfixturevalue("real_kafka"))
    broker: EmbeddedBroker = request.getfixturevalue("embedded_broker")
    return broker.bootstrap_servers


@pytest.fixture
def new_topic(request: pytest.FixtureRequest, kafka_bootstrap: str) -> Iterator[NewTopic]:
    """Topics on the broker of kafka_bootstrap, deleted after the test (the embedded one keeps them: it cannot)."""
    created: list[str] = []

    def create(stem: str = "test", *, partitions: int = 1) -> str:
        name = topics.unique_name(stem)
        if request.node.callspec.params["kafka_bootstrap"] == "real":
            topics.create_topic(kafka_bootstrap, name, partitions=partitions)
            created.append(name)
        else:
            broker: EmbeddedBroker = request.getfixturevalue("embedded_broker")
            broker.create_topic(name, partitions)
        return name

    yield create
    if created:
        topics.delete_topics(kafka_bootstrap, created)
