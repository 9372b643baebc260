"""An observer that fails hurts no other; too few open files are a caveat."""

from __future__ import annotations

import io

from pushrail_stream.core.signals import KafkaTrouble, RegistryChanged, RegistryTrouble, SettingCaveat, Signal
from pushrail_stream.observe.fan_out import FanOut, OpenFiles
from pushrail_stream.observe.log_observer import LogObserver
from pushrail_stream.observe.logging import open_log
from tests.support.pipeline_world import Seen
from tests.support.signals import BrokenPipe, lines


def fail(signal: Signal) -> None:
    raise RuntimeError(f"cannot cope with {signal}")


def fail_too(signal: Signal) -> None:
    raise KeyError(type(signal).__name__)


def test_all_observers_see_every_signal_in_order() -> None:
    first, second = Seen(), Seen()
    observe = FanOut([first, second], open_log("info", stream=io.StringIO()))
    signals = [KafkaTrouble(str(n)) for n in range(3)]
    for signal in signals:
        observe(signal)
    assert first == second == signals


def test_an_observers_exception_is_logged_once() -> None:
    stream, seen = io.StringIO(), Seen()
    observe = FanOut([fail, fail_too, seen], open_log("info", stream=stream))
    for n in range(100):
        observe(KafkaTrouble(str(n)))
    assert len(seen) == 100
    assert [(line["event"], line["error"]) for line in lines(stream)] == [
        ("observer_failed", "RuntimeError(\"cannot cope with KafkaTrouble(problem='0')\")"),
        ("observer_failed", "KeyError('KafkaTrouble')"),
    ]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    log, seen = open_log("info", stream=BrokenPipe()), Seen()
    observe = FanOut([LogObserver(log), fail, seen], log)
    observe(KafkaTrouble("down"))
    assert seen == [KafkaTrouble("down")]


def changed(destinations: int) -> RegistryChanged:
    return RegistryChanged((), (), destinations, 0)


class Said:
    """The caveats, and what else was passed on."""

    def __init__(self) -> None:
        self.caveats: list[SettingCaveat] = []
        self.others: list[Signal] = []

    def __call__(self, signal: Signal) -> None:
        if isinstance(signal, SettingCaveat):
            self.caveats.append(signal)
        else:
            self.others.append(signal)


def test_too_few_open_files_are_a_caveat_that_grows() -> None:
    said = Said()
    files = OpenFiles(said, limit=1_024, max_in_flight=8)
    files(changed(103))
    assert said.caveats == []
    files(changed(104))
    [caveat] = said.caveats
    assert caveat.setting == "ulimit -n"
    for number in ("may open 1024 files", "104 destinations", "8 calls in flight", "needs 1032"):
        assert number in caveat.problem
    files(changed(105))
    assert len(said.caveats) == 1, "one destination more is no news"
    files(changed(130))
    assert len(said.caveats) == 2
    files(changed(10))
    files(changed(130))
    assert len(said.caveats) == 3, "after it had been enough"
    assert said.others == [changed(n) for n in (103, 104, 105, 130, 10, 130)]


def test_grown_windows_need_more_files() -> None:
    said = Said()
    files = OpenFiles(said, limit=1_024, max_in_flight=64)
    files(changed(71))
    assert said.caveats == []
    files(changed(72))
    [caveat] = said.caveats
    for number in ("72 destinations with 8 calls", "256 calls beside these", "needs 1032"):
        assert number in caveat.problem


def test_an_unlimited_process_has_no_caveat() -> None:
    said = Said()
    OpenFiles(said, limit=None, max_in_flight=256)(changed(100_000))
    assert said.caveats == []


def test_other_signals_are_passed_on() -> None:
    said = Said()
    OpenFiles(said, limit=1, max_in_flight=1)(RegistryTrouble("away"))
    assert said.others == [RegistryTrouble("away")]
    assert said.caveats == []
