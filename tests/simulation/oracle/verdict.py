"""The verdict on a story: every assertion, asked about all evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from tests.simulation.oracle.abandoned import find_abandoned
from tests.simulation.oracle.accounting import find_imbalance
from tests.simulation.oracle.attempts import find_unrecorded, find_untrue_attempts
from tests.simulation.oracle.blame import find_hopeless_retries, find_wrong_blame
from tests.simulation.oracle.buffers import find_excess
from tests.simulation.oracle.buses import find_swallowed
from tests.simulation.oracle.checks import find_wrong_reports
from tests.simulation.oracle.commits import find_dropped, find_unsettled
from tests.simulation.oracle.copies import find_corrupt_arrivals, find_unmarked_replays, find_untrue_copies
from tests.simulation.oracle.credentials import find_old_credentials
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.doubles import find_doubles
from tests.simulation.oracle.errors import find_errors
from tests.simulation.oracle.evidence import Violation
from tests.simulation.oracle.flood import find_wrong_stops
from tests.simulation.oracle.forgotten import find_forgotten
from tests.simulation.oracle.hold import find_held, find_long_calls
from tests.simulation.oracle.isolation import find_waits
from tests.simulation.oracle.missing import find_unbelieved, find_unwatched
from tests.simulation.oracle.nothing_lost import find_lost
from tests.simulation.oracle.probes import find_wrong_probes
from tests.simulation.oracle.regions import find_crowded_regions
from tests.simulation.oracle.repeats import find_repeats
from tests.simulation.oracle.secrets import find_secrets
from tests.simulation.oracle.settled import find_unfinished
from tests.simulation.oracle.shown import find_untrue_states
from tests.simulation.oracle.starving import find_starving
from tests.simulation.oracle.tiers import find_early_retries, find_wrong_steps
from tests.simulation.oracle.turns import find_climbed
from tests.simulation.oracle.untold import find_untold
from tests.simulation.oracle.versions import find_old_versions
from tests.simulation.oracle.windows import find_unslowed

ASSERTIONS: Final[tuple[Callable[[Deliveries], Iterable[Violation]], ...]] = (
    find_errors, find_lost, find_unsettled, find_repeats, find_wrong_blame, find_waits, find_imbalance,
    find_untrue_attempts, find_untrue_copies, find_corrupt_arrivals, find_wrong_reports, find_excess, find_unfinished,
    find_secrets, find_held, find_wrong_probes, find_unmarked_replays, find_wrong_stops, find_swallowed,
    find_wrong_steps, find_early_retries, find_unrecorded, find_hopeless_retries, find_abandoned,
    find_old_credentials, find_long_calls, find_untrue_states, find_old_versions,
    find_unbelieved, find_unwatched, find_unslowed, find_dropped, find_starving, find_crowded_regions,
    find_forgotten, find_climbed, find_untold, find_doubles,
)  # fmt: skip
"""Each finds the violations of one promise. A new one is a function in a file of its own, a line here, and a test."""
_MOST: Final = 20
"""Violations of one assertion that are told: the first ones explain the others."""


def judge(story: Deliveries) -> list[Violation]:
    """The violations in a story that has ended, at most `_MOST` of each assertion."""
    return [violation for find in ASSERTIONS for violation in islice(find(story), _MOST)]
