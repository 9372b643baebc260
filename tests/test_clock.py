"""A worker's clock, and a machine's clock that jumps."""

from __future__ import annotations

import pytest

from pushrail_stream.clock import SteadyClock

START = 1_790_000_000.0
DAY = 86_400.0


class Machine:
    """A machine's clocks. Time passes when it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.secs = 5_000.0
        self.ahead_secs = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.secs)
        monkeypatch.setattr("time.time_ns", lambda: round((START + self.secs + self.ahead_secs) * 1e9))
        self.clock = SteadyClock()

    def ahead(self, secs: float = 0.0) -> float:
        """Seconds by which the worker's clock is ahead of the true time, after some time."""
        self.secs += secs
        return self.clock.now_ms() / 1000 - START - self.secs


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_it_follows_the_machine(machine: Machine) -> None:
    assert machine.ahead() == pytest.approx(0.0)
    for _ in range(20):
        machine.ahead_secs += 0.4
        assert machine.ahead(60.0) == pytest.approx(machine.ahead_secs), "the clock is set right in small steps"


@pytest.mark.parametrize("jump", [DAY, -DAY, 30.0])
def test_a_jump_that_is_set_right_changes_nothing(machine: Machine, jump: float) -> None:
    machine.ahead(100.0)
    machine.ahead_secs = jump
    assert machine.ahead(1.0) == pytest.approx(0.0)
    assert machine.ahead(500.0) == pytest.approx(0.0)
    machine.ahead_secs = 0.0
    assert machine.ahead(1.0) == pytest.approx(0.0)
    machine.ahead_secs = jump
    assert machine.ahead(500.0) == pytest.approx(0.0), "this is a new jump"


def test_a_time_that_the_machine_keeps_counts(machine: Machine) -> None:
    machine.ahead(100.0)
    machine.ahead_secs = DAY
    machine.ahead(1.0)
    assert machine.ahead(599.0) == pytest.approx(0.0)
    assert machine.ahead(1.0) == pytest.approx(DAY)
    assert machine.ahead(1.0) == pytest.approx(DAY)


def test_a_machine_that_has_just_started_sets_its_clock(machine: Machine) -> None:
    machine.ahead_secs = DAY
    assert machine.ahead(59.0) == pytest.approx(DAY)
