"""A member of a group in a process of its own: ``python -m tests.simulation.parity.elsewhere PROPERTIES TOPIC``."""

from __future__ import annotations

import json
import sys
from functools import partial

from confluent_kafka import Consumer

from tests.simulation.parity.clients import live_elsewhere

if __name__ == "__main__":
    live_elsewhere(Consumer(json.loads(sys.argv[1])), sys.argv[2], partial(print, flush=True))
