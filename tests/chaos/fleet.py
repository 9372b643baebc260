"""The workers: real processes by the command line, replaced when they are killed, watched for an end of their own."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from tests.chaos.clock import now
from tests.chaos.disturbances import Disturbances
from tests.chaos.owned import Owned
from tests.chaos.world import SECRET, SECRET_VARIABLE, worker_key
from tests.support.ports import free_port

FEWEST: Final = 3
MOST: Final = 4
"""Workers at once, those that are ending not counted among the fewest."""
END_SECS: Final = 30.0
"""A worker that was asked to end has ended by then (deploy/OPERATING.md, "Stopping")."""


@dataclass
class Worker:
    """One worker process."""

    number: int
    port: int
    owned: Owned
    started_at: float
    stopped_at: float | None = None
    """When SIGSTOP was sent, if it is stopped now."""
    asked_at: float | None = None
    """When it was asked to end."""

    @property
    def is_free(self) -> bool:
        """Whether something can be done to it."""
        return self.stopped_at is None and self.asked_at is None


@dataclass
class Fleet:
    """All workers there are, and what became of those there were."""

    config: Path
    folder: Path
    disturbances: Disturbances
    workers: list[Worker] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    logs: dict[int, Path] = field(default_factory=dict)
    """Of all workers there ever were, by number."""
    started: int = 0
    kills: int = 0
    terminations: int = 0
    stops: int = 0
    failed_starts: int = 0
    handovers: list[float] = field(default_factory=list)
    """The moments (epoch seconds) at which a worker was started, killed, stopped or asked to end."""

    def start(self) -> Worker:
        """One more worker."""
        self.started += 1
        number, port = self.started, free_port()
        environment = {
            "AWS_ACCESS_KEY_ID": worker_key(number),
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            SECRET_VARIABLE: SECRET,
            "PUSHRAIL_HTTP__PORT": str(port),
        }
        command = [sys.executable, "-m", "pushrail_stream", "run", "--config", str(self.config), "--json"]
        owned = Owned(command, self.folder / f"worker-{number:03}.log", environment)
        worker = Worker(number, port, owned, now())
        self.workers.append(worker)
        self.handovers.append(worker.started_at)
        self.logs[number] = owned.log
        return worker

    def pick(self, share: float) -> Worker | None:
        """One of the workers that run freely."""
        free = [worker for worker in self.workers if worker.is_free]
        return free[int(share * len(free))] if free else None

    def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        at = now()
        self.handovers.append(at)
        worker.owned.kill()
        self.workers.remove(worker)
        self.disturbances.killed(worker.number, at, now())
        self.kills += 1

    def terminate(self, worker: Worker) -> None:
        """SIGTERM: it is to drain, commit and exit 0 by itself."""
        worker.asked_at = now()
        self.handovers.append(worker.asked_at)
        worker.owned.send(signal.SIGTERM)
        self.terminations += 1

    def stop(self, worker: Worker) -> None:
        """SIGSTOP."""
        worker.stopped_at = now()
        self.handovers.append(worker.stopped_at)
        worker.owned.send(signal.SIGSTOP)
        self.stops += 1

    def resume(self, worker: Worker) -> None:
        """SIGCONT."""
        if worker.stopped_at is not None:
            worker.owned.send(signal.SIGCONT)
            self.disturbances.stopped(worker.number, worker.stopped_at, now())
            worker.stopped_at = None

    def look(self) -> int:
        """See who has ended; how many ended that are to be replaced."""
        missing = 0
        for worker in list(self.workers):
            code = worker.owned.ended()
            if code is not None:
                self.workers.remove(worker)
                missing += self._ended(worker, code)
            elif worker.asked_at is not None and now() - worker.asked_at > END_SECS:
                self.problems.append(f"worker {worker.number} had not ended {END_SECS:.0f} s after SIGTERM")
                self.kill(worker)
        return missing

    def end(self) -> None:
        """Ask all workers to end, and wait until they have."""
        for worker in self.workers:
            self.resume(worker)
            if worker.asked_at is None:
                self.terminate(worker)
        while self.workers:
            self.workers[0].owned.wait(0.2)
            self.look()

    def note_losses(self) -> int:
        """Look through the logs for memberships that ended without anything having been done; how many there were."""
        return sum(
            self.disturbances.lost(number, at) for number, log in self.logs.items() for at in lost_at(log.read_text())
        )

    def kill_all(self) -> None:
        """No worker is left, whatever happened."""
        while self.workers:
            self.workers.pop().owned.kill()

    def _ended(self, worker: Worker, code: int) -> bool:
        tail = worker.owned.tail(3)
        if worker.asked_at is not None:
            was_starting = code == -signal.SIGTERM and not tail
            if code != 0 and not was_starting:
                self.problems.append(f"worker {worker.number} exited with {code} after SIGTERM: {tail}")
            return False
        if code == 1 and "cannot be reached" in tail and self.disturbances.broker_was_away(worker.started_at, now()):
            self.failed_starts += 1  # it reports so and ends: its supervisor starts it again
        else:
            self.problems.append(f"worker {worker.number} ended by itself with code {code}: {tail}")
        return True


def lost_at(log: str) -> list[float]:
    """When a worker was told that it had lost partitions, epoch seconds, by its log."""
    lines = [json.loads(line) for line in log.splitlines() if '"partitions_lost"' in line]
    return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
