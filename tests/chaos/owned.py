"""A process of the harness's own: ended by its id and by nobody else, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Owned:
    """A running process. It ends with this one, however this one ends."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it. Its standard error goes to ``log``, and its standard output is a pipe."""
        self.log = log
        with log.open("ab") as errors:
            # A session of its own: an interrupt from the terminal is for the harness, which then ends the process.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | dict(environment or {}),
                start_new_session=True,
                text=True,
            )
        # Holds the reading end of a pipe whose writing end only this process has: when this one is killed it closes.
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", 'cat >/dev/null; kill -9 "$1"', "sh", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def first_line(self) -> str:
        """The line that it announces when it is ready; empty when it ended instead."""
        if self.process.stdout is None:
            raise RuntimeError("the process was started with a pipe")
        return self.process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self) -> int | None:
        """Its exit code once it has ended; None while it runs."""
        code = self.process.poll()
        if code is not None:
            self._release()
        return code

    def kill(self) -> None:
        """End it as a crash does, stopped or not."""
        self.process.kill()
        self.process.wait()
        self._release()

    def wait(self, within_secs: float) -> int | None:
        """Its exit code; None when it has not ended in time."""
        try:
            self.process.wait(within_secs)
        except subprocess.TimeoutExpired:
            return None
        return self.ended()

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _release(self) -> None:
        if self._watcher.poll() is None:
            self._watcher.kill()
            self._watcher.wait()
        for pipe in (self._watcher.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
