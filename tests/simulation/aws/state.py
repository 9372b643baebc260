"""The state of AWS that its services share."""

from __future__ import annotations

from random import Random

from tests.simulation.aws.accounts import Accounts
from tests.simulation.aws.faults import Faults
from tests.simulation.aws.quotas import Quotas
from tests.simulation.aws.records import Arrival, Call
from tests.simulation.history import History
from tests.simulation.scheduler import Scheduler
from tests.simulation.substitution import EPOCH


class State:
    """Accounts, quotas and faults, and what has happened so far."""

    def __init__(self, scheduler: Scheduler, dice: Random, history: History) -> None:
        self.scheduler = scheduler
        self.dice = dice
        self.note = history.note
        self.count = history.count_fault
        self.accounts = Accounts(dice)
        self.quotas = Quotas()
        self.faults = Faults(dice)
        self.arrivals: list[Arrival] = []
        """Every entry that a bus took, in order."""
        self.calls: list[Call] = []
        """Every request that reached AWS, in order."""
        self.epoch = EPOCH
        """AWS's wall clock at virtual second 0, in epoch seconds."""
        self._ids = 0

    def clock(self) -> float:
        """AWS's wall clock, in epoch seconds."""
        return self.epoch + self.scheduler.now

    def new_id(self) -> str:
        """A unique id in the form of a UUID. Counted, since nothing depends on its bits."""
        self._ids += 1
        return f"51a0c10d-0000-4000-8000-{self._ids:012x}"
