"""One chaos run, from the first event to the verdict."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pushrail_stream.kafka.topics import create_topics, plan_topics
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.chaos.arrivals import Arrivals
from tests.chaos.broker import Broker
from tests.chaos.bus import Bus
from tests.chaos.clock import now
from tests.chaos.commits import Commits
from tests.chaos.conductor import Conductor
from tests.chaos.copies import read_copies
from tests.chaos.disturbances import Disturbances
from tests.chaos.drain import Drain, Lag
from tests.chaos.duplicates import Audit, Duplicates, Evidence
from tests.chaos.faults import DENIALS, plan_faults
from tests.chaos.fleet import FEWEST, Fleet
from tests.chaos.history import History, read_history
from tests.chaos.options import Options
from tests.chaos.producer import Production
from tests.chaos.schedule import plan_actions
from tests.chaos.scrape import Scraper, is_ready
from tests.chaos.verdict import Letters, Problems, find_lost, find_uncalled_for, find_unproven
from tests.chaos.world import (
    GROUP,
    PARTITIONS,
    RETRY_GROUP,
    SECRET,
    SECRET_VARIABLE,
    TIERS,
    TOPICS,
    Place,
    World,
    write_settings,
)
from tests.support.kafka.local import LocalKafka

_STALLED_SECS: Final = 60.0
"""Seconds without any progress after which the run is given up."""
_LOOK_SECS: Final = 1.0
_IDLE_SECS: Final = 30.0
"""Seconds after the last commit by which calls for lost partitions have ended."""


class _GivenUpError(Exception):
    """The run cannot go on. The missing events are reported all the same."""


@dataclass
class Result:
    """Figures for machines, problems for people."""

    figures: dict[str, Any]
    problems: Problems


class Run:
    """A run in flight."""

    def __init__(self, options: Options, kafka: LocalKafka, folder: Path, say: Callable[[str], None]) -> None:
        self._options = options
        self._kafka = kafka
        self._folder = folder
        self._say = say
        self._world = World(options.seed, options.events, options.customers)
        self._disturbances = Disturbances()
        self._problems = Problems()
        self._started = 0.0
        """Epoch seconds of the moment from which the plans of disturbances and of faults count."""
        self._deadline = time.monotonic() + options.deadline_secs
        self._lags: list[Lag] | None = None
        self._missed: list[dict[str, Any]] = []
        self._handovers: tuple[float, ...] = ()

    def execute(self) -> Result:
        """Do it all. Everything that was started has ended when this returns or raises."""
        address = self._kafka.bootstrap_servers
        settings = Settings.model_validate({"topics": TOPICS | {"retry": TIERS}})
        create_topics(KafkaSettings(bootstrap_servers=address), plan_topics(settings, PARTITIONS), 1, dry_run=False)
        with ExitStack() as stack:
            bus = stack.enter_context(Bus.run(self._options, self._folder))
            fleet = self._fleet(stack, address, bus)
            broker = stack.enter_context(Broker(self._kafka, self._disturbances))
            production = Production(address, self._world, self._options.produce_secs)
            stack.callback(production.stop)
            scraper = Scraper(lambda: [worker for worker in fleet.workers if worker.is_free])
            scraper.start()
            stack.callback(scraper.stop)
            drain = stack.enter_context(Drain.open(address))
            self._start_workers(fleet)
            self._started = now()
            conductor = Conductor(fleet, broker, bus, self._say)
            phases = plan_faults(self._options.seed, self._world, self._options.produce_secs)
            conductor.plan(plan_actions(self._options), phases)
            self._play(conductor, bus, production, drain)
            self._wait_until_idle(conductor, scraper)
            scraper.stop()
            fleet.end()
            self._check_offsets(drain)
            audit = self._audit(fleet)
            deduplicated = bus.counts()["deduplicated"]
            arrivals, facts = bus.end()
        figures: dict[str, Any] = {"deduplicated": deduplicated}
        figures |= {"kills": fleet.kills, "broker_restarts": broker.restarts, "scrapes": scraper.checked}
        figures |= audit
        figures |= {"terminations": fleet.terminations, "stops": fleet.stops, "workers": fleet.started}
        figures["starved"] = fleet.note_losses()
        self._handovers = tuple(fleet.handovers)
        self._problems.add("Workers", fleet.problems)
        self._problems.add("Accounts that do not balance", scraper.problems)
        self._check_done(fleet, broker, scraper)
        return self._judge(arrivals, facts, production, figures)

    def _fleet(self, stack: ExitStack, address: str, bus: Bus) -> Fleet:
        documents, config = self._folder / "destinations", self._folder / "pushrail.yaml"
        self._world.write_documents(documents)
        write_settings(config, address, bus.url, documents, self._options.group_protocol)
        fleet = Fleet(config, self._folder, self._disturbances)
        stack.callback(fleet.kill_all)
        return fleet

    def _start_workers(self, fleet: Fleet) -> None:
        """Start the first workers, and wait until all take events. Otherwise the first denial could end unnoticed."""
        for _ in range(FEWEST):
            fleet.start()
        waiting = list(fleet.workers)
        while waiting and time.monotonic() < self._deadline:
            time.sleep(_LOOK_SECS)
            waiting = [worker for worker in waiting if worker.owned.ended() is None and not is_ready(worker)]

    def _play(self, conductor: Conductor, bus: Bus, production: Production, drain: Drain) -> None:
        """The disturbed part, then the wait for everything to be settled."""
        options, world = self._options, self._world

        def progress() -> str:
            arrived = bus.counts()["arrivals"]
            return f"{production.acknowledged:,} of {world.events:,} produced, {arrived:,} arrived"

        def produced() -> bool:
            if time.monotonic() > self._deadline:
                raise _GivenUpError(f"events were still being produced after {options.deadline_secs:.0f} s")
            if production.problem is not None:
                raise _GivenUpError(production.problem)
            return production.done

        conductor.tell = progress
        production.start()
        try:
            conductor.run(produced)
        except _GivenUpError as error:
            self._problems.add("The run", [str(error)])
            return
        conductor.calm()
        self._say(f"{conductor.elapsed:5.0f} s  no more faults; waiting until everything has settled")
        self._wait(conductor, bus, drain)

    def _wait(self, conductor: Conductor, bus: Bus, drain: Drain) -> None:
        moved_at, before, look_at = time.monotonic(), (0, ""), 0.0

        def drained() -> bool:
            nonlocal moved_at, before, look_at
            if time.monotonic() < look_at:
                return False
            look_at = time.monotonic() + _LOOK_SECS
            self._lags = drain.lags()
            state = bus.counts()["arrivals"], str(self._lags)
            if state != before:
                moved_at, before = time.monotonic(), state
            if self._lags == []:
                return True
            if time.monotonic() > min(self._deadline, moved_at + _STALLED_SECS):
                self._problems.add("The run", [f"not drained: nothing moved for {time.monotonic() - moved_at:.0f} s"])
                return True
            return False

        conductor.run(drained)

    def _wait_until_idle(self, conductor: Conductor, scraper: Scraper) -> None:
        """Everything is committed: no worker may count anything as in flight for long."""
        if self._lags != []:
            return
        until = time.monotonic() + _IDLE_SECS
        conductor.run(lambda: not scraper.busy() or time.monotonic() > until)
        self._problems.add("Workers with something in flight when all is settled", scraper.busy())

    def _check_offsets(self, drain: Drain) -> None:
        """Once more when all workers have ended: none of them may have taken anything back."""
        lags = drain.lags()
        if lags is None:
            self._problems.add("The run", ["Kafka does not answer at the end"])
        self._problems.add("Partitions not committed to their end", [str(lag) for lag in lags or ()])

    def _audit(self, fleet: Fleet) -> dict[str, int]:
        """The figures of `pushrail-stream check`, which knows nothing of this run.

        Without a kill no delivery may be missing. With kills each missing one is searched at the bus in the end.
        """
        command = [sys.executable, "-m", "pushrail_stream", "check", "--since", "1d", "--json"]
        done = subprocess.run(
            [*command, "--config", str(self._folder / "pushrail.yaml")],
            capture_output=True, text=True, check=False, timeout=600, env=os.environ | {SECRET_VARIABLE: SECRET},
        )  # fmt: skip
        try:
            told = json.loads(done.stdout)
        except ValueError:
            self._problems.add("The auditor", [f"exit code {done.returncode}", *done.stderr.splitlines()])
            return {}
        deliveries = told["deliveries"]
        if deliveries["pending"]:
            self._problems.add("The auditor", [f"{deliveries['pending']} deliveries are pending when all is settled"])
        self._missed = [*told["missing"], *told["tooNew"]]
        if not fleet.kills:
            self._problems.add("Missed by the auditor without a kill", map(str, self._missed))
        if told["events"] != self._world.events:
            self._problems.add("The auditor", [f"{told['events']} events were found of {self._world.events}"])
        return {f"audit_{name}": count for name, count in deliveries.items()}

    def _check_done(self, fleet: Fleet, broker: Broker, scraper: Scraper) -> None:
        options = self._options
        if (fleet.kills, broker.restarts) < (options.kills, options.broker_restarts):
            self._problems.add("The run", [f"only {fleet.kills} kills and {broker.restarts} broker restarts were made"])
        # A third of all scrapes is enough: meanwhile workers start, are stopped, or are slow.
        if scraper.checked < options.produce_secs * FEWEST / 3:
            self._problems.add("The run", [f"only {scraper.checked} scrapes were answered"])

    def _judge(
        self,
        arrivals: Arrivals,
        facts: dict[str, list[str]],
        production: Production,
        figures: dict[str, Any],
    ) -> Result:
        self._say("Reading what the workers wrote to Kafka ...")
        world, address = self._world, self._kafka.bootstrap_servers
        denied, malformed = frozenset(facts["denied"]), frozenset(facts["malformed"])
        suspensions = [(self._started + denial.start, self._started + denial.resumed_at) for denial in DENIALS]
        letters = Letters(world, suspensions, denied, malformed, TOPICS["events"])
        copies = list(read_copies(address, TOPICS["dlq"]))
        for letter in copies:
            letters.take(letter)
        for tier in TIERS:
            copies += read_copies(address, tier)
        commits = Commits.read(address, (GROUP, RETRY_GROUP))
        figures["commits_with_cursors"] = commits.with_cursors
        figures["handovers_with_cursors"] = sum(commits.cursors_at(moment) > 0 for moment in self._handovers)
        audit = Audit(world, Evidence(arrivals, copies, commits, self._disturbances, production.position))
        suspects = audit.suspects()
        history = read_history(address, suspects) if suspects else History([], {})
        audit.note_unanswered(history.unanswered)
        duplicates = audit.finish()
        delivered, dead, lost = find_lost(audit, letters)
        self._problems.add("Lost", lost)
        self._problems.add("Missed by the auditor", find_unproven(self._missed, audit, world, production.position))
        self._problems.add("Dead letters without a reason", letters.problems)
        self._problems.add("Arrivals that are not what was produced", facts["strange"])
        self._problems.add("Arrivals that must not be", find_uncalled_for(audit, world))
        self._problems.add("Duplicates without a reason", duplicates.unexplained)
        resumed = self._resumed(arrivals, production)
        missing = [place.id for place in world.denied if place not in resumed]
        self._problems.add("Denied, and no event taken of those produced long after", missing)
        figures |= {"delivered": delivered, "dead_lettered": dead, "lost": len(lost)}
        # Delivered, repeated after a kill, and refused then.
        figures["delivered_and_dead_lettered"] = len(letters.deliveries) - dead
        figures["retried"] = len(copies) - letters.reasons.total()
        figures |= {name: letters.reasons[name] for name in ("blocked", "suspended")} | {"resumed": len(resumed)}
        if self._problems.by_kind:
            lines = [*self._problems.shown(None), "", *self._disturbances.told(), "", *history.lines]
            (self._folder / "problems.txt").write_text("\n".join(lines))
        return Result(self._figures(figures, duplicates, arrivals, production), self._problems)

    def _resumed(self, arrivals: Arrivals, production: Production) -> set[Place]:
        """The destinations that were denied and then accepted the events of the time in between."""
        customer_of, since, until = self._world.customer_of, DENIALS[0].resumed_at, DENIALS[1].start
        taken = {
            Place(customer_of[number], slot)
            for number, slot in zip(arrivals.numbers, arrivals.slots, strict=True)
            if since < production.produced_at[number] - self._started < until
        }
        return taken.intersection(self._world.denied)

    def _figures(
        self, counted: dict[str, Any], duplicates: Duplicates, arrivals: Arrivals, production: Production
    ) -> dict[str, Any]:
        options = self._options
        p50, p99 = _latencies(arrivals, production)
        return {
            "seed": options.seed,
            "events": options.events,
            "delivered": counted.pop("delivered"),
            "dead_lettered": counted.pop("dead_lettered"),
            "lost": counted.pop("lost"),
            "duplicates": duplicates.arrivals,
            "duplicates_share": round(duplicates.arrivals / len(arrivals), 5) if len(arrivals) else 0.0,
            "duplicates_classic": duplicates.classic,
            "duplicates_v2": duplicates.v2,
            "duplicates_bound": duplicates.bound,
            "duplicate_letters": duplicates.letters,
            "unknown_outcomes": duplicates.unknown,
            **counted,
            "p50_s": p50,
            "p99_s": p99,
            "secs": round(now() - self._started),
        }


def _latencies(arrivals: Arrivals, production: Production) -> tuple[float, float]:
    """Median and 99th percentile of the seconds from an event's production to its first arrival."""
    seen = bytearray(2 * len(production.produced_at))
    samples: list[float] = []
    for number, slot, received in zip(arrivals.numbers, arrivals.slots, arrivals.received, strict=True):
        if not seen[2 * number + slot]:
            seen[2 * number + slot] = 1
            samples.append(received - production.produced_at[number])
    if len(samples) < 2:
        return 0.0, 0.0
    cuts = statistics.quantiles(samples, n=100)
    return round(cuts[49], 3), round(cuts[98], 3)
