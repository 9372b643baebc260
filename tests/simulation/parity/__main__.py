"""Tell stories on a real Kafka: ``python -m tests.simulation.parity [--record] [WORD ...]`` (words in their names)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack

from tests.simulation.parity.recorded import record
from tests.simulation.parity.stories import STORIES
from tests.simulation.parity.telling import tell_really
from tests.support.kafka.local import LocalKafka


def main() -> None:
    """Print what each story observed; with ``--record``, keep it as what the simulation must show."""
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    wanted = [story for name, story in STORIES.items() if not words or any(word in name for word in words)]
    begun = time.monotonic()
    with ExitStack() as brokers:

        def start(settings: Mapping[str, str]) -> LocalKafka:
            return brokers.enter_context(LocalKafka(settings))

        found = tell_really(start, wanted)
    for name, (notes, secs) in found.items():
        print(f"\n== {name} ({secs:.1f} s)", *notes, sep="\n  ")
        if "--record" in sys.argv and not notes[-1].startswith("FAILED"):
            record(name, notes)
    print(f"\n{len(found)} stories in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
