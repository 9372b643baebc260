"""A member of a group in a process of its own: ``python -m tests.simulation.parity.elsewhere PROPERTIES TOPIC``."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from confluent_kafka import Consumer


def main() -> NoReturn:
    """Read until killed."""
    consumer = Consumer(json.loads(sys.argv[1]))
    consumer.subscribe([sys.argv[2]])
    while True:
        consumer.poll(0.1)


if __name__ == "__main__":
    main()
