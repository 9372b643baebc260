"""The bus process and its control."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pushrail_stream.sandbox.bus.faults import Rule, rules_to_json
from tests.chaos.arrivals import Arrivals
from tests.chaos.options import Options
from tests.chaos.owned import Owned

_ANSWER_SECS: Final = 30.0
"""Patient: on a busy machine the bus answers its control when its calls let it."""
_SAVE_SECS: Final = 120.0


class Bus:
    """The running bus, seen from outside."""

    def __init__(self, owned: Owned, folder: Path) -> None:
        self._owned = owned
        self._folder = folder
        announced = owned.first_line()
        if not announced:
            raise RuntimeError(f"the bus did not start:\n{owned.tail()}")
        self.url = str(json.loads(announced)["url"])

    @classmethod
    @contextmanager
    def run(cls, options: Options, folder: Path) -> Iterator[Bus]:
        """A bus for the length of the block."""
        kept = folder / "arrived"
        kept.mkdir()
        arguments = [str(kept), str(options.seed), str(options.events), str(options.customers)]
        owned = Owned([sys.executable, "-m", "tests.chaos.bus_process", *arguments], folder / "bus.log")
        try:
            yield cls(owned, kept)
        finally:
            if owned.ended() is None:
                owned.kill()

    def set_plan(self, rules: Iterable[Rule]) -> None:
        """Put a plan in force."""
        self._ask("plan", "PUT", json.dumps(rules_to_json(list(rules))).encode())

    def counts(self) -> dict[str, int]:
        """The bus's counters."""
        counts: dict[str, int] = self._ask("counts", "GET")
        return counts

    def end(self) -> tuple[Arrivals, dict[str, list[str]]]:
        """Stop it; what arrived, and the facts it noted beside (see `bus_process.Sieve`)."""
        self._owned.send(signal.SIGTERM)
        if self._owned.wait(_SAVE_SECS) != 0:
            raise RuntimeError(f"the bus did not end well:\n{self._owned.tail()}")
        facts: dict[str, list[str]] = json.loads((self._folder / "facts.json").read_text())
        return Arrivals.load(self._folder), facts

    def _ask(self, path: str, method: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self.url}/_bus/{path}", body, method=method)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=_ANSWER_SECS) as reply:  # noqa: S310 - loopback
            return json.load(reply)
