"""``make chaos``: kill, stop and starve real workers, and count. The last line is JSON; the problems precede it."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.options import Options
from tests.chaos.run import Run
from tests.support.kafka import distribution
from tests.support.kafka.local import LocalKafka


def main() -> int:
    """Exit code: 0 when every check held."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its end ends the processes that it started
    say(f"Seed {options.seed}; --seed {options.seed} repeats faults and schedule. Takes {options.produce_secs:.0f} s.")
    folder = Path(tempfile.mkdtemp(prefix="pushrail-chaos-"))
    keep = True
    try:
        with LocalKafka(options.broker_properties) as kafka:
            result = Run(options, kafka, folder, say).execute()
        keep = bool(result.problems.by_kind)
        for line in result.problems.shown():
            say(line)
        print(json.dumps(result.figures), flush=True)
    except distribution.DistributionMissingError as error:
        keep = False
        say(f"error: {error}. Install Java 17 + Maven: chaos restarts a broker of its own.")
        return 1
    except KeyboardInterrupt:
        keep = False
        return 130
    finally:
        if keep:
            say(f"The logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if result.problems.by_kind else 0


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make chaos ARGS='...'", description=__doc__)
    parser.add_argument("--events", type=int, default=Options.events)
    parser.add_argument("--kills", type=int, default=Options.kills, help="workers killed with SIGKILL")
    parser.add_argument("--broker-restarts", type=int, default=Options.broker_restarts)
    parser.add_argument(
        "--group-protocol", choices=["classic", "consumer"], default=Options.group_protocol,
        help="the workers' (consumer: KIP-848)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--secs", type=float, help="fail when it takes longer")
    given = parser.parse_args()
    return Options(
        given.seed, given.events, given.kills, given.broker_restarts, given.secs, group_protocol=given.group_protocol
    )


def say(line: str) -> None:
    """For people."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
