"""Too few open files for the destinations."""

from __future__ import annotations

from pushrail_stream.core.signals import RegistryChanged, RegistryTrouble, SettingCaveat, Signal
from pushrail_stream.observe.open_files import OpenFiles


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


def test_too_few_open_files_are_reported_with_numbers_when_the_destinations_are_read_and_when_they_grow() -> None:
    said = Said()
    files = OpenFiles(said, limit=1_024, per_destination=8)
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


def test_a_process_without_a_limit_is_told_nothing() -> None:
    said = Said()
    OpenFiles(said, limit=None, per_destination=256)(changed(100_000))
    assert said.caveats == []


def test_other_signals_are_passed_on() -> None:
    said = Said()
    OpenFiles(said, limit=1, per_destination=1)(RegistryTrouble("away"))
    assert said.others == [RegistryTrouble("away")]
    assert said.caveats == []
